"""`fleek doctor`: examines an installation, whether it runs or not, and says what to do.

The checks of parts that a running service has are those of `fleek.diagnosis`; here are those of
the machine, its disks, ports and settings.
"""

import os
import platform
import shutil
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fleek import __version__, diagnosis
from fleek.bootstrap import open_dispatcher, open_provider, open_storage
from fleek.catalogue import read_catalogue
from fleek.client import AsyncClient, RetryPolicy
from fleek.diagnosis import Finding, unreachable, warning
from fleek.domain.errors import ConfigurationError, FleekError, Unauthorized
from fleek.engine.clock import Clock
from fleek.engine.heartbeat import DEAD_AFTER, process_space
from fleek.engine.signing import PLAIN, SecretBox
from fleek.providers.base import Provider, SupportsAccounts
from fleek.settings import LOOPBACK, Proxies, Settings, renamed_in_use
from fleek.store import api_keys, workers
from fleek.store.address import database_url
from fleek.store.counters import count_jobs
from fleek.store.database import Database, open_database, reach
from fleek.store.endpoints import all_secrets
from fleek.store.migrate import up_to_date
from fleek.store.pools import sqlite_is_safe
from fleek.system_clock import shift_from, wall_time

LIBRARIES: Final = ("aiohttp", "fastapi", "httpx2", "pydantic", "sqlalchemy", "uvicorn")
PATIENCE: Final = timedelta(seconds=5)  # for the database
ANSWER_SECONDS: Final = 3  # for the service on our port
LOW_SPACE_BYTES: Final = 1_000_000_000  # less free space is a warning
NO_SPACE_BYTES: Final = 50_000_000  # less free space is an error
MAX_SECRETS: Final = 1000  # that are looked at
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)  # no correct clock shows an earlier time

Check = Callable[[Settings], Awaitable[list[Finding]]]


async def examine(settings: Settings) -> list[Finding]:
    """Run every check and return the findings. Creates no job."""
    shift_from(settings.fleek_clock_file)
    findings: list[Finding] = []
    for subject, check in CHECKS.items():
        try:
            findings += await check(settings)
        except FleekError as error:
            findings.append(unreachable(subject, str(error)))
    return findings


async def examine_worker(settings: Settings) -> Finding:
    """Look for a worker that is alive on this machine, or in this container.

    Raises:
        FleekError: The database cannot be read.
    """
    async with open_database(settings.database_url, patience=PATIENCE) as db:
        now = (await _set_clock(db))()
        alive = await workers.alive(db, since=now - settings.heartbeat_seconds * DEAD_AFTER)
    return diagnosis.judge_workers([worker for worker in alive if worker.host == process_space()])


async def _versions(_: Settings) -> list[Finding]:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return [Finding("version", "ok", f"fleek {__version__} on {python}; {libraries}")]


async def _clock(_: Settings) -> list[Finding]:
    return [_time(wall_time())]


def _time(now: datetime) -> Finding:
    if now < EARLIEST:
        return Finding("clock", "error", f"it shows {now:%Y-%m-%d}", "set it and run NTP")
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


async def _database(settings: Settings) -> list[Finding]:
    path = _file(settings)
    if path is not None and not path.exists():
        return [_missing(path)]
    async with open_database(settings.database_url, patience=PATIENCE) as db:
        await reach(db)
        if not await up_to_date(db):
            message = "the schema is not up to date"
            return [Finding("database", "warning", message, "run fleek migrate or fleek serve")]
        findings = [await diagnosis.check_database(db), *await _work(db, settings)]
    if path is not None:
        findings += [
            _free_space("database disk", path.absolute().parent),
            *_readable("database", path),
        ]
    return findings


def _file(settings: Settings) -> Path | None:
    """Return the file of the database; None: it is on a server."""
    url = database_url(settings.database_url)
    return Path(url.database or "") if url.drivername.startswith("sqlite") else None


async def _work(db: Database, settings: Settings) -> list[Finding]:
    clock = await _set_clock(db)
    now = clock()
    alive = await workers.alive(db, since=now - settings.heartbeat_seconds * DEAD_AFTER)
    counts = await count_jobs(db, now=now)
    findings = [
        diagnosis.judge_queue(counts),
        await diagnosis.check_results(db),
        *diagnosis.judge_clocks(alive, ahead=clock.ahead, now=now),
        *await diagnosis.check_removed_providers(db, known=settings.providers),
    ]
    if alive or counts.queue_depth + counts.in_flight:  # else none is needed
        findings.append(diagnosis.judge_workers(alive))
    if alive:
        findings.append(await diagnosis.check_coordinator(db, alive, now=now))
    may_share = db.kind != "sqlite" or sqlite_is_safe()
    return [
        *findings,
        *diagnosis.judge_writers(alive, may_share=may_share),
        *await diagnosis.check_refusals(db, now=now),
        *await diagnosis.check_pauses(db, now=now),
        *await _secrets(db, settings),
    ]


async def _secrets(db: Database, settings: Settings) -> list[Finding]:
    """Warn of signing secrets that a copy of the database gives away, or that nobody can read."""
    box = SecretBox(settings.master_keys)
    stored = await all_secrets(db, limit=MAX_SECRETS)
    plain = sum(value.startswith(PLAIN) for _, value in stored)
    lost = 0
    for owner, value in stored:
        try:
            box.open(value, owner=owner)
        except ConfigurationError:
            lost += 1
    findings = []
    if plain:
        message = f"{plain} signing secrets are stored in the database without encryption"
        advice = (
            "fleek webhooks rotate encrypts them" if settings.master_keys else "set MASTER_KEY"
        )
        findings.append(warning("webhooks", message, advice))
    if lost:
        message = f"{lost} signing secrets cannot be decrypted: their webhooks wait"
        advice = "set the MASTER_KEY that they were stored with, or run fleek webhooks rotate"
        findings.append(warning("webhooks", message, advice))
    return findings


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
            f"{path} does not exist and cannot be created",
            f"make the folder {folder} writable, or set DATABASE_URL",
        )
    return Finding("database", "ok", f"{path} does not exist yet; fleek serve creates it")


