"""A process that cannot work here says why in one line, and ends with exit code 2."""

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
    """Give a service that is not started."""
    with running(tmp_path) as opened:
        yield opened


def assert_refused(process: Process, *words: str) -> None:
    """Make sure that it ended with code 2 and one line with these words on stderr."""
    code = process.wait()
    said = process.log.read_text()
    assert code == 2, said
    lines = [line for line in said.splitlines() if not line.startswith("{")]  # not the log's
    assert len(lines) == 1, said
    assert lines[0].startswith("fleek: ")
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    assert "Traceback" not in said


def test_a_wrong_setting(service: Service) -> None:
    """The log is JSON; the line for the operator is not. `tests/cli/test_operators.py` has them all."""
    process = service.start("serve", DISPATCH="pigeon")

    assert_refused(process, "DISPATCH", "pigeon", "embedded")


def test_a_worker_waits_for_a_postgres_that_is_not_there(service: Service) -> None:
    """It says so once, without the password, and goes on trying."""
    url = f"postgresql://fleek:secret@127.0.0.1:{free_port()}/fleek"

    process = service.start("worker", DATABASE_URL=url)

    until(lambda: "database_unreachable" in process.log.read_text(), why=process.tail)
    assert process.popen.poll() is None
    assert "secret" not in process.log.read_text()


def test_a_file_of_settings_is_read(service: Service) -> None:
    """``.env`` in the current folder counts, and the environment wins over it."""
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
def test_without_descriptors_it_names_them(service: Service, number: int) -> None:
    """Wherever the first one is missing: in an import, in the migrations, in SQLite, which does not say."""
    assert service.start("migrate").wait() == 0
    command = f'ulimit -n {number} && exec "$0" -m fleek worker'

    with subprocess.Popen(  # noqa: S603 - our own program
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
