"""Version 1: the queue of the installation, for operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from fastapi.requests import Request
from pydantic import BaseModel, ConfigDict, Field

from fleek.api.deps import RuntimeDep, actor
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable, TooLarge, Unreadable, Unsupported
from fleek.domain.job import MODEL_NAME
from fleek.engine import queue
from fleek.engine.runtime import Runtime
from fleek.schemas.base import Schema
from fleek.store import queue_pauses
from fleek.store.counters import JobCounts, count_jobs
from fleek.store.queue_pauses import QueuePause

router = strict_router("/api/v1", tag="system")


class QueuePart(BaseModel):
    """A part of the queue; without a field, all of it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"provider": "placeholder"}, {}]},
    )

    provider: str | None = Field(
        default=None, min_length=1, max_length=100, description="Only jobs of this provider."
    )
    model: str | None = Field(
        default=None, pattern=f"^{MODEL_NAME.pattern}$", description="Only jobs of this model."
    )


class PauseRead(Schema):
    """A pause by an operator."""

    provider: str | None = Field(description="Null: every provider.")
    model: str | None = Field(description="Null: every model.")
    since: datetime


class QueueRead(Schema):
    """The queue of all tenants."""

    pending: int = Field(description="Due jobs that wait to be started.")
    processing: int
    paused: list[PauseRead]

    @classmethod
    def of(cls, counts: JobCounts, pauses: Sequence[QueuePause]) -> Self:
        """Present the queue."""
        paused = [
            PauseRead(
                provider=pause.provider or None, model=pause.model or None, since=pause.since
            )
            for pause in pauses
        ]
        return cls(pending=counts.queue_depth, processing=counts.in_flight, paused=paused)


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
    return QueueRead.of(counts, await queue_pauses.read(rt.db))
