"""Unusable environments: a process ends with one line and exit code 2."""

import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from backing_services import free_port
from service_process import Process, Service, running, until


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a service that is not started."""
    with running(tmp_path) as opened:
        yield opened


def assert_refused(process: Process, *words: str) -> None:
    """Check that it ended with code 2 and one line with these words on stderr."""
    code = process.wait()
    said = process.log.read_text()
    assert code == 2, said
    lines = [line for line in said.splitlines() if not line.startswith("{")]  # not the log
    assert len(lines) == 1, said
    assert lines[0].startswith("fleek: ")
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    assert "Traceback" not in said


def test_an_invalid_setting(service: Service) -> None:
    """The log is JSON, the operator's line is not. All cases: `tests/cli/test_operators.py`."""
    process = service.start("serve", DISPATCH="pigeon")

    assert_refused(process, "DISPATCH", "pigeon", "embedded")


def test_a_worker_waits_for_a_missing_postgres(service: Service) -> None:
    """It logs the wait once, without the password, and keeps trying."""
    url = f"postgresql://fleek:secret@127.0.0.1:{free_port()}/fleek"

    process = service.start("worker", DATABASE_URL=url)

    until(lambda: "database_unreachable" in process.log.read_text(), why=process.tail)
    assert process.popen.poll() is None
    assert "secret" not in process.log.read_text()


def test_a_file_of_settings_is_read(service: Service) -> None:
    """``.env`` in the current folder is read, but the environment takes precedence."""
    port = free_port()
    (service.folder / ".env").write_text(f"API_PORT={port}\nDEFAULT_MODEL=a/b\nLOG_LEVEL=nonsense")

    process = service.serve(LOG_LEVEL="INFO")

    assert service.job(service.submit())["model_name"] == "a/b"
    assert service.port != port
    assert process.stop() == 0


WAITS: Final = re.compile(
    r"fleek: .*|.*(?:start_delayed|database_unreachable|worker_registered).*"
)


@pytest.mark.parametrize("number", [6, 8, 10])
def test_a_lack_of_file_descriptors_is_named(service: Service, number: int) -> None:
    """It may occur in an import, in migrations, or in SQLite, whose own message differs."""
    assert service.start("migrate").wait() == 0
    command = f'ulimit -n {number} && exec "$0" -m fleek worker'

    with subprocess.Popen(  # noqa: S603 - this project's program
        ["/bin/sh", "-c", command, sys.executable],
        cwd=service.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        said = next((line for line in child.stdout if WAITS.fullmatch(line.rstrip())), "")
        child.kill()

    assert "file descriptors" in said
