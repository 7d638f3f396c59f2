"""``DATABASE_URL`` in all its usual spellings: as hosters, libraries and tutorials print it.

Each library has parameters of its own. What means something here is translated, what concerns
another library alone is left out, and what is left becomes a setting of the session: the server
refuses by name what it does not know.

Source: https://www.postgresql.org/docs/current/libpq-connect.html
"""

import os
import re
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from fleek.domain.errors import ConfigurationError
from fleek.domain.values import dataclass

POSTGRES: Final = frozenset({"asyncpg", "psycopg", "psycopg2", ""})  # drivers that others name
SQLITE: Final = frozenset({"aiosqlite", "pysqlite", ""})
HARMLESS: Final = frozenset({"check_same_thread"})  # often copied, and of no use here
OF_THE_DRIVER: Final = frozenset(  # asyncpg reads them from the address
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"),
        *("sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("target_session_attrs", "passfile", "user", "password", "dbname", "database"),
        *("host", "port", "service", "krbsrvname", "gsslib"),
    }
)
OF_OTHERS: Final = frozenset(
    {
        *("channel_binding", "gssencmode", "client_encoding", "sslcompression"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "sslsni"),
        *("tcp_user_timeout", "load_balance_hosts", "require_auth", "fallback_application_name"),
        *("connection_limit", "pool_timeout", "socket_timeout", "sslaccept"),  # Prisma's
        *("statement_cache_size", "prepared_statement_cache_size", "prepareThreshold"),
        *("prepared_statement_name_func", "async_fallback", "pgbouncer"),
        *("supa", "workaround", "uselibpqcompat", "reWriteBatchedInserts"),
    }
)
FOR_A_POOLER: Final = {  # parameters that are set because of a pooler
    "pgbouncer": "true",
    "statement_cache_size": "0",
    "prepared_statement_cache_size": "0",
    "prepareThreshold": "0",
}
SSL: Final = {"true": "require", "1": "require", "no-verify": "require", "false": "disable"}
OF_A_PROXY: Final = re.compile(r"(endpoint|project|reference|cluster)(=|%3D).*")
SET: Final = re.compile(r"(?:-c|--)?\s*([a-z_.]+)=(.*)", re.IGNORECASE)
CONNECT_SECONDS: Final = 5  # unless the address says otherwise
IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SEVERAL: Final = re.compile(r"(?P<start>[^/]+//(?:[^/?]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<end>.*)")


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


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """What a driver has to know."""

    dsn: str  # with the password
    settings: Mapping[str, str]  # of each session
    pooled: bool  # the address says that it is that of a pooler
    connect_seconds: float | None  # the longest wait for a connection


def without_hosts(setting: str) -> tuple[str, str]:
    """Take several hosts out of an address, which few can read there; returns both."""
    found = SEVERAL.fullmatch(setting)
    return (found["start"] + found["end"], found["hosts"]) if found else (setting, "")


def postgres_address(url: URL) -> PostgresAddress:
    """Return what to connect with.

    Raises:
        ConfigurationError: A parameter cannot be understood; the line names it.
    """
    query = {name: _last(value) for name, value in url.query.items()}
    pooled = any(query.get(name, "").lower() == value for name, value in FOR_A_POOLER.items())
    hosts = ",".join(_all(url.query.get("host", ())))
    kept: dict[str, str] = {}
    settings: dict[str, str] = {}
    connect_seconds: float | None = CONNECT_SECONDS
    for name, value in query.items():
        if name in OF_OTHERS or (name == "host" and not hosts.startswith("/")):
            continue
        if name in {"ssl", "sslmode"}:
            kept["sslmode"] = SSL.get(value.lower(), value)
        elif name in {"schema", "currentSchema"}:
            settings["search_path"] = _schema(name, value)
        elif name == "options" and OF_A_PROXY.fullmatch(value):
            kept[name] = value
        elif name == "options":
            settings.update(_options(value))
        elif name == "connect_timeout":
            connect_seconds = _seconds(name, value)
        elif name in OF_THE_DRIVER:
            kept[name] = value
        else:
            settings[name] = value
    if "," in hosts:
        kept.setdefault("target_session_attrs", "read-write")
    return PostgresAddress(_dsn(url, hosts, kept), settings, pooled, connect_seconds)


def _dsn(url: URL, hosts: str, query: Mapping[str, str]) -> str:
    plain = url.set(drivername="postgresql", query=query)
    if not hosts or hosts.startswith("/"):
        return plain.render_as_string(hide_password=False)
    marked = plain.set(host="several.invalid", port=None).render_as_string(hide_password=False)
    return marked.replace("several.invalid", hosts, 1)


def _schema(name: str, value: str) -> str:
    if IDENTIFIER.fullmatch(value) is None:
        raise ConfigurationError(f"DATABASE_URL: {name} must be the name of one schema")
    return value


def _seconds(name: str, value: str) -> float | None:
    """Return a number of seconds; None: without limit, as libpq reads zero."""
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ConfigurationError(f"DATABASE_URL: {name} must be a whole number of seconds")
    return max(int(value), 0) or None


def _options(value: str) -> dict[str, str]:
    """Return the settings in ``-c name=value -c name=value``."""
    try:
        words = shlex.split(value.replace("-c ", "-c"))
    except ValueError:
        words = [""]
    found = [SET.fullmatch(word) for word in words]
    settings = {match[1]: match[2] for match in found if match is not None}
    if len(settings) != len(words):
        raise ConfigurationError("DATABASE_URL: options must be like -c name=value")
    return settings


def _all(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _last(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else value[-1]