async def _storage(settings: Settings) -> list[Finding]:
    async with open_storage(settings) as storage:
        finding = await diagnosis.check_storage(storage, settings.storage_backend)
        spool = storage.spool()
        return [
            finding,
            _free_space("storage disk", spool),
            *_readable("storage", spool),
        ]


def _readable(subject: str, path: Path) -> list[Finding]:
    """Warn of files that other users of this machine may read; new files are private."""
    if not path.stat().st_mode & stat.S_IRWXO:
        return []
    message = f"every user of this machine may read {path} or files beside it"
    return [warning(f"{subject} access", message, f"chmod -R go-rwx {path.absolute().parent}")]


def _free_space(subject: str, folder: Path) -> Finding:
    return _judge_space(subject, folder, free=shutil.disk_usage(folder).free)


def _judge_space(subject: str, folder: Path, *, free: int) -> Finding:
    message = f"{free / 1e9:.1f} GB free at {folder}"
    if free < NO_SPACE_BYTES:
        return Finding(subject, "error", message, "free some space; jobs are refused until then")
    if free < LOW_SPACE_BYTES:
        return warning(subject, message, "free some space soon")
    return Finding(subject, "ok", message)


async def _provider(settings: Settings) -> list[Finding]:
    return [finding for name in settings.providers for finding in await _accounts(settings, name)]


async def _accounts(settings: Settings, name: str) -> list[Finding]:
    """Ask a provider, with each of its keys if there are several."""
    model = settings.default_model if name == settings.provider else None
    try:
        async with open_provider(name) as provider:
            accounts = provider.accounts if isinstance(provider, SupportsAccounts) else {}
            if len(accounts) < 2:
                return [await _answer(provider, name, model)]
            return [
                await _answer(each, f"{name}#{account}", model)
                for account, each in accounts.items()
            ]
    except FleekError as error:
        return [unreachable("provider", str(error))]


async def _answer(provider: Provider, name: str, model: str | None) -> Finding:
    try:
        return await diagnosis.check_provider(provider, name, model=model)
    except FleekError as error:
        return unreachable("provider", str(error) if "#" not in name else f"{name}: {error}")


async def _models(settings: Settings) -> list[Finding]:
    """Read the catalogue, with the operator's own models."""
    try:
        catalogue = read_catalogue(settings.models_file, settings.model_aliases)
    except ConfigurationError as error:
        return [Finding("models", "error", str(error), "correct it: the service does not start")]
    usable = sum(
        any(route.provider in settings.providers for route in model.routes)
        for model in catalogue.models.values()
    )
    message = f"{usable} of {len(catalogue.models)} models of the catalogue have a provider here"
    return [Finding("models", "ok", message)]


async def _proxy(settings: Settings) -> list[Finding]:
    """Name a proxy variable that has no effect, and the settings that have one."""
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


async def _dispatcher(settings: Settings) -> list[Finding]:
    async with open_dispatcher(settings) as dispatcher:
        return [await diagnosis.check_dispatcher(dispatcher, settings.dispatch)]


async def _port(settings: Settings) -> list[Finding]:
    place = f"{settings.api_host}:{settings.api_port}"
    if _free(settings.api_host, settings.api_port):
        return [Finding("port", "ok", f"{place} is free; the service is not running")]
    url = settings.local_base
    async with AsyncClient(
        url, api_key="", timeout=ANSWER_SECONDS, retry_policy=RetryPolicy(attempts=1)
    ) as client:
        try:
            health = await client.health()
        except Unauthorized:  # on an address that is not loopback
            return [Finding("port", "ok", f"a service that needs a key is running on {place}")]
        except FleekError:
            health = {}
    if health.get("service") != "fleek-media-service":
        message = f"{place} is used by a program other than fleek"
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
    if settings.api_host not in LOOPBACK and not await _has_keys(settings):
        findings.append(_unprotected(settings))
    public, media = urlsplit(settings.public_base), urlsplit(settings.media_base)
    if public.hostname not in LOOPBACK and public.netloc == media.netloc:
        message = f"media are served from the API's own origin, {public.netloc}"
        advice = "set STORAGE_BASE_URL to another host name that leads here"
        findings.append(warning("media", message, advice))
    return findings or [Finding("access", "ok", "no unprotected access")]


def _unprotected(settings: Settings) -> Finding:
    place = f"{settings.api_host}:{settings.api_port}"
    if settings.allow_anonymous:
        message = f"anyone who reaches {place} may use it"
        return warning("access", message, "create a key with fleek keys create")
    message = f"fleek serve will not listen on {place}: there are no keys"
    return Finding(
        "access", "error", message, "create a key with fleek keys create, or set API_KEYS"
    )


async def _has_keys(settings: Settings) -> bool:
    if settings.configured_keys:
        return True
    path = _file(settings)
    if path is not None and not path.exists():
        return False
    async with open_database(settings.database_url, patience=PATIENCE) as db:
        await reach(db)
        return await up_to_date(db) and await api_keys.exist(db)


CHECKS: Final[Mapping[str, Check]] = {
    "version": _versions,
    "settings": _renamed,
    "clock": _clock,
    "database": _database,
    "storage": _storage,
    "provider": _provider,
    "models": _models,
    "proxy": _proxy,
    "dispatcher": _dispatcher,
    "port": _port,
    "access": _exposure,
}
