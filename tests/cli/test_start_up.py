"""The modules that commands import, counted because time depends on the machine."""

import shutil
import signal
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import pytest

from backing_services import free_port

NOT_FOR_HELP: Final = {
    "aiohttp",
    "asyncio",
    "fastapi",
    "httpx2",
    "pydantic",
    "rich",
    "sqlalchemy",
    "uvicorn",
}
MOST_FOR_HELP: Final = 172
NOT_TO_SERVE: Final = {
    *("PIL", "aiohttp", "alembic", "asyncpg", "celery", "dramatiq", "mako", "obstore", "redis"),
    *("mcp", "openai", "pygments", "replicate", "rich.console"),
    *("fleek.client", "fleek.doctor", "fleek.emulator", "fleek.mcp_server"),
    *("fleek.api.facades.fal", "fleek.api.facades.openai", "fleek.api.facades.replicate"),
    *("fleek.providers.replicate", "fleek.storage.s3", "sqlalchemy.dialects.postgresql"),
    *("sqlalchemy.ext.asyncio", "sqlalchemy.orm"),
    *("fleek.api.batches", "fleek.api.lists", "fleek.api.pages", "fleek.api.webhooks"),
    "pydantic.v1.main",
}
MOST_TO_SERVE: Final = 912
TO_COMPLETE: Final = {"COMP_WORDS": "fleek ge", "COMP_CWORD": "1"}


def loaded(report: str) -> set[str]:
    """Return the modules that Python reports as imported."""
    lines = (line for line in report.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def counted(modules: set[str]) -> int:
    """Return how many there are, without the standard library's private ones: each Python has others."""
    private = (
        name
        for name in modules
        if name.partition(".")[0] in sys.stdlib_module_names and "._" in f".{name}"
    )
    return len(modules.difference(private))


def of(packages: set[str], modules: set[str]) -> set[str]:
    """Return the packages of which modules were imported."""
    return {
        package
        for package in packages
        if any(f"{name}.".startswith(f"{package}.") for name in modules)
    }


@pytest.mark.parametrize(
    ("args", "variables"),
    [
        (["--help"], {}),
        (["generate", "--help"], {}),
        ([], {"_FLEEK_COMPLETE": "complete_bash", **TO_COMPLETE}),
        ([], {"_FLEEK_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "fleek ge"}),
    ],
    ids=["help", "help of a command", "bash", "zsh"],
)
def test_help_and_completion_load_no_heavy_library(
    args: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell runs completion at each press of the tabulator key."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-X", "importtime", "-c", "from fleek.cli import main; main()", *args],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "generate" in done.stdout
    modules = loaded(done.stderr)
    assert of(NOT_FOR_HELP, modules) == set()
    assert counted(modules) <= MOST_FOR_HELP


def submit(port: int) -> None:
    """Let a service accept a job."""
    connection = HTTPConnection("127.0.0.1", port)
    with closing(connection):
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/api/v1/generate", b'{"prompt": "a cat"}', headers)
        assert connection.getresponse().status == 201


@pytest.mark.usefixtures("_full_suite")
def test_serve_loads_only_the_chosen_adapters(
    tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its first job is accepted, on SQLite with local files and the placeholder."""
    port = free_port()
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")
    monkeypatch.setenv("API_PORT", str(port))
    report = tmp_path / "imports"

    with (
        report.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "fleek", "serve"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as service,
    ):
        assert service.stdout is not None
        line = service.stdout.readline()
        submit(port)
        service.send_signal(signal.SIGTERM)

    assert "is ready" in line, report.read_text()[-2000:]
    modules = loaded(report.read_text())
    assert "fleek.engine.submit" in modules
    assert of(NOT_TO_SERVE, modules) == set()
    assert counted(modules) <= MOST_TO_SERVE
