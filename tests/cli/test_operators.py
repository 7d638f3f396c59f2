"""Operators' commands: what they pass on, and how they exit."""

import json
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backing_services import free_port
from fleek.cli.report import write
from fleek.cli.screen import Screen
from fleek.diagnosis import Finding

HEAVY = ("fastapi", "sqlalchemy", "PIL", "httpx2", "uvicorn", "fleek.client", "fleek.schemas")


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the port of the service, which is free."""
    number = free_port()
    monkeypatch.setenv("API_PORT", str(number))
    return number


def loaded(*args: str) -> set[str]:
    """Return the heavy modules that a command loads."""
    code = f"import sys; from fleek.cli import run; run({args!r}); print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(HEAVY) & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("generate", "--help")])
def test_help_is_light(args: tuple[str, ...]) -> None:
    """Users and completion scripts run it often; the service's libraries take a second to load."""
    assert loaded(*args) == set()


def test_the_version_has_two_commands(fleek: Any) -> None:
    """`--version` is promised; `version` is a common guess."""
    first, second = fleek("--version"), fleek("version")

    assert first == second
    assert first.out.startswith("fleek ")
    assert first.code == 0


def test_without_a_command_the_help_is_shown(fleek: Any) -> None:
    """It is a usage error."""
    ended = fleek()

    assert ended.code == 2
    assert "generate" in ended.out + ended.err


def test_python_m_fleek_runs_the_command_line() -> None:
    """It needs no script on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "fleek", "--version"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert done.stdout.startswith("fleek ")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("serve", "--port", "99999"), "API_PORT"),
        (("serve", "--host", "0.0.0.0"), "API_HOST"),  # noqa: S104 - refused
    ],
)
def test_an_invalid_option_names_the_setting(
    fleek: Any, args: tuple[str, ...], named: str
) -> None:
    """Options override settings and are checked like them."""
    ended = fleek(*args)

    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert named in ended.err


@pytest.mark.parametrize("command", [("worker",), ("migrate",), ("doctor",), ("config", "show")])
def test_an_invalid_setting_is_exit_2(
    fleek: Any, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """One line that names it, and no traceback."""
    monkeypatch.setenv("MAX_RETRY_ATTEMPTS", "many")

    ended = fleek(*command)

    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "MAX_RETRY_ATTEMPTS" in ended.err


def test_an_unreadable_env_file_is_exit_2(fleek: Any, tmp_path: Path) -> None:
    """An editor may save it in another encoding."""
    (tmp_path / ".env").write_bytes(b"API_PORT=\xff\xfe")

    ended = fleek("config", "show")

    assert ended.code == 2
    assert ".env" in ended.err


def test_migrate_creates_the_schema(fleek: Any, tmp_path: Path) -> None:
    """It prints the revision, also when there is nothing to do."""
    first, second = fleek("migrate"), fleek("migrate")

    assert first.code == 0
    assert first == second
    assert first.out.strip()
    assert (tmp_path / "fleek.db").exists()


def test_an_unopenable_database_is_exit_2(fleek: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the setting."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:////proc/nowhere/fleek.db")

    ended = fleek("migrate")

    assert ended.code == 2
    assert ended.err.startswith("fleek: DATABASE_URL")
    assert "Traceback" not in ended.err


def test_config_show_hides_secrets(fleek: Any, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """It also shows the settings of the adapters."""
    monkeypatch.setenv("DATABASE_URL", "postgres://me:hunter2@db/fleek")

    plain, as_json = fleek("config", "show"), fleek("config", "show", "--json")

    assert plain.code == 0
    assert "hunter2" not in plain.out + as_json.out
    lines = plain.out.splitlines()
    assert "DATABASE_URL=postgresql+asyncpg://me:***@db/fleek" in lines
    assert f"API_PORT={port}" in lines
    assert "JOB_DEADLINE=86400.0  (default)" in lines
    assert "REPLICATE_MOCK_DELAY_MIN=0.5  (default)" in lines
    assert "STORAGE_PATH=storage  (default)" in lines
    assert json.loads(as_json.out)["API_PORT"] == port


def test_config_shows_the_settings_of_every_provider(
    fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only those of the default provider."""
    monkeypatch.setenv("COG_URL", "http://127.0.0.1:5000")

    values = json.loads(fleek("config", "show", "--json").out)

    assert values["PROVIDERS"] == ["placeholder", "cog"]
    assert values["COG_URL"] == "http://127.0.0.1:5000"
    assert "REPLICATE_MOCK_DELAY_MIN" in values


def test_doctor_finds_no_problem_in_an_empty_folder(fleek: Any) -> None:
    """Before the first start everything is fine."""
    plain, as_json = fleek("doctor"), fleek("doctor", "--json")

    assert plain.code == as_json.code == 0
    assert "No problems found." in plain.out
    assert {finding["status"] for finding in json.loads(as_json.out)} == {"ok"}


def test_doctor_exits_1_after_an_error(fleek: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts see it in the exit code."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:////proc/nowhere/fleek.db")

    ended = fleek("doctor")

    assert ended.code == 1
    assert "Errors: 1, warnings: 0." in ended.out


def test_a_finding_is_shown_with_its_advice(capsys: pytest.CaptureFixture[str]) -> None:
    """The message alone does not help."""
    findings = [
        Finding("clock", "ok", "right"),
        Finding("disk", "warning", "little room", "make room"),
    ]

    write(Screen(), findings)

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        *("✓  clock  right", "!  disk   little room", "          → make room"),
        "Errors: 0, warnings: 1.",
    ]


def assert_refused(ended: Any, *words: str) -> None:
    """Assert exit code 2 and one line on stderr with these words."""
    assert ended.code == 2, ended
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("fleek: ")
    assert [word for word in words if word not in ended.err] == [], ended.err


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
        ("API_HOST", "0.0.0.0", ["API_HOST", "ALLOW_ANONYMOUS"]),  # noqa: S104 - refused
        ("API_KEYS", "one,two", ["API_KEYS"]),
        ("API_PORT", "0", ["API_PORT"]),
    ],
)
def test_serve_names_an_invalid_setting(
    fleek: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: list[str]
) -> None:
    """It also names the choices. API keys are not dropped silently."""
    Path("a-file").touch()
    monkeypatch.setenv(name, value)

    assert_refused(fleek("serve"), *words)


def test_serve_names_an_unreachable_postgresql(
    fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the address, but not its password."""
    port = free_port()
    monkeypatch.setenv("DATABASE_URL", f"postgresql://fleek:secret@127.0.0.1:{port}/fleek")

    ended = fleek("serve")

    assert_refused(ended, "DATABASE_URL", f"127.0.0.1:{port}")
    assert "secret" not in ended.err


@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_a_newer_schema_is_exit_2(fleek: Any, tmp_path: Path, command: str) -> None:
    """Older versions must not change a newer schema."""
    fleek("migrate")
    with closing(sqlite3.connect(tmp_path / "fleek.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")

    assert_refused(fleek(command), "DATABASE_URL", "9999", "newer")


def test_a_busy_port_is_exit_2(fleek: Any, tmp_path: Path, port: int) -> None:
    """The line names the setting to change; no database is created."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        assert_refused(fleek("serve"), f"API_PORT={port}", "in use")
    assert not (tmp_path / "fleek.db").exists()
