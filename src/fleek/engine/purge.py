"""Purge ended jobs: on request, by the operator's command, and when their retention has passed.

The order never leaves a dangling reference: the row is marked as purged, so that nothing is served
any more; then the files are removed; then the row is marked as erased. If a process is interrupted
in between, `Retention` finds the row and continues. A turn handles one page of each kind, and each
job is a short transaction.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, TypeVar

import structlog

from fleek import failpoints
from fleek.domain import transitions
from fleek.domain.attempt import Attempt
from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import Job, JobId, Status
from fleek.domain.media import Part, media_folder, metadata_key, purged
from fleek.domain.values import dataclass
from fleek.engine.apply import apply
from fleek.engine.backlog import PageWalk
from fleek.engine.cancel import cancel
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.engine.uploads import expire_uploads
from fleek.storage.base import Stored
from fleek.store import batches, idempotency, inputs, purges, request_rates
from fleek.store.purges import Cursor
from fleek.store.updates import Update

T = TypeVar("T")

Cause = Literal["request", "command", "media", "metadata", "job"]
"""What caused a purge: a caller's request, the operator's command, or one kind of retention."""

ALL_PARTS: Final = frozenset(Part)
AT_ONCE: Final = 8  # jobs, to bound the load on storage
PAGE: Final = 100  # jobs of one kind per turn
REMOVED: Final = 25  # rows of jobs, with their histories, removed in one transaction
REST: Final = timedelta(
    seconds=0.1
)  # between turns while there is more, for other users of the database
UNKEYED_KEPT: Final = timedelta(minutes=30)  # contents of requests; longer than any retry takes
RATES_KEPT: Final = timedelta(hours=1)  # of callers who send nothing any more
TROUBLED: Final = 6  # heartbeats between turns while storage is unavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Freed:
    """What was removed from storage."""

    jobs: int = 0
    files: int = 0
    size_bytes: int = 0
    failed: int = 0  # jobs of which something could not be removed
    kept: int = 0  # jobs whose files other jobs need

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(
            self.jobs + other.jobs,
            self.files + other.files,
            self.size_bytes + other.size_bytes,
            self.failed + other.failed,
            self.kept + other.kept,
        )


async def purge(
    rt: Runtime, job_id: JobId, *, tenant_id: str, by: Actor | None = COMMAND_LINE
) -> tuple[Job, bool]:
    """Purge all parts of a job, after cancelling it if it has not ended.

    Its files are not served from now on. The coordinator removes them once all predictions of the
    job have ended. Returns the job, and False if it was purged already. `by` is for the audit log;
    None: no line is written.

    Raises:
        NotFound: There is no such job.
    """
    with suppress(Conflict):  # it has completed or failed
        await cancel(rt, job_id, tenant_id=tenant_id)
    marked, by_this_call = await mark(rt, job_id, ALL_PARTS, cause="request", by=by)
    rt.wakeups.notify("expire")
    return marked, by_this_call


async def mark(
    rt: Runtime,
    job_id: JobId,
    parts: Collection[Part],
    *,
    cause: Cause,
    by: Actor | None = None,
) -> tuple[Job, bool]:
    """Mark parts of an ended job as purged; returns the job, and False if they were marked already.

    Raises:
        IllegalTransition: It has not ended.
        NotFound: There is no such job.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        if all(purged(job, part) for part in parts):
            return Update()
        now = rt.now()
        line = None if by is None else _line(job, by, now)
        return Update(change=transitions.purge(job, parts, now=now), audit=line)

    applied = await apply(
        rt, job_id, decide, event="purged", patience=rt.settings.max_write_wait_seconds
    )
    if applied.changed:
        rt.metrics.purged_jobs.labels(cause).inc()
    return applied.job, applied.changed


def _line(job: Job, by: Actor, now: datetime) -> AuditEntry:
    return entry(Action.JOB_PURGED, str(job.id), by=by, tenant_id=job.tenant_id, at=now)


