"""Examines an installation: what is wrong here, and what to do about it."""

import os
import platform
import shutil
import socket
import stat
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fleek import __version__
from fleek.bootstrap import open_dispatcher, open_provider, open_storage
from fleek.client import AsyncClient, RetryPolicy
from fleek.diagnosis import (
    ADVICE,
    Finding,
    abandoned,
    clocks,
    coordination,
    crew,
    durability,
    line,
    refused,
    results,
    trouble,
    warning,
    writers,
)
from fleek.domain.errors import FleekError
from fleek.domain.job import ModelName, Status
from fleek.domain.request import DEFAULT_TENANT
from fleek.engine.clock import Clock
from fleek.engine.coordinator import ROLE
from fleek.engine.heartbeat import DEAD_AFTER, process_space
from fleek.settings import LOOPBACK, Proxies, Settings, renamed_in_use
from fleek.store import attempts, jobs, provider_health, queue, workers
from fleek.store.address import database_url
from fleek.store.counters import count_jobs
from fleek.store.database import Database, open_database, reach
from fleek.store.migrate import up_to_date
from fleek.store.pools import sqlite_is_safe
from fleek.system_clock import shift_from, wall_time

LIBRARIES: Final = ("aiohttp", "fastapi", "httpx2", "pydantic", "sqlalchemy", "uvicorn")
PATIENCE: Final = timedelta(seconds=5)  # for the database
ANSWER_SECONDS: Final = 3  # for whoever has the port
SCARCE_BYTES: Final = 1_000_000_000  # below this much room a warning
NONE_LEFT_BYTES: Final = 50_000_000  # below this much an error
BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)  # no right clock shows an earlier time


RECENT: Final = 100  # failed jobs that are looked at
REFUSED_PERIOD: Final = timedelta(days=1)

Check = Callable[[Settings], Awaitable[list[Finding]]]


async def examine(settings: Settings) -> list[Finding]:
    """Examine everything that the service needs, whether it runs or not. Makes no job."""
    shift_from(settings.fleek_clock_file)
    findings: list[Finding] = []
    for subject, check, advice in CHECKS:
        try:
            findings += await check(settings)
        except FleekError as error:
            findings.append(Finding(subject, "error", str(error), advice))
    return findings


async def examine_worker(settings: Settings) -> Finding:
    """Look for a living worker on this machine, or in this container.

    Raises:
        FleekError: The database cannot be asked.
    """
    async with open_database(settings.database_url, patience=PATIENCE) as db:
        now = (await _set_clock(db))()
        alive = await workers.alive(db, since=now - settings.heartbeat_seconds * DEAD_AFTER)
    return crew([worker for worker in alive if worker.host == process_space()])


async def _versions(_: Settings) -> list[Finding]:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [Finding("version", "ok", f"fleek {__version__} on {python}; {libraries}")]


async def _clock(_: Settings) -> list[Finding]:
    return [_time(wall_time())]


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
        findings = [durability(await db.facts()), *await _work(db, settings)]
    if path is not None:
        findings += [_room("database disk", path.absolute().parent), *_readable("database", path)]
    return findings


async def _work(db: Database, settings: Settings) -> list[Finding]:
    clock = await _set_clock(db)
    now = clock()
    alive = await workers.alive(db, since=now - settings.heartbeat_seconds * DEAD_AFTER)
    tally = await count_jobs(db, now=now)
    findings = [
        line(tally),
        results(await queue.postponed(db)),
        *clocks(alive, ahead=clock.ahead, now=now),
        *abandoned(await attempts.count_without_verdict(db), known=settings.providers),
    ]
    if alive:
        holder = await workers.holder(db, ROLE, now=now)
        findings += [crew(alive), coordination(holder, alive)]
        findings += writers(alive, may_share=db.kind != "sqlite" or sqlite_is_safe())
    elif tally.queue_depth + tally.in_flight:
        findings.append(crew(alive))
    recent = await jobs.list_page(db, tenant_id=DEFAULT_TENANT, status=Status.FAILED, limit=RECENT)
    findings += refused([view.job for view in recent], since=now - REFUSED_PERIOD)
    return findings + [
        trouble(one) for one in await provider_health.impaired(db, now=now) if one.is_paused
    ]


async def _set_clock(db: Database) -> Clock:
    clock = Clock(db)
    await clock.set()
    return clock


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


async def _storage(settings: Settings) -> list[Finding]:
    async with open_storage(settings) as storage:
        await storage.check()
        spool = storage.spool()
        return [
            Finding("storage", "ok", f"{settings.storage_backend}: files can be written"),
            _room("storage disk", spool),
            *_readable("storage", spool),
        ]


