"""The write path: jobs are inserted, and then changed by decisions under the row's lock."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, repeat
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import DatabaseUnavailable, InternalError, StorageFull
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import AttemptId, BatchId, Job, JobId
from fleek.engine.runtime import Runtime
from fleek.engine.tenants import limits_of
from fleek.store import batches, jobs, updates
from fleek.store.jobs import Accepted
from fleek.store.updates import Applied, Decision, StartLimit, U, Update
from fleek.telemetry import is_written

RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)  # between tries to write; the last one repeats

log = structlog.get_logger(__name__)


async def insert(
    rt: Runtime,
    job: Job,
    *,
    again: bool = False,
    identity: RequestIdentity | None = None,
    reuse_since: datetime | None = None,
) -> Accepted:
    """Accept a job; the outcome is it, or the job of another request.

    That is the request that this one repeats by its `identity`, or, unless `again`, one that
    retries `job.retry_of` already.

    Raises:
        IdempotencyKeyReused: The key of the request is that of another one.
        NotFound: The job that it repeats has been removed.
        TooManyJobs: The tenant has as many unfinished jobs as it may have.
        BudgetExceeded: A budget has no room for it.
        Conflict: The job that it repeats is not failed or cancelled any more.
        DatabaseUnavailable: It is not known to be accepted.
        StorageFull: It is not accepted.
    """
    failpoints.hit("submitted.write")
    patience = rt.settings.max_write_wait_seconds
    max_live = (await limits_of(rt, job.tenant_id)).max_live_jobs
    store = (
        partial(jobs.insert_job, reuse_since=reuse_since)
        if job.retry_of is None
        else partial(jobs.insert_retry, again=again)
    )
    accepted = await store(
        rt.db, job, identity=identity, max_live=max_live, present=rt.presenter, patience=patience
    )
    if accepted.job.id == job.id:
        _record(rt, job, "submitted")
        if accepted.job.terminal:
            _record(rt, accepted.job, "completed")
    failpoints.hit("submitted.written")
    return accepted


async def insert_members(
    rt: Runtime,
    batch_id: BatchId,
    members: Sequence[Job],
    *,
    max_live: int | None,
    reuse_since: Mapping[JobId, datetime],
) -> int:
    """Accept members of a batch in one commit; see `fleek.store.batches.add`."""
    failpoints.hit("batch.write")
    accepted = await batches.add(
        rt.db,
        batch_id,
        members,
        max_live=max_live,
        present=rt.presenter,
        reuse_since=reuse_since,
    )
    if accepted == (members[-1].batch_index or 0) + 1:  # by us, or at the same time by another
        for job in members:
            _record(rt, job, "submitted")
    failpoints.hit("batch.written")
    return accepted


async def apply(
    rt: Runtime,
    job_id: JobId,
    decide: Decision[U],
    *,
    event: str,
    attempt_id: AttemptId | None = None,
    start: StartLimit | None = None,
    patience: timedelta | None = None,
) -> Applied[U]:
    """Decide on a job and write the update; see `fleek.store.updates.apply`.

    `event` names the update, as a rule by the line that it adds to the job's history. Its
    failpoints are ``<event>.write`` and ``<event>.written``.
    """
    failpoints.hit(f"{event}.write")
    applied = await updates.apply(
        rt.db,
        job_id,
        decide,
        attempt_id=attempt_id,
        present=rt.presenter,
        start=start,
        patience=patience,
    )
    _record_all(rt, applied)
    failpoints.hit(f"{event}.written")
    return applied


async def apply_until_stored(
    rt: Runtime,
    job_id: JobId,
    decide: Decision[U],
    *,
    event: str,
    attempt_id: AttemptId | None = None,
    start: StartLimit | None = None,
) -> Applied[U]:
    """Do as `apply`, and try again while the database is away: this must not be lost.

    If the answer to an earlier commit was lost, the written update is recognised and returned.
    """
    tried: list[Applied[U]] = []
    pauses = chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1]))

    def decide_once(job: Job, attempt: Attempt | None) -> U:
        if tried and _is_stored(tried[-1], job, attempt):
            raise _AlreadyStored
        update = decide(job, attempt)
        tried.append(Applied.of(job, update, attempt))
        return update

    while True:
        try:
            return await apply(
                rt, job_id, decide_once, event=event, attempt_id=attempt_id, start=start
            )
        except _AlreadyStored:
            _record_all(rt, tried[-1])
            return tried[-1]
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("database_unavailable", job_id=str(job_id), reason=str(error))
        await asyncio.sleep(next(pauses))


def _record_all(rt: Runtime, applied: Applied[U]) -> None:
    for change in applied.update.changes:
        _record(rt, change.job, change.event)


def _record(rt: Runtime, job: Job, event: str) -> None:
    """Count a change of a job, wake its readers, and log it; progress only when debugging."""
    rt.metrics.steps.labels(event).inc()
    rt.wakeups.notify("events")
    if event == "submitted" and job.waits_for_input:
        rt.links.expected = True
    if job.terminal and rt.links.expected:
        rt.wakeups.notify("chain")
    if not is_written(logging.DEBUG if event == "progress" else logging.INFO):
        return  # what follows takes longer than all before
    shown: dict[str, str] = {}
    if job.error is not None:
        shown["code"] = job.error.code
    if event == "submitted" and rt.settings.log_prompts:
        shown["prompt"] = job.prompt
    write = log.debug if event == "progress" else log.info
    write(
        "job_changed",
        change=event,
        job_id=str(job.id),
        tenant_id=job.tenant_id,
        status=job.status.value,
        stage=None if job.stage is None else job.stage.value,
        provider=job.provider,
        model=job.model,
        seconds=round((job.updated_at - job.created_at).total_seconds(), 3),
        **shown,
    )


def _is_stored(applied: Applied[Update], job: Job, attempt: Attempt | None) -> bool:
    """Whether job and attempt are what an update wanted to make of them."""
    if applied.changed:
        return applied.job == job
    return applied.update.attempt is not None and applied.update.attempt == attempt


class _AlreadyStored(InternalError):
    """The latest try has written its update after all."""

    def __init__(self) -> None:
        super().__init__("an earlier try has written this update")
