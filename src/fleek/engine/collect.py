"""Collect a prediction's outputs into storage, and complete the job.

Each output is streamed to the spool, hashed, its type recognised by its bytes, and only then
stored under its name. The metadata document follows. Then files, status and history are written
in one transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain import transitions
from fleek.domain.attempt import Attempt, AttemptIdentity
from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    HostError,
    IllegalTransition,
    InternalError,
    NotFound,
    OutputBroken,
    OutputGone,
    OutputMissing,
    OutputUnsafe,
    ProviderError,
    ProviderUnavailable,
    StaleJob,
)
from fleek.domain.host_errors import host_error
from fleek.domain.job import Job, JobError, JobId, Kind, Stage, Status
from fleek.domain.media import Key, Media, Output, Part, media_key, metadata_key, purged
from fleek.domain.text import LongText, pieces_of
from fleek.engine.accounts import account_of
from fleek.engine.apply import apply_until_stored
from fleek.engine.dispatches import ClaimedCollect
from fleek.engine.inputs import with_inputs
from fleek.engine.metadata_document import noted, notes_of, save_document
from fleek.engine.paid import PAID, is_final, recall
from fleek.engine.provenance import Signing
from fleek.engine.runtime import Runtime
from fleek.engine.spool import spooled
from fleek.providers.base import Provider, SupportsUpload
from fleek.sniff import Sniffed
from fleek.store import attempts, events, jobs
from fleek.store.updates import Update
from fleek.tracing import job_span, span

INLINE_CHARS: Final = 8192  # of an output's content that may stay in the answer
TOO_LARGE: Final = "output_too_large"
MISTAKE: Final = InternalError("collecting failed; the log says why")

log = structlog.get_logger(__name__)


async def collect(rt: Runtime, job_id: JobId) -> None:
    """Collect a job's outputs, unless another worker does.

    What cannot be fetched or kept now is tried again later, and never costs another prediction.
    `fleek.engine.paid` decides when to give up.
    """
    claimed = rt.claimed.pop(job_id, None) or await _claim(rt, job_id)
    if claimed is not None:
        with job_span("collect", claimed.job):
            await _collect(rt, claimed)


async def _collect(rt: Runtime, claimed: ClaimedCollect) -> None:
    job = claimed.job
    try:
        made = await _attempts(rt, claimed)
        attempt = next(attempt for attempt in made if attempt.id == job.attempt_id)
        stored, signed = await _store(rt, job, attempt)
        withheld = await _withheld(rt, job, stored)
        media = [file for file in stored if file.index not in withheld]
        await _complete(rt, job, made, media, withheld=withheld, signed=signed)
    except asyncio.CancelledError:
        await rt.shielded.run(release(rt, job))
        raise
    except Exception as error:
        failure = _failure(error)
        await _fail_or_postpone(rt, job, failure)  # no other worker takes it while we hold it
        if failure is MISTAKE:
            raise


async def _claim(rt: Runtime, job_id: JobId) -> ClaimedCollect | None:
    def decide(job: Job, _: Attempt | None) -> Update:
        if job.stage is not Stage.COLLECTING:
            raise StaleJob(f"job {job.id} is not to be collected")
        return Update(change=transitions.collect(job, rt.lease.worker_id, now=rt.now()))

    try:
        applied = await apply_until_stored(rt, job_id, decide, event="collecting")
    except (IllegalTransition, StaleJob):
        return None
    return ClaimedCollect(applied.job)


async def _attempts(rt: Runtime, claimed: ClaimedCollect) -> Sequence[Attempt]:
    """Return the attempts of a job; the first one is the only one while it is collected."""
    latest = claimed.attempt
    if latest is None:
        return await attempts.of_job(rt.db, claimed.job.id)
    failpoints.hit("collecting.written")  # as after any other claim
    return (latest,) if latest.number == 1 else await attempts.of_job(rt.db, claimed.job.id)


async def _store(
    rt: Runtime, job: Job, attempt: Attempt
) -> tuple[Sequence[Media], Mapping[int, str]]:
    """Store the outputs that the provider has named, or names when asked again.

    Returns them, and `Signing.notes`.
    """
    if attempt.result is None:
        raise OutputGone("the provider's answer was removed")
    outputs = tuple(Output.from_json(stored) for stored in attempt.result["outputs"])
    try:
        return await store_outputs(rt, job, attempt, outputs)
    except ProviderError as error:
        if not error.retryable:
            raise
        recalled = await recall(rt, attempt, error)
        if recalled is None or recalled == outputs:
            raise
        return await store_outputs(rt, job, attempt, recalled)


async def _withheld(rt: Runtime, job: Job, media: Sequence[Media]) -> Mapping[int, str]:
    """Return the indexes of files that the moderation service has flagged, with its reasons.

    Their bytes stay in storage until the search for orphaned files, but no row refers to them.
    """
    if rt.moderator is None or not rt.moderator.outputs or not media:
        return {}
    return await rt.moderator.check_outputs(job, media, rt.storage.read)


async def store_outputs(
    rt: Runtime, job: Job, attempt: Attempt, outputs: Sequence[Output]
) -> tuple[Sequence[Media], Mapping[int, str]]:
    """Sign and store all outputs of an attempt's prediction, in the provider's order.

    Returns them, and `Signing.notes`.

    Raises:
        HostError: They cannot be kept now.
        ProviderError: They cannot be fetched; ``retryable`` says whether ever.
    """
    limits = rt.settings
    signing = Signing(rt.signer, rt.storage, job, min_free_bytes=limits.min_free_bytes)
    left = limits.max_job_bytes
    stored: list[Media] = []
    for index, output in enumerate(outputs):
        most = left + signing.added_bytes
        media = await store_output(rt, job, attempt, index, output, most=most, signing=signing)
        left -= media.size_bytes
        stored.append(media)
    return stored, signing.notes


async def store_output(
    rt: Runtime,
    job: Job,
    attempt: AttemptIdentity,
    index: int,
    output: Output,
    *,
    most: int,
    signing: Signing | None = None,
) -> Media:
    """Store one output of at most `most` bytes under its final key, signed if `signing` is given.

    Raises:
        HostError: It cannot be kept now.
        ProviderError: It cannot be fetched; ``retryable`` says whether ever.
    """
    limit = f"MAX_JOB_BYTES={rt.settings.max_job_bytes}"
    async with spooled(
        rt.storage,
        f"{attempt.id}-{index}",
        _chunks(rt, job, attempt, output),
        most=most,
        too_large=OutputUnsafe(f"the outputs are larger than {limit}", code=TOO_LARGE),
        min_free_bytes=rt.settings.min_free_bytes,
        as_file=signing is not None and signing.needed,
    ) as received:
        failpoints.hit("output.spooled")
        if received.size_bytes == 0:
            raise OutputBroken("the output is empty")
        kept = received if signing is None else await signing.sign(index, received)
        size, digest, sniffed, source = kept
        key = media_key(job.id, attempt.id, index, sha256=digest, extension=sniffed.extension)
        with span("storage.save", fleek__bytes=size, fleek__content_type=sniffed.content_type):
            await rt.storage.save(key, source, content_type=sniffed.content_type)
        failpoints.hit("output.stored")
    return _media(job, attempt, index, key=key, digest=digest, size=size, sniffed=sniffed)


def _chunks(
    rt: Runtime, job: Job, attempt: AttemptIdentity, output: Output
) -> AsyncIterator[bytes]:
    if output.key is not None:
        return _stored(rt, output.key)
    if output.text is not None:
        return _text(output.text)
    if output.uri is None:
        raise OutputMissing("the output is at the provider only, which did not return it")
    if job.provider not in rt.providers:
        message = f"the provider {job.provider} is not configured here"
        raise ProviderUnavailable(message, code="provider_not_configured")
    provider = account_of(rt, job.provider, attempt.account).provider
    if job.inputs and isinstance(provider, SupportsUpload) and provider.reads_inputs:
        return _read_with_inputs(rt, provider, job, output)
    return provider.read(job, output)


async def _read_with_inputs(
    rt: Runtime, provider: Provider, job: Job, output: Output
) -> AsyncIterator[bytes]:
    async for chunk in provider.read(await with_inputs(rt, job), output):
        yield chunk


async def _stored(rt: Runtime, key: Key) -> AsyncIterator[bytes]:
    try:
        async for chunk in rt.storage.read(key):
            yield chunk
    except NotFound as error:
        raise OutputMissing("the output is not in storage any more") from error


async def _text(text: str | LongText) -> AsyncIterator[bytes]:
    pieces = pieces_of(text)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece.encode("utf-8", "replace")


def _media(
    job: Job,
    attempt: AttemptIdentity,
    index: int,
    *,
    key: Key,
    digest: str,
    size: int,
    sniffed: Sniffed,
) -> Media:
    return Media(
        job_id=job.id,
        attempt_id=attempt.id,
        index=index,
        key=key,
        sha256=digest,
        size_bytes=size,
        content_type=sniffed.content_type,
        width=sniffed.width,
        height=sniffed.height,
        duration_seconds=sniffed.duration_seconds,
    )


def is_large(output: Output) -> bool:
    """Whether an output's content is in the answer, and too large to stay there."""
    uri = output.uri or ""
    is_address = isinstance(uri, str) and uri[:5].lower() != "data:"
    content = output.text or ("" if is_address else uri)
    return len(content) > INLINE_CHARS


