"""Failover: a job goes on at its next route when this one is certain not to be paid for any more.

That is the case when no prediction was created and none will be soon, and when a prediction has ended
without a result. While an outcome is unknown, or a prediction runs, the job stays where it is.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from fleek.domain.attempt import Attempt
from fleek.domain.errors import FleekError
from fleek.domain.job import Change, Job, JobError, JobId, Status
from fleek.domain.routing import Route
from fleek.domain.transitions import defer, fail, reroute
from fleek.engine.apply import apply
from fleek.engine.backlog import PageWalk
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.providers.base import RATE_LIMITED
from fleek.store import queue
from fleek.store.updates import Update

SHARED: Final = frozenset(
    {
        "content_flagged",
        "prediction_cancelled",
        "prediction_gone",
        "output_expired",
        "worker_crashed",
    }
)
"""Codes of failures that another provider may share, or after which there may be a paid result."""

PAGE: Final = 200  # jobs per provider and turn
IDLE: Final = timedelta(seconds=1)
REST: Final = timedelta(seconds=0.1)  # while there is more to do
REMOVED: Final = JobError(
    "provider_not_configured", "the provider is not configured here any more"
)

log = structlog.get_logger(__name__)


def refused(rt: Runtime, job: Job, error: JobError) -> Change:
    """Return what follows when a provider has refused a job for good: nothing was paid for."""
    to = None if error.code in SHARED else _next(rt, job, leaving=True)
    if to is None:
        return fail(job, error, retryable=False, now=rt.now(), backoff=rt.settings.backoff)
    return _reroute(rt, job, to, error, closed=True)


def unavailable(
    rt: Runtime, job: Job, error: FleekError, *, floor: timedelta | None = None
) -> Change:
    """Return what follows when no prediction was created, and another try may help.

    The job goes on elsewhere if this route is paused for longer; else it tries again, not before
    `floor` has passed.
    """
    pause = _pause(rt, job, now=rt.now())
    to = None if pause is None else _next(rt, job, leaving=False)
    if to is None:
        return defer(job, error, now=rt.now(), backoff=rt.settings.backoff, floor=floor)
    return _reroute(rt, job, to, JobError(error.code, str(error)))


def failed(rt: Runtime, job: Job, error: JobError, *, retryable: bool) -> Change:
    """Return what follows when the prediction has ended without a result.

    While attempts are left, the next one is elsewhere, unless another provider may share the reason.
    """
    elsewhere = job.attempt < job.max_attempts and (retryable or error.code not in SHARED)
    to = _next(rt, job, leaving=not retryable) if elsewhere else None
    if to is None:
        return fail(job, error, retryable=retryable, now=rt.now(), backoff=rt.settings.backoff)
    return _reroute(rt, job, to, error, closed=not retryable)


def _reroute(rt: Runtime, job: Job, to: int, error: JobError, *, closed: bool = False) -> Change:
    """Go on at once where the job has not been yet, else after a pause."""
    now = rt.now()
    assert job.routing is not None
    again = job.routing.was_tried(to)
    wait = rt.settings.backoff.delay(job.retries + job.deferrals + 1) if again else timedelta(0)
    return reroute(job, to, error, now=now, run_at=now + wait, closed=closed)


def _next(rt: Runtime, job: Job, *, leaving: bool) -> int | None:
    if job.routing is None:
        return None
    return job.routing.next(partial(_is_open, rt), leaving=leaving)


def _is_open(rt: Runtime, route: Route) -> bool:
    """Whether a job can be started on a route now, as far as this process knows."""
    if route.provider not in rt.providers or rt.pauses.is_exhausted(route.provider):
        return False
    return not rt.pauses.is_paused(route.provider, route.model, now=rt.now())


def _pause(rt: Runtime, job: Job, *, now: datetime) -> JobError | None:
    """Return why a job should not wait for its current route; None: it should.

    An account that needs its operator, a circuit that has opened, a limit that lasts too long. What
    an operator has paused is not left: jobs are meant to wait.
    """
    if job.provider not in rt.providers:
        return REMOVED
    after = rt.settings.failover_after_seconds
    health = rt.pauses.for_model(job.provider, job.model)
    ends = [(one.reason, one.paused_until) for one in health if one.paused_until is not None]
    paused = [(reason, until - now) for reason, until in ends if until > now]
    for reason, lasting in paused:
        if reason != RATE_LIMITED or lasting > after:
            return JobError(reason, f"{job.provider} is paused: {reason}")
    waited = job.status is Status.PENDING and now - job.run_at > after
    if waited and (paused or rt.pauses.is_exhausted(job.provider)):
        return JobError(RATE_LIMITED, f"{job.provider} has been at its limit for too long")
    return None


class Failover:
    """The turns of the loop that lets waiting jobs go on elsewhere, during one leadership."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._walks: dict[str, PageWalk] = {}

    async def turn(self) -> timedelta:
        """Reroute due jobs whose provider cannot start them; returns the time until the next turn."""
        rt, moved, more = self._rt, 0, False
        for name in await self._impaired():
            walk = self._walks.setdefault(name, PageWalk(PAGE))
            for _, job_id in await walk.page(partial(self._read, name), lambda place: place):
                moved += bool(await run_logged(rt, "failover", partial(_move_on, rt, job_id)))
            more = more or walk.more
        if moved:
            rt.wakeups.notify("admit")
        return REST if more and moved else IDLE

    async def _impaired(self) -> list[str]:
        """Return the providers that may have jobs to be moved; without trouble, there is none."""
        rt = self._rt
        paused = {health.provider for health in rt.pauses.all() if health.paused_until is not None}
        paused = {
            name for name in paused if name in rt.providers or "#" not in name
        }  # no accounts
        exhausted = {name for name in rt.providers if rt.pauses.is_exhausted(name)}
        removed = {
            name for name in await queue.routed_providers(rt.db) if name not in rt.providers
        }
        return sorted(paused | exhausted | removed)

    async def _read(
        self, provider: str, after: tuple[datetime, JobId] | None
    ) -> Sequence[tuple[datetime, JobId]]:
        rt = self._rt
        return await queue.routed(rt.db, provider, now=rt.now(), after=after, limit=PAGE)


async def _move_on(rt: Runtime, job_id: JobId) -> bool:
    """Reroute a pending job if its provider cannot start it now; returns whether it was."""

    def decide(job: Job, _: Attempt | None) -> Update:
        """Reroute a job that is due, if its provider is paused and another one is not."""
        now = rt.now()
        if job.status is not Status.PENDING or job.run_at > now or job.waits_for_input:
            return Update()
        pause = _pause(rt, job, now=now)
        to = None if pause is None else _next(rt, job, leaving=False)
        if pause is None or to is None:
            return Update()
        return Update(change=reroute(job, to, pause, now=now, run_at=now, closed=False))

    return (await apply(rt, job_id, decide, event="rerouted")).changed
