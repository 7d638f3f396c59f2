"""Bring a prediction's outputs into storage, and complete the job."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain import transitions
from fleek.domain.attempt import Attempt
from fleek.domain.errors import FleekError, HostError, InternalError, ProviderError
from fleek.domain.job import Job, JobError, JobId, Stage, Status
from fleek.domain.media import Media, Part, metadata_key, purged
from fleek.domain.races import IllegalTransition, StaleJob
from fleek.engine.document import document, save_document
from fleek.engine.keep import keep
from fleek.engine.runtime import Runtime
from fleek.store import attempts, jobs
from fleek.store.steps import Step

MAX_COLLECTS: Final = 8  # tries to fetch outputs that come broken
MISTAKE: Final = InternalError("collecting failed; the log says why")

log = structlog.get_logger(__name__)


async def collect(rt: Runtime, job_id: JobId) -> None:
    """Collect a job's outputs, if no other worker does.

    What cannot be fetched or kept now is tried again later: the prediction is never bought a
    second time for it.
    """
    failpoints.hit("collect.claim")
    job = await _claim(rt, job_id)
    if job is None:
        return
    try:
        failpoints.hit("collect.claimed")
        found = await attempts.of_job(rt.db, job_id)
        attempt = next(one for one in found if one.id == job.attempt_id)
        media = await keep(rt, job, attempt)
        await _complete(rt, job, attempt, media)
    except asyncio.CancelledError:
        await rt.duties.see_through(_release(rt, job))
        raise
    except (HostError, ProviderError) as error:
        await _fail_or_postpone(rt, job, error)
    except Exception:
        await _fail_or_postpone(rt, job, MISTAKE)  # nobody else takes it while we hold it
        raise


async def _claim(rt: Runtime, job_id: JobId) -> Job | None:
    def decide(job: Job, _: Attempt | None) -> Step:
        if job.stage is not Stage.COLLECTING:
            raise StaleJob(f"job {job.id} is not to be collected")
        return Step(change=transitions.collect(job, rt.pulse.worker_id, now=rt.now()))

    try:
        step = await rt.persist(job_id, decide)
    except (IllegalTransition, StaleJob):
        return None
    assert step.change is not None
    return step.change.job


async def _complete(rt: Runtime, job: Job, attempt: Attempt, media: Sequence[Media]) -> None:
    """Write the metadata document, then complete the job with its files in one transaction."""
    now = rt.now()
    done = transitions.complete(job, now=now, outputs=len(media)).job
    made = await attempts.of_job(rt.db, job.id)
    await save_document(rt, done, document(done, media, made))

    def decide(current: Job, _: Attempt | None) -> Step:
        if current.attempt_id != attempt.id or current.worker_id != job.worker_id:
            raise StaleJob(f"job {job.id} is collected by somebody else")
        change = transitions.complete(current, now=now, outputs=len(media))
        return Step(change=change, media=media)

    try:
        failpoints.hit("collect.complete")
        await rt.persist(job.id, decide)
        failpoints.hit("collect.completed")
    except (IllegalTransition, StaleJob) as error:
        log.info("collected_for_nothing", job=str(job.id), reason=str(error))
        await _clear_away(rt, job, media)


async def _clear_away(rt: Runtime, job: Job, media: Sequence[Media]) -> None:
    """Undo what was stored for nothing, and write anew the document of whoever completed the job.

    Whatever is not over belongs to whoever collects it now, who will find the same to do.
    """
    view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
    if not view.job.terminal:
        return
    failpoints.hit("collect.clear")
    if _documented(view.job):
        made = await attempts.of_job(rt.db, job.id)
        await save_document(rt, view.job, document(view.job, view.media, made))
        view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)  # it may be purged meanwhile
    kept = {one.key for one in view.media}
    if _documented(view.job):
        kept.add(metadata_key(job.id))
    for key in (*(one.key for one in media), metadata_key(job.id)):
        if key not in kept:
            await rt.storage.delete(key)


def _documented(job: Job) -> bool:
    return job.status is Status.COMPLETED and not purged(job, Part.METADATA)


async def _release(rt: Runtime, job: Job) -> None:
    def decide(current: Job, _: Attempt | None) -> Step:
        if current.stage is not Stage.COLLECTING or current.worker_id != job.worker_id:
            return Step()
        return Step(change=transitions.release(current, now=rt.now(), reason="shutdown"))

    failpoints.hit("collect.release")
    await rt.persist(job.id, decide)


async def _fail_or_postpone(rt: Runtime, job: Job, error: FleekError) -> None:
    """Try again later if that can help; a host that is away is waited for, however long."""
    final = not isinstance(error, HostError) and (
        not (error.retryable or error is MISTAKE) or job.collects + 1 >= MAX_COLLECTS
    )
    reason = JobError(code=error.code, message=str(error))

    def decide(current: Job, _: Attempt | None) -> Step:
        if current.stage is not Stage.COLLECTING or current.worker_id != job.worker_id:
            return Step()
        if final:
            return Step(change=transitions.give_up(current, reason, now=rt.now()))
        return Step(
            change=transitions.postpone(current, error, now=rt.now(), backoff=rt.settings.backoff)
        )

    failpoints.hit("collect.postpone")
    log.warning("not_collected", job=str(job.id), code=error.code, final=final, reason=str(error))
    await rt.persist(job.id, decide)
