"""Version 1: the queue of the installation, for operators."""

from fastapi.requests import Request

from fleek.api.deps import RuntimeDep, actor
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable, TooLarge, Unreadable, Unsupported
from fleek.engine import queue
from fleek.engine.runtime import Runtime
from fleek.schemas.queue import PauseRead, QueuePart, QueueRead
from fleek.store import queue_pauses
from fleek.store.counters import count_jobs

router = strict_router("/api/v1", tag="system")


@router.get(
    "/queue",
    scope=Scope.ADMIN,
    operation_id="get_queue",
    summary="Get the queue",
    response_description="The queue.",
    responses=problems(DatabaseUnavailable),
)
async def get_queue(rt: RuntimeDep) -> QueueRead:
    """Return how many jobs of all tenants wait, and what is paused."""
    return await _read(rt)


@router.post(
    "/queue/pause",
    scope=Scope.ADMIN,
    operation_id="pause_queue",
    summary="Pause the queue",
    response_description="The queue.",
    responses=problems(Unreadable, TooLarge, Unsupported, DatabaseUnavailable),
)
async def pause_queue(body: QueuePart, rt: RuntimeDep, request: Request) -> QueueRead:
    """Start no more predictions of this part, until it is resumed; also across restarts.

    Jobs are still accepted, and running predictions are collected. Workers follow with their next
    heartbeat.
    """
    await queue.pause(rt, body.provider, body.model, by=actor(request))
    return await _read(rt)


@router.post(
    "/queue/resume",
    scope=Scope.ADMIN,
    operation_id="resume_queue",
    summary="Resume the queue",
    response_description="The queue.",
    responses=problems(Unreadable, TooLarge, Unsupported, DatabaseUnavailable),
)
async def resume_queue(body: QueuePart, rt: RuntimeDep, request: Request) -> QueueRead:
    """End the pause of exactly this part; other pauses stay. Without a pause it has no effect."""
    await queue.resume(rt, body.provider, body.model, by=actor(request))
    return await _read(rt)


async def _read(rt: Runtime) -> QueueRead:
    counts = await count_jobs(rt.db, now=rt.now())
    paused = [
        PauseRead(provider=pause.provider or None, model=pause.model or None, since=pause.since)
        for pause in await queue_pauses.read(rt.db)
    ]
    return QueueRead(pending=counts.queue_depth, processing=counts.in_flight, paused=paused)