async def _complete(
    rt: Runtime,
    job: Job,
    made: Sequence[Attempt],
    media: Sequence[Media],
    *,
    withheld: Mapping[int, str],
    signed: Mapping[int, str],
) -> None:
    """Store the metadata document, then complete the job with its files in one transaction.

    `made`: the job's attempts, as they were when it was collected.
    """
    attempt_id = job.attempt_id
    holds_content = any(_holds_content(each) for each in made if each.id == attempt_id)
    now = rt.now()
    kind = Kind.of(media[0].content_type) if media else None
    completed = transitions.complete(job, now=now, outputs=len(media), kind=kind).job
    await save_document(rt, completed, made, media, withheld=withheld, signed=signed)
    notes = notes_of(withheld, signed)

    def decide(current: Job, written: Attempt | None) -> Update:
        if current.attempt_id != attempt_id or current.worker_id != job.worker_id:
            raise StaleJob(f"job {job.id} is collected by another worker")
        change = transitions.complete(current, now=now, outputs=len(media), kind=kind, notes=notes)
        emptied = None if written is None else replace(written, result=None)
        return Update(change=change, media=media, attempt=emptied)

    emptied_id = attempt_id if holds_content else None  # else it is not even locked
    try:
        await apply_until_stored(rt, job.id, decide, event="completed", attempt_id=emptied_id)
    except (IllegalTransition, StaleJob) as error:
        log.info("collect_superseded", job_id=str(job.id), reason=str(error))
        await _discard(rt, job, media)
        return
    rt.thumbnails.announce(rt, media)