async def erase(rt: Runtime, job: Job) -> Freed:
    """Remove the purged parts of a job from storage, then mark the row as erased.

    Each attempt of the job must have its verdict, so that nothing is written any more. While a job
    that has not ended needs an output of it, nothing is removed; it stays marked.

    Raises:
        StorageError: A file could not be removed; the row stays marked as purging.
    """
    if await inputs.jobs_in_use(rt.db, [job.id]):
        return Freed()
    freed = Freed(jobs=1)
    for stored in await _left(rt, job):
        failpoints.hit("purge.delete")
        await rt.storage.delete(stored.key)
        freed += Freed(files=1, size_bytes=stored.size_bytes)
        rt.metrics.erased_files.inc()
        rt.metrics.erased_bytes.inc(stored.size_bytes)

    def decide(current: Job, _: Attempt | None) -> Update:
        """Record what was removed, unless the job has changed meanwhile."""
        if current.version != job.version:  # purged further, or erased by another process
            return Update()
        change = transitions.mark_erased(current, now=rt.now())
        return Update(
            change=change,
            drops_media=purged(job, Part.MEDIA),
            drops_logs=purged(job, Part.METADATA),
        )

    await apply(rt, job.id, decide, event="erased")
    return freed


async def purge_all(
    rt: Runtime, job_ids: Sequence[JobId], parts: Collection[Part], *, cause: Cause
) -> Freed:
    """Purge parts of ended jobs, `AT_ONCE` at a time; failures are logged and counted.

    Jobs with an attempt that may still cost money are skipped, and so are those that a job needs.
    """

    async def purge_one(job_id: JobId) -> Freed:
        job, _ = await mark(
            rt, job_id, parts, cause=cause, by=COMMAND_LINE if cause == "command" else None
        )
        return await erase(rt, job) if job.purging else Freed()

    needed = await inputs.jobs_in_use(rt.db, job_ids)
    kept = await purges.owing(rt.db, job_ids) | needed
    freed = await each(rt, [job_id for job_id in job_ids if job_id not in kept], purge_one)
    return freed + Freed(kept=len(needed))


async def each(rt: Runtime, jobs: Sequence[T], work: Callable[[T], Awaitable[Freed]]) -> Freed:
    """Work on jobs in batches, and stop after a batch that failed as a whole: storage is unavailable.

    Shuffled, so that permanently failing jobs do not starve the rest.
    """
    freed, shuffled = Freed(), random.sample(jobs, len(jobs))
    for start in range(0, len(shuffled), AT_ONCE):
        batch = shuffled[start : start + AT_ONCE]
        results = await asyncio.gather(
            *(run_logged(rt, "expire", partial(work, job)) for job in batch)
        )
        freed = sum((result or Freed(failed=1) for result in results), freed)
        if not any(results):
            break
    return freed


async def _left(rt: Runtime, job: Job) -> list[Stored]:
    """Return the files of the purged parts of a job, including those that its row does not name."""
    found: list[Stored] = []
    if purged(job, Part.MEDIA):
        found += [stored async for stored in rt.storage.keys(media_folder(job.id))]
    if purged(job, Part.METADATA):
        with suppress(NotFound):
            found.append(await rt.storage.stat(metadata_key(job.id)))
    return found


async def purge_older(rt: Runtime, *, before: datetime, status: Status | None) -> Freed:
    """Purge all jobs that ended before a time, with this status or with any.

    Jobs with an attempt that may still cost money are skipped.
    """
    freed, after = Freed(), None
    while True:
        page = await purges.kept(rt.db, before=before, status=status, after=after, limit=PAGE)
        purged_now = await purge_all(
            rt, [job_id for _, job_id in page], ALL_PARTS, cause="command"
        )
        freed += purged_now
        if len(page) < PAGE or (purged_now.failed and not purged_now.jobs):
            return freed
        after = page[-1]