def _readable(subject: str, path: Path) -> list[Finding]:
    """Warn of what other users of this machine may read or change; new files are private."""
    if not path.stat().st_mode & stat.S_IRWXO:
        return []
    message = f"every user of this machine may read {path} or what is beside it"
    return [warning(f"{subject} access", message, f"chmod -R go-rwx {path.absolute().parent}")]


def _room(subject: str, folder: Path) -> Finding:
    return _left(subject, folder, free=shutil.disk_usage(folder).free)


def _left(subject: str, folder: Path, *, free: int) -> Finding:
    message = f"{free / 1e9:.1f} GB free at {folder}"
    if free < NONE_LEFT_BYTES:
        return Finding(subject, "error", message, "make room; jobs are refused until then")
    if free < SCARCE_BYTES:
        return warning(subject, message, "make room before it is needed")
    return Finding(subject, "ok", message)


async def _provider(settings: Settings) -> list[Finding]:
    return [await _provider_answer(settings, name) for name in settings.providers]


async def _provider_answer(settings: Settings, name: str) -> Finding:
    chosen = settings.default_model if name == settings.provider else None
    try:
        async with open_provider(name) as provider:
            model = ModelName(chosen or provider.default_model)
            schema = await provider.schema(model)
    except FleekError as error:
        return Finding("provider", "error", str(error), ADVICE["provider"])
    return _answer(name, model, known=schema is not None)


async def _proxy(settings: Settings) -> list[Finding]:
    """Name a proxy of others that has no effect, and the settings that have one."""
    ignored = Proxies().ignored()
    chosen = {*settings.providers, settings.storage_backend}
    ours = [f"{name.upper()}_PROXY" for name in ("replicate", "s3") if name in chosen]
    if ignored is None or not ours:
        return []
    message = f"{ignored} is set, and is not used by this service"
    advice = f"set {' and '.join(ours)} where a proxy is needed; outputs are fetched directly"
    return [warning("proxy", message, advice)]


async def _renamed(_: Settings) -> list[Finding]:
    """Name the settings that are still set under an old name."""
    return [
        warning(
            "settings", f"{old} is now called {new}", f"rename it: the next release ignores {old}"
        )
        for old, new in renamed_in_use().items()
    ]


def _answer(name: str, model: str, *, known: bool) -> Finding:
    if name == "placeholder":
        message = f"placeholder, which needs no token; default model {model}"
        return Finding("provider", "ok", message)
    if not known:
        message = f"{name} does not show its default model {model} now"
        return warning("provider", message, "look at the provider's own status page")
    return Finding("provider", "ok", f"{name} answers; default model {model}")


async def _dispatcher(settings: Settings) -> list[Finding]:
    async with open_dispatcher(settings) as dispatcher:
        await dispatcher.check()
    return [Finding("dispatcher", "ok", f"{settings.dispatch}: jobs can be dispatched")]


async def _port(settings: Settings) -> list[Finding]:
    place = f"{settings.api_host}:{settings.api_port}"
    if _free(settings.api_host, settings.api_port):
        return [Finding("port", "ok", f"{place} is free; the service is not running")]
    url = settings.local_base
    async with AsyncClient(
        url, timeout=ANSWER_SECONDS, retry_policy=RetryPolicy(attempts=1)
    ) as client:
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
        return [warning("port", message, "see /health/detailed there")]
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
        findings.append(warning("access", message, "listen on 127.0.0.1 behind a proxy with keys"))
    public, media = urlsplit(settings.public_base), urlsplit(settings.media_base)
    if public.hostname not in LOOPBACK and public.netloc == media.netloc:
        message = f"media are served from the API's own origin, {public.netloc}"
        advice = "set STORAGE_BASE_URL to another host name that leads here"
        findings.append(warning("media", message, advice))
    return findings or [Finding("access", "ok", "nothing is open that should not be")]


CHECKS: Final[tuple[tuple[str, Check, str], ...]] = (
    ("version", _versions, ""),
    ("settings", _renamed, ""),
    ("clock", _clock, ""),
    ("database", _database, ADVICE["database"]),
    ("storage", _storage, ADVICE["storage"]),
    ("provider", _provider, ADVICE["provider"]),
    ("proxy", _proxy, ""),
    ("dispatcher", _dispatcher, ADVICE["dispatcher"]),
    ("port", _port, ""),
    ("access", _exposure, ""),
)
