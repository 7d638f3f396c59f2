"""Bring a prediction's outputs into storage, and complete the job."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain import transitions
from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    HostError,
    InternalError,
    OutputGone,
    OutputMissing,
    ProviderError,
)
from fleek.domain.host_errors import host_error
from fleek.domain.job import Job, JobError, JobId, Stage, Status
from fleek.domain.media import Media, Output, Part, metadata_key, purged
from fleek.domain.races import IllegalTransition, StaleJob
from fleek.engine.inline import is_large
from fleek.engine.metadata_document import metadata_document, save_document
from fleek.engine.paid import is_final, recall
from fleek.engine.runtime import Runtime
from fleek.engine.store_outputs import store_outputs
from fleek.store import attempts, jobs
from fleek.store.updates import Update

AGAIN: Final = "The result is paid for, and can be collected again"
MISTAKE: Final = InternalError("collecting failed; the log says why")

log = structlog.get_logger(__name__)


async def collect(rt: Runtime, job_id: JobId) -> None:
    """Collect a job's outputs, if no other worker does.

    What cannot be fetched or kept now is tried again later: the prediction is never bought a
    second time for it. `fleek.engine.paid` says when that is no use any more.
    """
    failpoints.hit("collect.claim")
    job = await _claim(rt, job_id)
    if job is None:
        return
    try:
        failpoints.hit("collect.claimed")
        made = await attempts.of_job(rt.db, job_id)
        attempt = next(one for one in made if one.id == job.attempt_id)
        media = await _keep(rt, job, attempt)
        await _complete(rt, job, attempt, media)
    except asyncio.CancelledError:
        await rt.shielded.run(_release(rt, job))
        raise
    except Exception as error:
        failure = _failure(error)
        await _fail_or_postpone(rt, job, failure)  # nobody else takes it while we hold it
        if failure is MISTAKE:
            raise


async def _keep(rt: Runtime, job: Job, attempt: Attempt) -> Sequence[Media]:
    """Store the outputs as the provider has told of them, or as it tells of them now."""
    assert attempt.result is not None
    outputs = tuple(Output.from_json(stored) for stored in attempt.result["outputs"])
    try:
        return await store_outputs(rt, job, attempt, outputs)
    except ProviderError as error:
        if not error.retryable:
            raise
        now = await recall(rt, attempt, error)
        if now is None or now == outputs:
            raise
        return await store_outputs(rt, job, attempt, now)


def _failure(error: Exception) -> FleekError:
    """Return what went wrong, in our words; what nobody has foreseen is a mistake of ours."""
    if isinstance(error, DatabaseUnavailable):  # its words are the driver's
        return DatabaseUnavailable("the database could not be used")
    if isinstance(error, HostError | ProviderError):
        return error
    return host_error(error, "collect the outputs") or MISTAKE


async def _claim(rt: Runtime, job_id: JobId) -> Job | None:
    def decide(job: Job, _: Attempt | None) -> Update:
        if job.stage is not Stage.COLLECTING:
            raise StaleJob(f"job {job.id} is not to be collected")
        return Update(change=transitions.collect(job, rt.lease.worker_id, now=rt.now()))

    try:
        update = await rt.apply_until_stored(job_id, decide)
    except (IllegalTransition, StaleJob):
        return None
    assert update.change is not None
    return update.change.job


async def _complete(rt: Runtime, job: Job, attempt: Attempt, media: Sequence[Media]) -> None:
    """Write the metadata document, then complete the job with its files in one transaction."""
    now = rt.now()
    done = transitions.complete(job, now=now, outputs=len(media)).job
    made = await attempts.of_job(rt.db, job.id)
    await save_document(rt, done, metadata_document(done, media, made))

    def decide(current: Job, written: Attempt | None) -> Update:
        if current.attempt_id != attempt.id or current.worker_id != job.worker_id:
            raise StaleJob(f"job {job.id} is collected by somebody else")
        change = transitions.complete(current, now=now, outputs=len(media))
        return Update(change=change, media=media, attempt=_without_content(written))

    try:
        failpoints.hit("collect.complete")
        await rt.apply_until_stored(job.id, decide, attempt_id=attempt.id)
        failpoints.hit("collect.completed")
    except (IllegalTransition, StaleJob) as error:
        log.info("collect_superseded", job_id=str(job.id), reason=str(error))
        await _clear_away(rt, job, media)


def _without_content(attempt: Attempt | None) -> Attempt | None:
    """Return an attempt whose answer still held its content, without it; None: it did not."""
    if attempt is None or attempt.result is None:
        return None
    held = any(is_large(Output.from_json(one)) for one in attempt.result["outputs"])
    return replace(attempt, result=None) if held else None


async def _clear_away(rt: Runtime, job: Job, media: Sequence[Media]) -> None:
    """Undo what was stored for nothing, and write anew the document of whoever completed the job.

    Whatever is not over belongs to whoever collects it now, who will find the same to do. So does
    what has failed: it may be collected again under the same names, and `sweep` removes the rest.
    """
    view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
    if not view.job.terminal or view.job.status is Status.FAILED:
        return
    failpoints.hit("collect.clear")
    if _documented(view.job):
        made = await attempts.of_job(rt.db, job.id)
        await save_document(rt, view.job, metadata_document(view.job, view.media, made))
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
    def decide(current: Job, _: Attempt | None) -> Update:
        if current.stage is not Stage.COLLECTING or current.worker_id != job.worker_id:
            return Update()
        return Update(change=transitions.release_collect(current, now=rt.now(), reason="shutdown"))

    failpoints.hit("collect.release")
    await rt.apply_until_stored(job.id, decide)


async def _fail_or_postpone(rt: Runtime, job: Job, error: FleekError) -> None:
    """Try again later, however long, unless the result is gone or its bytes stay wrong."""
    final = await is_final(rt, job, error)
    gone = final and isinstance(error, OutputGone | OutputMissing)
    code = OutputGone.code if gone else error.code
    hint = f". {AGAIN}" if final and not gone else ""
    reason = JobError(code=code, message=f"{error}{hint}")

    def decide(current: Job, attempt: Attempt | None) -> Update:
        if current.stage is not Stage.COLLECTING or current.worker_id != job.worker_id:
            return Update()
        now = rt.now()
        if not final:
            change = transitions.postpone(current, error, now=now, backoff=rt.settings.backoff)
            return Update(change=change)
        emptied = replace(attempt, result=None) if gone and attempt is not None else None
        return Update(
            change=transitions.fail_permanently(current, reason, now=now), attempt=emptied
        )

    failpoints.hit("collect.postpone")
    log.warning("collect_failed", job_id=str(job.id), code=code, final=final, reason=str(error))
    await rt.apply_until_stored(job.id, decide, attempt_id=job.attempt_id)