class Retention:
    """The turns of the loop `expire` during one leadership."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._purging, self._ended = PageWalk(PAGE), PageWalk(PAGE)
        self._parts = {part: PageWalk(PAGE) for part in Part}

    async def turn(self) -> timedelta:
        """Purge what is due; returns the time until the next turn."""
        rt, now = self._rt, self._rt.now()
        freed = await self._finish()
        if not rt.clock.stable:
            return rt.lease.heartbeat
        for part, walk in self._parts.items():
            age = rt.settings.retention(part)
            if age is not None:
                freed += await self._expire(part, walk, before=rt.clock.back(now, age))
        more_rows = await self._remove_rows(now)
        more_uploads = await expire_uploads(rt)
        removed = 0
        if rt.settings.job_retention is not None:
            more, removed = await self._remove(
                before=rt.clock.back(now, rt.settings.job_retention)
            )
            freed += more
        if freed.jobs or removed:
            log.info(
                "purged",
                jobs=freed.jobs,
                files=freed.files,
                bytes=freed.size_bytes,
                failed=freed.failed,
                removed=removed,
            )
        elif freed.failed:
            return rt.lease.heartbeat * TROUBLED
        if more_rows or more_uploads:
            return REST
        walks = (self._purging, self._ended, *self._parts.values())
        return REST if any(walk.more for walk in walks) else rt.lease.heartbeat

    async def _remove_rows(self, now: datetime) -> bool:
        """Remove a page of each kind of rows that have no files; returns whether there may be more."""
        rt, more = self._rt, False
        if rt.settings.job_retention is not None:
            before = rt.clock.back(now, rt.settings.job_retention)
            more = await batches.remove_empty(rt.db, before=before, limit=PAGE) >= PAGE
        full = await request_rates.remove_full(rt.db, before=now - RATES_KEPT)
        forgotten = await self._forget_requests(now)
        return more or full >= request_rates.REMOVED or forgotten >= idempotency.EXPIRED_PAGE

    async def _forget_requests(self, now: datetime) -> int:
        """Remove idempotency keys and contents of requests that have expired; returns how many."""
        rt = self._rt
        window = max(rt.settings.dedupe_window_seconds, UNKEYED_KEPT)
        return await idempotency.remove_expired(
            rt.db,
            keys_before=rt.clock.back(now, rt.settings.idempotency),
            unkeyed_before=rt.clock.back(now, window),
        )

    async def _finish(self) -> Freed:
        """Erase jobs that are marked as purged: on request, or before an interruption."""
        rt = self._rt
        page = await self._purging.page(
            lambda after: purges.purging(rt.db, after=after, limit=PAGE),
            lambda job: (job.updated_at, job.id),
        )
        ids = [job.id for job in page]
        kept = await purges.owing(rt.db, ids) | await inputs.jobs_in_use(rt.db, ids)

        async def erase_one(job: Job) -> Freed:
            return await erase(rt, job)

        return await each(rt, [job for job in page if job.id not in kept], erase_one)

    async def _expire(self, part: Part, walk: PageWalk, *, before: datetime) -> Freed:
        rt = self._rt

        async def read(after: Cursor | None) -> Sequence[Cursor]:
            return await purges.expired(rt.db, part, before=before, after=after, limit=PAGE)

        page = await walk.page(read, lambda cursor: cursor)
        return await purge_all(rt, [job_id for _, job_id in page], [part], cause=part.value)

    async def _remove(self, *, before: datetime) -> tuple[Freed, int]:
        """Remove jobs that ended before a time, files first; returns also the number of jobs."""
        rt = self._rt

        async def read(after: Cursor | None) -> Sequence[Cursor]:
            return await purges.ended(rt.db, before=before, after=after, limit=PAGE)

        page = await self._ended.page(read, lambda cursor: cursor)
        job_ids = [job_id for _, job_id in page]
        freed = await purge_all(rt, job_ids, ALL_PARTS, cause="job")
        removed = 0
        for start in range(0, len(job_ids), REMOVED):
            failpoints.hit("retention.remove")
            removed += await purges.remove(rt.db, job_ids[start : start + REMOVED])
            failpoints.hit("retention.removed")
        rt.metrics.removed_jobs.inc(removed)
        return freed, removed
