"""Every usual spelling of an address works; a wrong one is one clear line."""

import sys
from pathlib import Path

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.store.address import database_url
from fleek.store.database import open_database, reach
from fleek.store.postgres_address import postgres_address
from services import free_port


@pytest.mark.parametrize(
    ("setting", "understood"),
    [
        ("sqlite:///fleek.db", "sqlite+aiosqlite:///fleek.db"),
        ("sqlite:////var/fleek.db", "sqlite+aiosqlite:////var/fleek.db"),
        ("sqlite+aiosqlite:///fleek.db", "sqlite+aiosqlite:///fleek.db"),
        ("sqlite+pysqlite:///fleek.db", "sqlite+aiosqlite:///fleek.db"),
        ("sqlite:///fleek.db?check_same_thread=false", "sqlite+aiosqlite:///fleek.db"),
        ("postgres://u:p@h/n", "postgresql+asyncpg://u:***@h/n"),
        ("postgresql://u:p@h:5/n", "postgresql+asyncpg://u:***@h:5/n"),
        ("postgresql+asyncpg://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql+psycopg://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql+psycopg2://u@h/n", "postgresql+asyncpg://u@h/n"),
    ],
)
def test_any_usual_spelling_is_understood(setting: str, understood: str) -> None:
    """Platforms and tutorials each have their own."""
    assert database_url(setting).render_as_string() == understood


@pytest.mark.parametrize(
    "setting",
    [
        *("", "fleek.db", "mysql://u:secret@h/n", "postgresql+pg8000://u:secret@h/n"),
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "postgres://u:secret@h:port/n"),
        "sqlite:///fleek.db?mode=secret",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(setting: str) -> None:
    """The line names the setting, and never holds a password."""
    with pytest.raises(ConfigurationError) as caught:
        database_url(setting)

    line = str(caught.value)
    assert line.startswith("DATABASE_URL: ")
    assert "\n" not in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("query", "passed_on"),
    [
        ("?sslmode=require", "?sslmode=require"),
        ("?ssl=require", "?sslmode=require"),
        ("?sslmode=verify-full&sslrootcert=ca.pem", "?sslmode=verify-full&sslrootcert=ca.pem"),
        ("?sslmode=require&channel_binding=require&connect_timeout=3", "?sslmode=require"),
        ("", ""),
    ],
)
def test_parameters_of_libpq_reach_the_driver(query: str, passed_on: str) -> None:
    """Hosted databases hand out addresses with them."""
    address = postgres_address(database_url(f"postgresql+asyncpg://u:p%40ss@h/n{query}"))

    assert address.dsn == f"postgresql://u:p%40ss@h/n{passed_on}"


def test_a_missing_driver_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is an extra."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)  # as if it were not installed

    with pytest.raises(ConfigurationError, match=r"pip install 'fleek\[postgres\]'"):
        database_url("postgresql://u@h/n")


async def test_an_address_that_works_is_reached(database_url: str) -> None:
    """And nothing is written."""
    async with open_database(database_url) as db:
        await reach(db)

        assert "***" not in db.address


async def refusal(setting: str) -> str:
    """Return the line with which an address is refused when a process starts."""
    async with open_database(setting) as db:
        with pytest.raises(ConfigurationError) as caught:
            await reach(db)
    return str(caught.value)


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("127.0.0.1", "no-such-host.invalid"), "not known|resolution|No address"),
        (("/test_", "/no_such_database_"), "does not exist"),
        (("postgres@", "nobody_like_this:secret@"), "does not exist"),
        (("?", "?sslmode=require&"), "SSL"),
        (("?", "?sslmode=perhaps&"), "sslmode"),
        (("?", "?no_such_setting=1&"), "no_such_setting"),
    ],
    ids=["host", "database", "user", "no TLS", "wrong parameter", "unknown parameter"],
)
async def test_a_wrong_address_of_postgresql_is_one_line(
    database_url: str, change: tuple[str, str], reason: str
) -> None:
    """It says what the server says, without the password."""
    setting = f"{database_url}?application_name=test".replace(*change)

    line = await refusal(setting)

    assert line.startswith("DATABASE_URL=postgresql+asyncpg://")
    assert "\n" not in line
    assert "secret" not in line
    assert any(word in line for word in reason.split("|")), line


async def test_a_server_that_is_not_there_is_one_line() -> None:
    """Connection refused."""
    line = await refusal(f"postgresql://u:secret@127.0.0.1:{free_port()}/n")

    assert "onnect call failed" in line
    assert "secret" not in line


@pytest.mark.parametrize("name", ["no/such/folder/fleek.db", ".", "text"])
async def test_a_file_that_cannot_be_a_database_is_one_line(tmp_path: Path, name: str) -> None:
    """No such folder, a folder, a text."""
    (tmp_path / "text").write_text("This is no database, however long one looks at it." * 40)

    line = await refusal(f"sqlite:///{tmp_path}/{name}")

    assert line.startswith(f"DATABASE_URL=sqlite+aiosqlite:///{tmp_path}/{name}: ")
    assert "\n" not in line
