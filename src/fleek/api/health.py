"""Is it well? Every part is really asked, all at once, and none for longer than two seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Response
from fastapi.requests import Request
from pydantic import BaseModel, Field

from fleek import __version__
from fleek.api.deps import RuntimeDep
from fleek.api.errors import explain
from fleek.api.short_cache import ShortCache
from fleek.diagnosis import (
    ADVICE,
    Finding,
    Status,
    abandoned,
    clock,
    coordination,
    crew,
    durability,
    line,
    results,
    trouble,
)
from fleek.domain.errors import FleekError, StorageFull
from fleek.engine.coordinator import ROLE
from fleek.engine.runtime import Runtime
from fleek.providers.base import time_at
from fleek.store import attempts, provider_health, queue, workers
from fleek.store.counters import count_jobs
from fleek.store.workers import Worker
from fleek.system_clock import wall_time

SERVICE: Final = "fleek-media-service"
PATIENCE_SECONDS: Final = 2.0

State = Literal["healthy", "degraded", "unhealthy"]
Probe = Callable[[Runtime], Awaitable[Finding]]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["healthy"] = "healthy"
    service: str = SERVICE
    version: str = __version__


class Check(BaseModel):
    """What was found out about one part."""

    status: Literal["healthy", "warning", "unhealthy"] = Field(
        description="`warning`: it works, and something about it should be changed."
    )
    message: str
    advice: str | None = Field(description="What to do about it; null if nothing.")
    latency_ms: float


class Checks(BaseModel):
    """Every part that jobs need."""

    database: Check
    clock: Check
    dispatcher: Check
    storage: Check
    workers: Check
    coordinator: Check
    queue: Check
    results: Check
    provider: Check


class Health(BaseModel):
    """Whether jobs are accepted, and whether they would be done."""

    status: State = Field(
        description="`unhealthy`: jobs are not accepted; `degraded`: they are, and may have to wait."
    )
    service: str = SERVICE
    version: str = __version__
    timestamp: datetime
    checks: Checks


router = APIRouter(tags=["system"])  # not strict: monitors add parameters of their own

ALIVE: Final[Mapping[str, Any]] = {
    "summary": "Does the process answer?",
    "response_description": "It does.",
}
WELL: Final[Mapping[str, Any]] = {
    "response_description": "Jobs are accepted.",
    "responses": {503: {"model": Health, "description": "Jobs are not accepted."}},
}


@router.get("/health", operation_id="health", **ALIVE)
@router.get("/health-check", operation_id="health_check", **ALIVE)
@router.get("/livez", operation_id="livez", **ALIVE)
async def alive() -> Alive:
    """Answer without asking anything else."""
    return Alive()


@router.get(
    "/health/detailed",
    operation_id="health_detailed",
    summary="Are all parts well?",
    **WELL,
)
@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Are jobs accepted?",
    **WELL,
)
async def health(request: Request, rt: RuntimeDep, response: Response) -> Health:
    """Ask every part, once a second at most. 503 only if no job could be accepted now."""
    shared: ShortCache[Health] = request.app.state.health
    found = await shared.get(lambda: _examine(rt))
    if found.status == "unhealthy":
        response.status_code = 503
    return found


async def _examine(rt: Runtime) -> Health:
    asked = await asyncio.gather(
        *(_ask(rt, part, probe, seconds=PATIENCE_SECONDS) for part, probe in PROBES.items())
    )
    checks = {part: one.check for part, one in zip(PROBES, asked, strict=True)}
    return Health(status=_overall(asked), timestamp=rt.now(), checks=Checks(**checks))


class Asked(NamedTuple):
    """What asking one part brought."""

    check: Check
    blocks: bool  # no job can be accepted until it is well


def _overall(asked: Sequence[Asked]) -> State:
    if any(one.blocks for one in asked):
        return "unhealthy"
    if any(one.check.status == "unhealthy" for one in asked):
        return "degraded"
    return "healthy"


async def _ask(rt: Runtime, part: str, probe: Probe, *, seconds: float) -> Asked:
    began = perf_counter()
    blocks = part == "database"
    try:
        async with asyncio.timeout(seconds):
            found = await probe(rt)
        blocks = False
    except TimeoutError:
        found = Finding(part, "error", f"no answer within {seconds:g} s", ADVICE.get(part, ""))
    except FleekError as error:
        found = Finding(part, "error", explain(error), ADVICE.get(part, ""))
        blocks = blocks or isinstance(error, StorageFull)
    check = Check(
        status=STATUS[found.status],
        message=found.message,
        advice=found.advice or None,
        latency_ms=round((perf_counter() - began) * 1000, 2),
    )
    return Asked(check, blocks)


async def _database(rt: Runtime) -> Finding:
    await rt.db.check()
    return durability(await rt.db.facts())


async def _clock(rt: Runtime) -> Finding:
    there = {name: time_at(provider) for name, provider in rt.providers.items()}
    wall = wall_time()
    return clock(rt.clock.ahead, {name: wall - told for name, told in there.items() if told})


async def _dispatcher(rt: Runtime) -> Finding:
    await rt.dispatcher.check()
    return Finding("dispatcher", "ok", f"{rt.settings.dispatch}: jobs can be dispatched")


async def _storage(rt: Runtime) -> Finding:
    await rt.storage.check()
    return Finding("storage", "ok", f"{rt.settings.storage_backend}: files can be written")


async def _workers(rt: Runtime) -> Finding:
    return crew(await _alive(rt))


async def _coordinator(rt: Runtime) -> Finding:
    held_by = await workers.holder(rt.db, ROLE, now=rt.now())
    return coordination(held_by, await _alive(rt))


async def _queue(rt: Runtime) -> Finding:
    return line(await count_jobs(rt.db, now=rt.now()))


async def _results(rt: Runtime) -> Finding:
    return results(await queue.postponed(rt.db))


async def _alive(rt: Runtime) -> Sequence[Worker]:
    return await workers.alive(rt.db, since=rt.now() - rt.lease.dead_after)


async def _provider(rt: Runtime) -> Finding:
    for account in await provider_health.impaired(rt.db, now=rt.now()):
        if account.model == provider_health.ALL_MODELS and account.is_paused:
            return replace(trouble(account), status="error")
    name = rt.settings.provider
    provider = rt.providers[name]
    if await provider.schema(provider.default_model) is None:
        message = f"{name} does not show its default model now"
        return Finding("provider", "error", message, ADVICE["provider"])
    left = abandoned(await attempts.count_without_verdict(rt.db), known=rt.providers)
    if left:
        message = "; ".join(one.message for one in left)
        return replace(left[0], message=message, advice="; ".join(one.advice for one in left))
    return Finding("provider", "ok", f"{name} knows its default model")


STATUS: Final[Mapping[Status, Literal["healthy", "warning", "unhealthy"]]] = {
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