def _holds_content(attempt: Attempt) -> bool:
    """Whether an attempt's answer holds content, which is not kept once it is stored."""
    outputs = () if attempt.result is None else attempt.result["outputs"]
    return any(is_large(Output.from_json(stored)) for stored in outputs)


async def _discard(rt: Runtime, job: Job, media: Sequence[Media]) -> None:
    """Remove what was stored in vain, and restore the document of a job completed by another.

    Files of a job that has not ended belong to the worker that collects it now and stores the
    same. So do those of a failed job: it may be collected again under the same names, and the
    search for orphaned files removes the rest.
    """
    view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
    if not view.job.terminal or view.job.status is Status.FAILED:
        return
    failpoints.hit("collect.discard")
    if _has_document(view.job):
        lines = await events.of_job(rt.db, job.id)
        withheld, signed = noted(lines, "withheld"), noted(lines, "c2pa")
        made = await attempts.of_job(rt.db, job.id)
        await save_document(rt, view.job, made, view.media, withheld=withheld, signed=signed)
        view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)  # it may be purged meanwhile
    kept = {file.key for file in view.media}
    if _has_document(view.job):
        kept.add(metadata_key(job.id))
    for key in (*(file.key for file in media), metadata_key(job.id)):
        if key not in kept:
            await rt.storage.delete(key)


def _has_document(job: Job) -> bool:
    return job.status is Status.COMPLETED and not purged(job, Part.METADATA)


async def release(rt: Runtime, job: Job) -> None:
    """Release a job that this process has claimed and does not collect, as it is being stopped."""

    def decide(current: Job, _: Attempt | None) -> Update:
        if not _is_ours(current, job):
            return Update()
        return Update(change=transitions.release_collect(current, now=rt.now(), reason="shutdown"))

    await apply_until_stored(rt, job.id, decide, event="released")


def _is_ours(current: Job, job: Job) -> bool:
    return current.stage is Stage.COLLECTING and current.worker_id == job.worker_id


def _failure(error: Exception) -> FleekError:
    """Return what went wrong, in the service's words; an unforeseen error is a defect of ours."""
    if isinstance(error, DatabaseUnavailable):  # its words are the driver's
        return DatabaseUnavailable("the database could not be used")
    if isinstance(error, HostError | ProviderError):
        return error
    return host_error(error, "collect the outputs") or MISTAKE


async def _fail_or_postpone(rt: Runtime, job: Job, error: FleekError) -> None:
    """Try again later, however long, unless the result is gone or its bytes stay wrong."""
    final = await is_final(rt, job, error)
    gone = final and isinstance(error, OutputGone | OutputMissing)
    code = OutputGone.code if gone else error.code
    hint = f". {PAID}" if final and not gone else ""
    reason = JobError(code=code, message=f"{error}{hint}")

    def decide(current: Job, attempt: Attempt | None) -> Update:
        """Fail or postpone, if this worker still holds the job; what is gone is forgotten."""
        if not _is_ours(current, job):
            return Update()
        now = rt.now()
        if not final:
            change = transitions.postpone(current, error, now=now, backoff=rt.settings.backoff)
            return Update(change=change)
        emptied = replace(attempt, result=None) if gone and attempt is not None else None
        return Update(
            change=transitions.fail_permanently(current, reason, now=now), attempt=emptied
        )

    log.warning("collect_failed", job_id=str(job.id), code=code, final=final, reason=str(error))
    await apply_until_stored(rt, job.id, decide, event="postponed", attempt_id=job.attempt_id)
