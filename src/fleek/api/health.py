"""Is it well? Every part is really asked, all at once, and none for longer than two seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any, Final, Literal, NamedTuple

from fastapi import Response
from pydantic import BaseModel, Field

from fleek import __version__
from fleek.api.deps import RuntimeDep
from fleek.api.errors import explain
from fleek.api.routing import router as strict_router
from fleek.domain.errors import FleekError, StorageFull
from fleek.engine.runtime import Runtime
from fleek.providers.base import PAYMENT_REQUIRED, UNAUTHORIZED
from fleek.store import accounts, workers

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
async def health(rt: RuntimeDep, response: Response) -> Health:
    """Ask every part. 503 only if no job could be accepted now."""
    findings = await asyncio.gather(*(_ask(rt, probe) for probe in PROBES.values()))
    checks = {name: one.check for name, one in zip(PROBES, findings, strict=True)}
    status = _overall(findings)
    if status == "unhealthy":
        response.status_code = 503
    return Health(status=status, timestamp=rt.now(), checks=Checks(**checks))


class Finding(NamedTuple):
    """What asking one part brought."""

    check: Check
    blocks: bool  # no job can be accepted until it is well


def _overall(findings: Sequence[Finding]) -> State:
    if any(one.blocks for one in findings):
        return "unhealthy"
    if any(one.check.status == "unhealthy" for one in findings):
        return "degraded"
    return "healthy"


async def _ask(rt: Runtime, probe: Probe, *, seconds: float = PATIENCE_SECONDS) -> Finding:
    began = perf_counter()
    status: Literal["healthy", "unhealthy"] = "unhealthy"
    blocks = probe is _database
    try:
        async with asyncio.timeout(seconds):
            message = await probe(rt)
        status, blocks = "healthy", False
    except TimeoutError:
        message = f"No answer within {seconds:g} s."
    except StorageFull as error:
        message, blocks = explain(error), True
    except FleekError as error:
        message = explain(error)
    latency_ms = round((perf_counter() - began) * 1000, 2)
    return Finding(Check(status=status, message=message, latency_ms=latency_ms), blocks)


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
    for account in await accounts.troubled(rt.db, now=rt.now()):
        if account.model == accounts.WHOLE and account.paused_until is not None:
            raise PAUSES.get(account.reason, ProviderPaused)(account.reason)
    name = rt.settings.provider
    provider = rt.providers[name]
    if await provider.schema(provider.default_model) is None:
        raise ModelsUnseen("the default model cannot be seen")
    return f"{name} knows its default model."


class NoWorker(FleekError):
    """No worker is alive: jobs are accepted and wait."""


class ModelsUnseen(FleekError):
    """The provider does not show its models now: jobs are accepted and may have to wait."""


class ProviderPaused(FleekError):
    """A provider takes no purchases for now: jobs are accepted and wait."""


class ProviderUnpaid(ProviderPaused):
    """A provider wants to be paid: jobs are accepted and wait until somebody has."""


class ProviderUnauthorized(ProviderPaused):
    """A provider refuses the token: jobs are accepted and wait until a valid one is set."""


PAUSES: Final[Mapping[str, type[ProviderPaused]]] = {
    PAYMENT_REQUIRED: ProviderUnpaid,
    UNAUTHORIZED: ProviderUnauthorized,
}

PROBES: Final[Mapping[str, Probe]] = {
    "database": _database,
    "dispatcher": _dispatcher,
    "storage": _storage,
    "workers": _workers,
    "provider": _provider,
}
