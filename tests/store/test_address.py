"""Every usual form of a database address works; an invalid one is one clear line."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from backing_services import free_port
from fleek.domain.errors import ConfigurationError
from fleek.store.address import database_url, postgres_address
from fleek.store.database import open_database, reach
from fleek.store.pools import make_pools


@pytest.mark.parametrize(
    ("setting", "expected"),
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
def test_usual_forms_of_an_address_are_accepted(setting: str, expected: str) -> None:
    """Platforms and tutorials each use their own."""
    assert database_url(setting).render_as_string() == expected


@pytest.mark.parametrize(
    "setting",
    [
        *("", "fleek.db", "mysql://u:secret@h/n", "postgresql+pg8000://u:secret@h/n"),
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "postgres://u:secret@h:port/n"),
        "sqlite:///fleek.db?mode=secret",
    ],
)
def test_an_invalid_address_is_refused_in_one_line(setting: str) -> None:
    """The line names the setting, and never contains a password."""
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
    """Hosted databases have addresses with such parameters."""
    address = postgres_address(database_url(f"postgresql+asyncpg://u:p%40ss@h/n{query}"))

    assert address.dsn == f"postgresql://u:p%40ss@h/n{passed_on}"


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", 5), ("?connect_timeout=30", 30), ("?connect_timeout=0", None)],
    ids=["default", "chosen", "without limit"],
)
def test_an_address_may_contain_a_connect_timeout(query: str, seconds: float | None) -> None:
    """A suspended or distant server may need longer; the value is read as libpq reads it."""
    address = postgres_address(database_url(f"postgresql://u:p@h/n{query}"))

    assert address.connect_seconds == seconds


ROLE = "postgresql://u:p@"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("postgres://u:p@ep-1.neon.tech/n?sslmode=require&channel_binding=require",
         (f"{ROLE}ep-1.neon.tech/n?sslmode=require", {}, False)),
        ("postgresql://u:p@h/n?options=endpoint%3Dep-1",
         (f"{ROLE}h/n?options=endpoint%3Dep-1", {}, False)),
        ("postgres://u:p@h:6543/n?pgbouncer=true&connection_limit=1", (f"{ROLE}h:6543/n", {}, True)),
        ("postgres://u:p@h:6543/n?sslmode=require&supa=base-pooler.x",
         (f"{ROLE}h:6543/n?sslmode=require", {}, False)),
        ("postgres://u:p@h/n?statement_cache_size=0", (f"{ROLE}h/n", {}, True)),
        ("postgres://u:p@h/n?prepared_statement_cache_size=500", (f"{ROLE}h/n", {}, False)),
        ("postgres://u:p@h/n?schema=ours", (f"{ROLE}h/n", {"search_path": "ours"}, False)),
        ("postgres://u:p@h/n?options=-c%20search_path%3Da,b%20-c%20work_mem%3D8MB",
         (f"{ROLE}h/n", {"search_path": "a,b", "work_mem": "8MB"}, False)),
        ("postgres://u:p@h/n?ssl=true&sslaccept=strict", (f"{ROLE}h/n?sslmode=require", {}, False)),
        ("postgres://u:p@h/n?application_name=us", (f"{ROLE}h/n", {"application_name": "us"}, False)),
        ("postgres://u:p@one:5432,two:5433/n",
         (f"{ROLE}one:5432,two:5433/n?target_session_attrs=read-write", {}, False)),
        ("postgres://u:p@one,two/n?target_session_attrs=any",
         (f"{ROLE}one,two/n?target_session_attrs=any", {}, False)),
    ],
)  # fmt: skip
def test_addresses_of_hosting_providers_are_accepted(
    setting: str, expected: tuple[str, dict[str, str], bool]
) -> None:
    """Each of them adds parameters for the libraries that most of its users have."""
    address = postgres_address(database_url(setting))

    assert (address.dsn, address.settings, address.pooled) == expected


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?options=nonsense", "options"),
        ("?connect_timeout=soon", "connect_timeout"),
        ("?schema=a;b", "schema"),
        ("?options=-c%20%22", "options"),
    ],
)
def test_an_invalid_parameter_is_named(query: str, named: str) -> None:
    """The line appears when a process starts."""
    with pytest.raises(ConfigurationError, match=f"^DATABASE_URL: {named} must"):
        database_url(f"postgres://u:secret@h/n{query}")


@pytest.mark.parametrize("database", ["postgresql"])
async def test_the_writable_host_is_found(database_url: str) -> None:
    """It may be at any place in an address with several hosts."""
    several = database_url.replace("127.0.0.1", f"127.0.0.1:{free_port()},127.0.0.1")
    async with open_database(several) as db:
        await reach(db)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is an optional dependency."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)  # as if it were not installed

    with pytest.raises(ConfigurationError, match=r"pip install 'fleek\[postgres\]'"):
        database_url("postgresql://u@h/n")


async def test_a_working_address_is_reachable(database_url: str) -> None:
    """Nothing is written."""
    async with open_database(database_url) as db:
        await reach(db)

        assert "***" not in db.address


async def refusal(setting: str) -> str:
    """Return the line that refuses an address when a process starts."""
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
    """It contains the server's reason, but not the password."""
    setting = f"{database_url}&application_name=test".replace(*change)

    line = await refusal(setting)

    assert line.startswith("DATABASE_URL=postgresql+asyncpg://")
    assert "\n" not in line
    assert "secret" not in line
    assert any(word in line for word in reason.split("|")), line


async def test_a_missing_server_is_one_line() -> None:
    """The connection is refused."""
    line = await refusal(f"postgresql://u:secret@127.0.0.1:{free_port()}/n")

    assert "onnect call failed" in line
    assert "secret" not in line


@pytest.mark.parametrize("name", ["no/such/folder/fleek.db", ".", "text"])
async def test_a_file_that_cannot_be_a_database_is_one_line(tmp_path: Path, name: str) -> None:
    """The folder is missing, or the path is a folder or a text file."""
    (tmp_path / "text").write_text("This is no database, however long one looks at it." * 40)

    line = await refusal(f"sqlite:///{tmp_path}/{name}")

    assert line.startswith(f"DATABASE_URL=sqlite+aiosqlite:///{tmp_path}/{name}: ")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("query", "seconds"), [("", [10, 5]), ("?connect_timeout=120", [120, 120])]
)
def test_the_wait_for_a_free_connection_equals_the_connect_timeout(
    query: str, seconds: list[float]
) -> None:
    """Both are slow on a busy machine."""
    url = database_url(f"postgresql://u:p@h/n{query}")

    pools = make_pools(url, timedelta(seconds=10))

    assert [engine.pool.timeout() for engine in pools] == seconds  # type: ignore[attr-defined] # a queue
