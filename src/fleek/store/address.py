"""``DATABASE_URL`` in all its usual spellings."""

import os
from importlib.util import find_spec
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from fleek.domain.errors import ConfigurationError
from fleek.store.postgres_address import postgres_address, without_hosts

POSTGRES: Final = frozenset({"asyncpg", "psycopg", "psycopg2", ""})  # drivers that others name
SQLITE: Final = frozenset({"aiosqlite", "pysqlite", ""})
HARMLESS: Final = frozenset({"check_same_thread"})  # often copied, and of no use here


def database_url(setting: str) -> URL:
    """Return the address with the driver that we use.

    Raises:
        ConfigurationError: It names no database that we know, or one whose driver is missing.
    """
    single, hosts = without_hosts(setting)
    try:
        url = make_url(single)
    except (ArgumentError, ValueError):  # the latter: a port that is no number
        raise _unknown() from None
    kind, _, driver = url.drivername.partition("+")
    if kind in {"postgres", "postgresql"} and driver in POSTGRES:
        if find_spec("asyncpg") is None:
            raise ConfigurationError(
                "DATABASE_URL: PostgreSQL needs a driver: pip install 'fleek[postgres]'"
            )
        if hosts:
            url = url.update_query_dict({"host": hosts.split(",")})
        postgres_address(url)  # refuses what cannot be understood
        return url.set(drivername="postgresql+asyncpg")
    if kind == "sqlite" and driver in SQLITE and url.database not in {None, "", ":memory:"}:
        return _sqlite(url)
    raise _unknown()


def _sqlite(url: URL) -> URL:
    if strange := sorted(url.query.keys() - HARMLESS):
        raise ConfigurationError(f"DATABASE_URL: SQLite takes no {', '.join(strange)}")
    path = os.path.expanduser(url.database or "")  # noqa: PTH111 - any other spelling stays
    if path.startswith("~"):
        raise ConfigurationError(
            "DATABASE_URL: ~ names no user of this machine; write the whole path"
        )
    return url.set(drivername="sqlite+aiosqlite", query={}, database=path)


def _unknown() -> ConfigurationError:
    return ConfigurationError(
        "DATABASE_URL: use sqlite:///./fleek.db or postgresql://user:password@host:5432/name"
    )
