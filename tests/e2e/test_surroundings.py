"""A process that cannot work here says why in one line, and ends with exit code 2."""

import socket
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

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


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WORKER_CONCURRENCY", "many", ["WORKER_CONCURRENCY", "integer"]),
        ("DISPATCH", "pigeon", ["DISPATCH", "pigeon", "embedded"]),
        ("PROVIDERS", "acme", ["PROVIDERS", "acme", "placeholder"]),
        ("STORAGE_BACKEND", "tape", ["STORAGE_BACKEND", "tape", "local"]),
        ("STORAGE_PATH", "a-file/below", ["STORAGE_PATH", "a-file/below"]),
        ("DATABASE_URL", "nonsense", ["DATABASE_URL", "postgresql://"]),
        ("DATABASE_URL", "sqlite:///no/such/folder.db", ["DATABASE_URL", "no/such/folder.db"]),
        ("REPLICATE_MOCK_FAILURE_RATE", "2", ["REPLICATE_MOCK_FAILURE_RATE"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_setting(service: Service, name: str, value: str, words: list[str]) -> None:
    """The line names the setting, and where there is one, the choice."""
    (service.folder / "a-file").touch()

    process = service.start("serve", **{name: value})

    assert_refused(process, *words)


def test_postgres_that_is_not_there(service: Service) -> None:
    """The address is told, its password is not."""
    port = free_port()
    url = f"postgresql://fleek:secret@127.0.0.1:{port}/fleek"

    process = service.start("serve", DATABASE_URL=url)

    assert_refused(process, "DATABASE_URL", f"127.0.0.1:{port}")
    assert "secret" not in process.log.read_text()


def test_a_worker_waits_for_a_postgres_that_is_not_there(service: Service) -> None:
    """It says so once, without the password, and goes on trying."""
    url = f"postgresql://fleek:secret@127.0.0.1:{free_port()}/fleek"

    process = service.start("worker", DATABASE_URL=url)

    until(lambda: "database_unreachable" in process.log.read_text(), why=process.tail)
    assert process.popen.poll() is None
    assert "secret" not in process.log.read_text()


def test_a_schema_of_the_future(service: Service) -> None:
    """An old version must not touch what a newer one has made."""
    assert service.start("migrate").wait() == 0
    with closing(sqlite3.connect(service.folder / "fleek.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    process = service.start("serve")

    assert_refused(process, "DATABASE_URL", "9999", "newer")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"API_HOST": "0.0.0.0"}, ["API_HOST", "ALLOW_ANONYMOUS"]),  # noqa: S104 - refused
        ({"API_KEYS": "one,two"}, ["API_KEYS"]),
        ({"API_PORT": "0"}, ["API_PORT"]),
    ],
    ids=["open", "keys", "port"],
)
def test_an_api_that_would_be_open(
    service: Service, settings: dict[str, str], words: list[str]
) -> None:
    """Nobody opens their account to the world by mistake."""
    assert_refused(service.start("serve", **settings), *words)


def test_a_busy_port(service: Service) -> None:
    """The line names the setting to change."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()

        process = service.start("serve")

        assert_refused(process, f"API_PORT={service.port}", "in use")
    assert not (service.folder / "fleek.db").exists()


def test_a_file_of_settings_is_read(service: Service) -> None:
    """``.env`` in the current folder counts, and the environment wins over it."""
    port = free_port()
    (service.folder / ".env").write_text(f"API_PORT={port}\nDEFAULT_MODEL=a/b\nLOG_LEVEL=nonsense")

    process = service.serve(LOG_LEVEL="INFO")

    assert service.job(service.submit())["model_name"] == "a/b"
    assert service.port != port
    assert process.stop() == 0
