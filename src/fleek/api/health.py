"""Health over HTTP: every part is checked, all at once, each within two seconds."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from fastapi import Response
from fastapi.requests import Request
from pydantic import Field

from fleek import __version__, diagnosis
from fleek.api.deps import RuntimeDep
from fleek.api.errors import explain
from fleek.api.routing import lenient_router
from fleek.api.short_cache import ShortCache
from fleek.diagnosis import Finding, Status, unreachable
from fleek.domain.access import Scope
from fleek.domain.errors import FleekError, StorageFull
from fleek.engine.accounts import accounts_of
from fleek.engine.coordinator import ROLE
from fleek.engine.runtime import Runtime
from fleek.providers.base import time_at
from fleek.schemas.base import Schema
from fleek.store import workers
from fleek.store.workers import Worker
from fleek.system_clock import wall_time

SERVICE: Final = "fleek-media-service"
TIMEOUT_SECONDS: Final = 2.0

State = Literal["healthy", "degraded", "unhealthy"]
Level = Literal["healthy", "warning", "unhealthy"]
Probe = Callable[[Runtime], Awaitable[Finding]]


class Alive(Schema):
    """The process is running."""

    status: Literal["healthy"] = "healthy"
    service: str = SERVICE
    version: str = __version__


class Check(Schema):
    """The result of the check of one part."""

    status: Level = Field(
        description="`warning`: it works, and something about it should be changed."
    )
    message: str
    advice: str | None = Field(description="What to do about it; null if nothing.")
    latency_ms: float


class Checks(Schema):
    """One check for each part that jobs need."""

    database: Check
    clock: Check
    dispatcher: Check
    storage: Check
    workers: Check
    coordinator: Check
    queue: Check
    results: Check
    provider: Check


class WorkerRead(Schema):
    """A process that works, without its host and its process id: the log has them, by the id."""

    id: UUID
    version: str
    coordinator: bool = Field(description="Whether it coordinates: one worker at a time does.")
    here: bool = Field(
        description="Whether it is the process that answers, which serves the API and works."
    )
    jobs: int = Field(description="Jobs that it starts or collects now.")
    slots: int = Field(description="How many jobs it can start or collect at once.")
    started_at: datetime
    heartbeat_at: datetime


class Health(Schema):
    """Whether jobs are accepted, and whether they can be processed now."""

    status: State = Field(
        description="`unhealthy`: jobs are not accepted; `degraded`: they are accepted and may have to wait."
    )
    service: str = SERVICE
    version: str = __version__
    timestamp: datetime
    checks: Checks
    workers: list[WorkerRead] | None = Field(
        description="The workers that are alive, the oldest first; null: they cannot be read now. A process "
        "that only serves the API is not among them."
    )


class Readiness(Schema):
    """Whether jobs are accepted. Anybody may read it, so it has no messages."""

    status: State = Field(
        description="`unhealthy`: jobs are not accepted; `degraded`: they are accepted and may have to wait."
    )
    checks: dict[str, Level] = Field(
        description="The status of each part; `/health/detailed` has the messages."
    )


router = lenient_router(tag="system")  # monitors add parameters of their own

LIVENESS: Final[Mapping[str, Any]] = {
    "summary": "Liveness",
    "response_description": "The process is running.",
}
ACCEPTED: Final = "Jobs are accepted."
REFUSED: Final = "Jobs are not accepted."


@router.get("/health", scope=None, operation_id="health", **LIVENESS)
@router.get("/health-check", scope=None, operation_id="health_check", **LIVENESS)
@router.get("/livez", scope=None, operation_id="livez", **LIVENESS)
async def alive() -> Alive:
    """Answer 200 as long as the process runs. Nothing else is checked."""
    return Alive()


@router.get(
    "/health/detailed",
    scope=Scope.METRICS_READ,
    operation_id="health_detailed",
    summary="Detailed health",
    response_description=ACCEPTED,
    responses={503: {"model": Health, "description": REFUSED}},
)
async def detailed(request: Request, rt: RuntimeDep, response: Response) -> Health:
    """Check every part, at most once a second. 503 only if no job can be accepted now."""
    return await _current(request, rt, response)


@router.get(
    "/readyz",
    scope=None,
    operation_id="readyz",
    summary="Readiness",
    response_description=ACCEPTED,
    responses={503: {"model": Readiness, "description": REFUSED}},
)
async def readyz(request: Request, rt: RuntimeDep, response: Response) -> Readiness:
    """Check every part as `/health/detailed` does; the response has only their statuses."""
    current = await _current(request, rt, response)
    checks = {part: check.status for part, check in current.checks}
    return Readiness(status=current.status, checks=checks)


async def _current(request: Request, rt: Runtime, response: Response) -> Health:
    cache: ShortCache[Health] = request.app.state.health
    current = await cache.get(lambda: _examine(rt))
    if current.status == "unhealthy":
        response.status_code = 503
    return current


async def _examine(rt: Runtime) -> Health:
    listed = asyncio.create_task(_list_workers(rt, seconds=TIMEOUT_SECONDS))
    results = await asyncio.gather(
        *(_run(rt, part, probe, seconds=TIMEOUT_SECONDS) for part, probe in PROBES.items())
    )
    checks = {part: result.check for part, result in zip(PROBES, results, strict=True)}
    return Health(
        status=_overall(results),
        timestamp=rt.now(),
        checks=Checks(**checks),
        workers=await listed,
    )


async def _list_workers(rt: Runtime, *, seconds: float) -> list[WorkerRead] | None:
    """Return the workers that are alive; None if the database does not answer."""
    try:
        async with asyncio.timeout(seconds):
            alive, held = await _alive(rt), await workers.held_jobs(rt.db)
            coordinator = await workers.holder(rt.db, ROLE, now=rt.now())
    except (TimeoutError, FleekError):
        return None  # the check of the database says why
    return [
        WorkerRead(
            id=worker.id,
            version=worker.version,
            coordinator=worker.id == coordinator,
            here=rt.lease.is_own(worker.id),
            jobs=held.get(worker.id, 0),
            slots=worker.slots,
            started_at=worker.started_at,
            heartbeat_at=worker.heartbeat_at,
        )
        for worker in alive
    ]


class Result(NamedTuple):
    """The result of one probe."""

    check: Check
    blocks: bool  # no job can be accepted because of it


def _overall(results: Sequence[Result]) -> State:
    if any(result.blocks for result in results):
        return "unhealthy"
    if any(result.check.status == "unhealthy" for result in results):
        return "degraded"
    return "healthy"


async def _run(rt: Runtime, part: str, probe: Probe, *, seconds: float) -> Result:
    started = perf_counter()
    blocks = part == "database"
    try:
        async with asyncio.timeout(seconds):
            finding = await probe(rt)
        blocks = False
    except TimeoutError:
        finding = unreachable(part, f"no answer within {seconds:g} s")
    except FleekError as error:
        finding = unreachable(part, explain(error))
        blocks = blocks or isinstance(error, StorageFull)
    check = Check(
        status=STATUS[finding.status],
        message=finding.message,
        advice=finding.advice or None,
        latency_ms=round((perf_counter() - started) * 1000, 2),
    )
    return Result(check, blocks)


async def _database(rt: Runtime) -> Finding:
    return await diagnosis.check_database(rt.db)


async def _clock(rt: Runtime) -> Finding:
    wall = wall_time()
    times = {name: time_at(provider) for name, provider in rt.providers.items()}
    ahead = {name: wall - time for name, time in times.items() if time is not None}
    return diagnosis.judge_clock(rt.clock.ahead, ahead)


async def _dispatcher(rt: Runtime) -> Finding:
    return await diagnosis.check_dispatcher(rt.dispatcher, rt.settings.dispatch)


async def _storage(rt: Runtime) -> Finding:
    return await diagnosis.check_storage(rt.storage, rt.settings.storage_backend)


async def _workers(rt: Runtime) -> Finding:
    return diagnosis.judge_workers(await _alive(rt))


async def _coordinator(rt: Runtime) -> Finding:
    return await diagnosis.check_coordinator(rt.db, await _alive(rt), now=rt.now())


async def _queue(rt: Runtime) -> Finding:
    return await diagnosis.check_queue(rt.db, now=rt.now())


async def _results(rt: Runtime) -> Finding:
    return await diagnosis.check_results(rt.db)


async def _provider(rt: Runtime) -> Finding:
    """A provider of which nothing can be had now is an error here: its jobs have to wait."""
    pauses = await diagnosis.check_pauses(rt.db, now=rt.now(), models=False)
    if pauses:
        return _worst(rt, pauses)
    name = rt.settings.provider
    default = rt.settings.default_model
    finding = await diagnosis.check_provider(rt.providers[name], name, model=default)
    if finding.status != "ok":
        return replace(finding, status="error")
    removed = await diagnosis.check_removed_providers(rt.db, known=rt.providers)
    if not removed:
        return finding
    message = "; ".join(found.message for found in removed)
    return replace(
        removed[0], message=message, advice="; ".join(found.advice for found in removed)
    )


def _worst(rt: Runtime, pauses: Sequence[Finding]) -> Finding:
    """Return the pause that stops a provider, as an error, else that of one of several accounts."""
    accounts = Counter(pause.subject.partition("#")[0] for pause in pauses)
    for pause in pauses:
        name, _, account = pause.subject.partition("#")
        if not account or name not in rt.providers or accounts[name] >= len(accounts_of(rt, name)):
            return replace(pause, status="error")
    return replace(pauses[0], status="warning")


async def _alive(rt: Runtime) -> Sequence[Worker]:
    return await workers.alive(rt.db, since=rt.now() - rt.lease.dead_after)


STATUS: Final[Mapping[Status, Level]] = {
    "ok": "healthy",
    "warning": "warning",
    "error": "unhealthy",
}

PROBES: Final[Mapping[str, Probe]] = {
    "database": _database,
    "clock": _clock,
    "dispatcher": _dispatcher,
    "storage": _storage,
    "workers": _workers,
    "coordinator": _coordinator,
    "queue": _queue,
    "results": _results,
    "provider": _provider,
}
