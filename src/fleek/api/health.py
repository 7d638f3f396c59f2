"""Is it well? Every part is really asked, all at once, and none for longer than two seconds."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import perf_counter
from typing import Final, Literal

from fastapi import Response
from pydantic import BaseModel, Field

from fleek import __version__
from fleek.api.deps import RuntimeDep
from fleek.api.errors import explain
from fleek.api.routing import router as strict_router
from fleek.domain.errors import FleekError
from fleek.engine.runtime import Runtime
from fleek.store import workers

SERVICE: Final = "fleek-media-service"
PATIENCE_SECONDS: Final = 2.0

State = Literal["healthy", "degraded", "unhealthy"]
Probe = Callable[[Runtime], Awaitable[str]]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["healthy"] = "healthy"
    service: str = SERVICE
    version: str = __version__


class Check(BaseModel):
    """What was found out about one part."""

    status: Literal["healthy", "unhealthy"]
    message: str
    latency_ms: float


class Checks(BaseModel):
    """Every part that jobs need."""

    database: Check
    dispatcher: Check
    storage: Check
    workers: Check
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


router = strict_router(tag="system")


@router.get("/health", operation_id="health", summary="Does the process answer?")
@router.get("/health-check", operation_id="health_check", summary="Does the process answer?")
@router.get("/livez", operation_id="livez", summary="Does the process answer?")
async def alive() -> Alive:
    """Answer without asking anything else."""
    return Alive()


@router.get(
    "/health/detailed",
    operation_id="health_detailed",
    summary="Are all parts well?",
    responses={503: {"model": Health, "description": "Jobs are not accepted."}},
)
@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Are jobs accepted?",
    responses={503: {"model": Health, "description": "Jobs are not accepted."}},
)
async def health(rt: RuntimeDep, response: Response) -> Health:
    """Ask every part. 503 only if no job could be accepted now."""
    database, dispatcher, storage, alive_workers, provider = await asyncio.gather(
        *(_asked(rt, probe) for probe in (_database, _dispatcher, _storage, _workers, _provider))
    )
    checks = Checks(
        database=database,
        dispatcher=dispatcher,
        storage=storage,
        workers=alive_workers,
        provider=provider,
    )
    status = _overall(checks)
    if status == "unhealthy":
        response.status_code = 503
    return Health(status=status, timestamp=rt.now(), checks=checks)


def _overall(checks: Checks) -> State:
    if checks.database.status == "unhealthy":
        return "unhealthy"  # the only part without which a job cannot be accepted
    found = {check.status for _, check in checks}
    return "degraded" if "unhealthy" in found else "healthy"


async def _asked(rt: Runtime, probe: Probe) -> Check:
    began = perf_counter()
    status: Literal["healthy", "unhealthy"] = "unhealthy"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await probe(rt)
        status = "healthy"
    except TimeoutError:
        message = f"No answer within {PATIENCE_SECONDS:.0f} s."
    except FleekError as error:
        message = explain(error)
    return Check(
        status=status, message=message, latency_ms=round((perf_counter() - began) * 1000, 2)
    )


async def _database(rt: Runtime) -> str:
    await rt.db.check()
    return "A transaction was committed."


async def _dispatcher(rt: Runtime) -> str:
    await rt.dispatcher.check()
    return "Jobs can be dispatched."


async def _storage(rt: Runtime) -> str:
    await rt.storage.check()
    return "Files can be written."


async def _workers(rt: Runtime) -> str:
    found = await workers.alive(rt.db, since=rt.now() - rt.pulse.silence)
    if not found:
        raise NoWorker("no worker has been heard")
    return f"{len(found)} alive."


async def _provider(rt: Runtime) -> str:
    name = rt.settings.provider
    provider = rt.providers[name]
    if await provider.schema(provider.default_model) is None:
        raise ModelsUnseen("the default model cannot be seen")
    return f"{name} knows its default model."


class NoWorker(FleekError):
    """No worker is alive: jobs are accepted and wait."""


class ModelsUnseen(FleekError):
    """The provider does not show its models now: jobs are accepted and may have to wait."""
