"""Process-wide settings, and output to a terminal."""

import logging
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.environment import read
from fleek.settings import Settings
from fleek.storage.local import LocalStorageSettings
from fleek.store.address import database_url
from fleek.telemetry import configure_logging

PREPARED = """
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from fleek import process
process.prepare()
open("made", "w").close()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.usefixtures("_full_suite")
def test_files_are_private_and_all_descriptors_are_used(tmp_path: Path) -> None:
    """Whatever the shell's umask and soft limit are."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PREPARED], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    soft, hard = done.stdout.split()
    assert soft == hard == str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600


@pytest.mark.usefixtures("_full_suite")
def test_migrate_creates_a_private_database(tmp_path: Path) -> None:
    """Prompts are private."""
    env = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/fleek.db"}  # noqa: TID251 - a child's environment

    subprocess.run(
        [sys.executable, "-m", "fleek", "migrate"],
        cwd=tmp_path,
        env=env,
        check=True,
        capture_output=True,
        umask=0o022,
    )

    assert stat.S_IMODE((tmp_path / "fleek.db").stat().st_mode) == 0o600


def test_a_path_may_start_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell would expand it, but no shell reads an env file."""
    monkeypatch.setenv("HOME", "/home/me")

    assert read(LocalStorageSettings, STORAGE_PATH="~/media-of-mine").root == Path(
        "/home/me/media-of-mine"
    )
    assert database_url("sqlite:///~/fleek.db").database == "/home/me/fleek.db"


def test_the_home_folder_of_an_unknown_user_is_refused() -> None:
    """Otherwise a folder of that name would be created."""
    with pytest.raises(ConfigurationError, match=r"STORAGE_PATH: .*~"):
        read(LocalStorageSettings, STORAGE_PATH="~no-such-user/x")
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL: .*~"):
        database_url("sqlite:///~no-such-user/fleek.db")


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104 - read, not bound
        ("::", "http://[::1]:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
    ],
)
def test_links_have_an_address_that_can_be_opened(host: str, base: str) -> None:
    """IPv6 addresses have brackets, and wildcard addresses become loopback."""
    assert Settings(api_host=host, allow_anonymous=True).public_base == base


@pytest.fixture
def _handlers() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])


@pytest.mark.usefixtures("_handlers")
def test_log_lines_contain_no_terminal_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    """A message of a library must not forge lines or clear the screen."""
    configure_logging(level="INFO", style="console")
    hostile = "said\r\n2026 [error] forged\x1b[2J\x9b1m\u202e"
    logging.getLogger("library").warning("it %s", hostile)
    logging.getLogger("library").error("failed", exc_info=ValueError(hostile))

    said = capsys.readouterr().err

    assert "forged" in said
    assert not {"\r", "\x1b", "\x9b", "\u202e"} & set(said)
    assert sum("forged" in line for line in said.splitlines() if line.startswith("2026 ")) <= 1
    assert "\\x1b[2J" in said
