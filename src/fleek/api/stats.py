"""Version 1: statistics of jobs."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from fastapi import Query
from fastapi.requests import Request
from pydantic import Field

from fleek.api.deps import RuntimeDep, StrictInt, caller
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable
from fleek.schemas.base import Schema
from fleek.store import workers
from fleek.store.statistics import Durations, Statistics, statistics

MAX_WINDOW: Final = 31 * 24 * 60 * 60  # seconds

router = strict_router("/api/v1", tag="system")


class DurationsRead(Schema):
    """Some ended jobs, and how long they took from their first start to their end."""

    jobs: int
    median_seconds: float | None = Field(description="Null: none of them was started.")
    p95_seconds: float | None

    @classmethod
    def of(cls, durations: Durations) -> Self:
        """Present them."""
        return cls(
            jobs=durations.jobs,
            median_seconds=durations.median_seconds,
            p95_seconds=durations.p95_seconds,
        )


class StatsRead(Schema):
    """What has become of jobs lately."""

    since: datetime = Field(description="Jobs that ended at this time or later.")
    ended: DurationsRead
    jobs_per_minute: float = Field(description="Jobs that ended, per minute since `since`.")
    bytes: int = Field(description="Size of the files of these jobs.")
    by_status: Mapping[str, DurationsRead]
    by_model: Mapping[str, DurationsRead]
    by_provider: Mapping[str, DurationsRead]
    pending: int = Field(description="Jobs that wait now; up to 10,000 are counted.")
    processing: int = Field(description="Jobs that are processing now; counted likewise.")
    oldest_pending_seconds: float | None = Field(
        description="Since the oldest pending job was created, one for later included."
    )
    workers: int = Field(description="Workers that are alive.")

    @classmethod
    def of(cls, found: Statistics, *, now: datetime, workers: int) -> Self:
        """Present statistics."""
        oldest = found.oldest_pending_at
        minutes = max((now - found.since).total_seconds(), 1) / 60
        return cls(
            since=found.since,
            ended=DurationsRead.of(found.ended),
            jobs_per_minute=round(found.ended.jobs / minutes, 3),
            bytes=found.size_bytes,
            by_status=_presented(found.by_status),
            by_model=_presented(found.by_model),
            by_provider=_presented(found.by_provider),
            pending=found.pending,
            processing=found.processing,
            oldest_pending_seconds=None if oldest is None else (now - oldest).total_seconds(),
            workers=workers,
        )


def _presented(groups: Mapping[str, Durations]) -> dict[str, DurationsRead]:
    return {name: DurationsRead.of(durations) for name, durations in groups.items()}


@router.get(
    "/stats",
    scope=Scope.JOBS_READ,
    operation_id="get_stats",
    summary="Statistics",
    response_description="The statistics.",
    responses=problems(DatabaseUnavailable),
)
async def get_stats(
    rt: RuntimeDep,
    request: Request,
    window: Annotated[
        int,
        StrictInt,
        Query(ge=60, le=MAX_WINDOW, description="Seconds that are looked back."),
    ] = 3600,
) -> StatsRead:
    """Return how many jobs ended lately, and how long they took.

    The latest 5,000 ended jobs are looked at; `since` says from when on.
    """
    now = rt.now()
    since = now - timedelta(seconds=window)
    found = await statistics(rt.db, tenant_id=caller(request).tenant_id, since=since)
    return StatsRead.of(found, now=now, workers=len(await workers.running(rt.db)))
