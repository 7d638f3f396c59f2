"""Examines an installation: what is wrong here, and what to do about it."""

import os
import platform
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from fleek import __version__, registry
from fleek.client import AsyncClient, Pace
from fleek.domain.errors import FleekError
from fleek.providers.base import PARKS
from fleek.settings import LOOPBACK, Settings
from fleek.store import accounts, workers
from fleek.store.accounts import Account
from fleek.store.address import database_url
from fleek.store.database import open_database, reach, sqlite_is_safe
from fleek.store.migrate import up_to_date
from fleek.store.workers import Worker

LIBRARIES: Final = ("fastapi", "httpx2", "pydantic", "sqlalchemy", "uvicorn")
PATIENCE: Final = timedelta(seconds=5)  # for the database
SCARCE_BYTES: Final = 1_000_000_000  # below this much room a warning
NONE_LEFT_BYTES: Final = 50_000_000  # below this much an error
BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)  # no right clock shows an earlier time
SYNCHRONOUS: Final = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one subject."""

    subject: str
    status: Status
    message: str
    advice: str = ""  # what to do; empty if nothing


Check = Callable[[Settings], Awaitable[list[Finding]]]


async def examine(settings: Settings) -> list[Finding]:
    """Examine everything that the service needs, whether it runs or not. Makes no job."""
    findings: list[Finding] = []
    for subject, check, advice in CHECKS:
        try:
            findings += await check(settings)
        except FleekError as error:
            findings.append(Finding(subject, "error", str(error), advice))
    return findings


async def _versions(_: Settings) -> list[Finding]:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [Finding("version", "ok", f"fleek {__version__} on {python}; {libraries}")]


async def _clock(_: Settings) -> list[Finding]:
    return [_time(datetime.now(UTC))]


def _time(now: datetime) -> Finding:
    if now < BORN:
        return Finding("clock", "error", f"it shows {now:%Y-%m-%d}", "set it, and run NTP")
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


async def _database(settings: Settings) -> list[Finding]:
    url = database_url(settings.database_url)
    path = Path(url.database or "") if url.drivername.startswith("sqlite") else None
    if path is not None and not path.exists():
        return [_missing(path)]
    async with open_database(settings.database_url, patience=PATIENCE) as db:
        await reach(db)
        if not await up_to_date(db):
            message = "the schema is not up to date"
            return [Finding("database", "warning", message, "run fleek migrate or fleek serve")]
        findings = [_durability(await db.facts())]
        now = datetime.now(UTC)
        alive = await workers.alive(db, since=now - 6 * settings.heartbeat_seconds)
        shared = db.kind != "sqlite" or sqlite_is_safe()
        findings += _workers(alive, now=now, may_share=shared)
        findings += [_trouble(one) for one in await accounts.troubled(db, now=now) if one.rests]
    if path is not None:
        findings.append(_room("database disk", path.absolute().parent))
    return findings


def _missing(path: Path) -> Finding:
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Finding(
            "database",
            "error",
            f"{path} is not there and cannot be made",
            f"make the folder {folder} writable, or set DATABASE_URL",
        )
    return Finding("database", "ok", f"{path} is not there yet; fleek serve makes it")


def _durability(facts: dict[str, str]) -> Finding:
    message = f"{facts['kind']} {facts['version']}, schema {facts['revision']}"
    if facts["kind"] == "sqlite":
        level = SYNCHRONOUS.get(facts["synchronous"], facts["synchronous"])
        message += f", journal_mode {facts['journal_mode']}, synchronous {level}"
        safe = facts["journal_mode"] == "wal" and level in {"FULL", "EXTRA"}
        advice = "keep the file on a local disk; network file systems do not work"
    else:
        message += f", synchronous_commit {facts['synchronous_commit']}, fsync {facts['fsync']}"
        safe = facts["synchronous_commit"] != "off" and facts["fsync"] == "on"
        advice = "switch both on, or a loss of power loses accepted jobs"
    return Finding("database", "ok", message) if safe else _warning("database", message, advice)


def _workers(alive: Sequence[Worker], *, now: datetime, may_share: bool) -> list[Finding]:
    findings = [Finding("workers", "ok", f"{len(alive)} alive")]
    if any(worker.heartbeat_at > now + timedelta(seconds=2) for worker in alive):
        message = "a worker's last heartbeat is in the future"
        findings.append(_warning("clock", message, "run NTP on all machines"))
    if len(alive) > 1 and not may_share:
        findings.append(
            _warning(
                "workers",
                f"{len(alive)} processes write to one file, and this SQLite is older than 3.51.3",
                "use one process, a newer SQLite, or PostgreSQL: a rare race can break the file",
            )
        )
    return findings


def _trouble(account: Account) -> Finding:
    assert account.paused_until is not None
    until = f"{account.paused_until:%H:%M:%S} UTC"
    if account.model:
        message = f"{account.model} rests until {until}: {account.failures} purchases in a row "
        message += f"failed, the last with {account.reason}"
        advice = "look at the provider's status page, and whether it can be reached from here"
        return _warning(account.provider, message, advice)
    message = f"nothing is bought until {until}: {account.reason}"
    if account.reason in PARKS:
        advice = f"{PARKS[account.reason]}; its jobs wait, and go on by themselves"
        return Finding(account.provider, "error", message, advice)
    return _warning(account.provider, message, "nothing, if it is seldom; else lower the budget")


async def _storage(settings: Settings) -> list[Finding]:
    known = registry.storages()
    connect = registry.load(known, settings.storage_backend, setting="STORAGE_BACKEND")
    async with connect() as storage:
        await storage.check()
        spool = storage.spool()
        return [
            Finding("storage", "ok", f"{settings.storage_backend}: files can be written"),
            _room("storage disk", spool),
        ]


def _room(subject: str, folder: Path) -> Finding:
    return _left(subject, folder, free=shutil.disk_usage(folder).free)


def _left(subject: str, folder: Path, *, free: int) -> Finding:
    message = f"{free / 1e9:.1f} GB free at {folder}"
    if free < NONE_LEFT_BYTES:
        return Finding(subject, "error", message, "make room; jobs are refused until then")
    if free < SCARCE_BYTES:
        return _warning(subject, message, "make room before it is needed")
    return Finding(subject, "ok", message)


async def _provider(settings: Settings) -> list[Finding]:
    name = settings.provider
    connect = registry.load(registry.providers(), name, setting="PROVIDER")
    async with connect() as provider:
        model = settings.default_model or provider.default_model
        schema = await provider.schema(model)
    return [_answer(name, model, known=schema is not None)]


def _answer(name: str, model: str, *, known: bool) -> Finding:
    if name == "placeholder":
        message = f"placeholder, which needs no token; default model {model}"
        return Finding("provider", "ok", message)
    if not known:
        message = f"{name} does not show its default model {model} now"
        return _warning("provider", message, "look at the provider's own status page")
    return Finding("provider", "ok", f"{name} answers; default model {model}")


async def _dispatcher(settings: Settings) -> list[Finding]:
    connect = registry.load(registry.dispatchers(), settings.dispatch, setting="DISPATCH")
    async with connect() as dispatcher:
        await dispatcher.check()
    return [Finding("dispatcher", "ok", f"{settings.dispatch}: jobs can be dispatched")]


async def _port(settings: Settings) -> list[Finding]:
    place = f"{settings.api_host}:{settings.api_port}"
    if _free(settings.api_host, settings.api_port):
        return [Finding("port", "ok", f"{place} is free; the service is not running")]
    host = "127.0.0.1" if settings.api_host == "0.0.0.0" else settings.api_host  # noqa: S104 - read, not bound
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{settings.api_port}"
    async with AsyncClient(url, timeout=3, pace=Pace(tries=1)) as client:
        try:
            health = await client.health()
        except FleekError:
            health = {}
    if health.get("service") != "fleek-media-service":
        message = f"{place} cannot be used, and what is there is not fleek"
        return [Finding("port", "error", message, "set API_PORT to another, or API_HOST")]
    status = health.get("status")
    message = f"the service is running on {place} and is {status}"
    if status != "healthy":
        return [_warning("port", message, "see /health/detailed there")]
    return [Finding("port", "ok", message)]


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


async def _exposure(settings: Settings) -> list[Finding]:
    findings = []
    if settings.api_host not in LOOPBACK and not settings.api_keys:
        message = f"anyone who reaches {settings.api_host}:{settings.api_port} may use it"
        findings.append(
            _warning("access", message, "listen on 127.0.0.1 behind a proxy with keys")
        )
    public, media = urlsplit(settings.public_base), urlsplit(settings.media_base)
    if public.hostname not in LOOPBACK and public.netloc == media.netloc:
        message = f"media are served from the API's own origin, {public.netloc}"
        advice = "set STORAGE_BASE_URL to another host name that leads here"
        findings.append(_warning("media", message, advice))
    return findings or [Finding("access", "ok", "nothing is open that should not be")]


def _warning(subject: str, message: str, advice: str) -> Finding:
    return Finding(subject, "warning", message, advice)


CHECKS: Final[tuple[tuple[str, Check, str], ...]] = (
    ("version", _versions, ""),
    ("clock", _clock, ""),
    ("database", _database, "check DATABASE_URL, and that the database runs"),
    ("storage", _storage, "check STORAGE_BACKEND and STORAGE_PATH, and the rights there"),
    ("provider", _provider, "check PROVIDER and its settings"),
    ("dispatcher", _dispatcher, "check DISPATCH and its settings"),
    ("port", _port, ""),
    ("access", _exposure, ""),
)
