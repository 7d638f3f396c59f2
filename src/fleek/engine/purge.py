"""Remove what an ended job has left in storage, in an order that never leaves a dangling reference.

First the row says that it is gone: nobody is sent to it any more. Then the bytes go. Then the row
says that nothing is left. Whoever is interrupted in between leaves a row that says what is owed,
and `fleek.engine.retention` goes on from there.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from fleek import failpoints
from fleek.domain import transitions
from fleek.domain.attempt import Attempt
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.job import Job, JobId
from fleek.domain.media import Part, media_folder, metadata_key, purged
from fleek.engine.apply import CALLER_PATIENCE, apply
from fleek.engine.cancel import cancel
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.storage.base import Stored
from fleek.store import purges
from fleek.store.updates import Update

T = TypeVar("T")

Cause = Literal["request", "command", "media", "metadata", "job"]
"""Who wants it: a caller, the operator's command, or the retention of one kind."""

ALL_PARTS: Final = frozenset(Part)
AT_ONCE: Final = 8  # jobs, for the storage's sake


@dataclass(frozen=True, slots=True)
class Freed:
    """What was removed from storage."""

    jobs: int = 0
    files: int = 0
    size_bytes: int = 0
    failed: int = 0  # jobs of which something could not be removed

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(
            self.jobs + other.jobs,
            self.files + other.files,
            self.size_bytes + other.size_bytes,
            self.failed + other.failed,
        )


async def purge(rt: Runtime, job_id: JobId, *, tenant_id: str) -> tuple[Job, bool]:
    """Purge a job whole; one that has not ended is cancelled first.

    Its files are not served from here on, and removed by the coordinator: at once, or as soon as
    what was bought for the job has ended. Returns it, and False if it was purged already.

    Raises:
        NotFound: There is no such job.
    """
    with suppress(Conflict):  # it has ended in another way, and stays so
        await cancel(rt, job_id, tenant_id=tenant_id)
    marked, by_this_call = await mark(rt, job_id, ALL_PARTS, cause="request")
    rt.wakeups.notify("expire")
    return marked, by_this_call


async def mark(
    rt: Runtime, job_id: JobId, parts: Collection[Part], *, cause: Cause
) -> tuple[Job, bool]:
    """Say of these parts of an ended job that they are gone; returns it, and False if it was said.

    Raises:
        IllegalTransition: It has not ended.
        NotFound: There is no such job.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        if all(purged(job, part) for part in parts):
            return Update()
        return Update(change=transitions.purge(job, parts, now=rt.now()))

    applied = await apply(rt, job_id, decide, event="purged", patience=CALLER_PATIENCE)
    if applied.changed:
        rt.metrics.purged_jobs.labels(cause).inc()
    return applied.job, applied.changed


async def erase(rt: Runtime, job: Job) -> Freed:
    """Remove from storage what a job's row says is gone, then say that it is.

    Nothing of it may be written any more: each attempt of the job has its verdict.

    Raises:
        StorageError: Something could not be removed; the row says so still.
    """
    freed = Freed(jobs=1)
    for stored in await _left(rt, job):
        failpoints.hit("purge.delete")
        await rt.storage.delete(stored.key)
        freed += Freed(files=1, size_bytes=stored.size_bytes)
        rt.metrics.erased_files.inc()
        rt.metrics.erased_bytes.inc(stored.size_bytes)

    def decide(current: Job, _: Attempt | None) -> Update:
        if current.version != job.version:  # more was purged meanwhile, or another was quicker
            return Update()
        change = transitions.mark_erased(current, now=rt.now())
        return Update(change=change, drops_media=purged(job, Part.MEDIA))

    await apply(rt, job.id, decide, event="erased")
    return freed


async def purge_all(
    rt: Runtime, job_ids: Sequence[JobId], parts: Collection[Part], *, cause: Cause
) -> Freed:
    """Purge these parts of ended jobs, a few at a time.

    Jobs for which money may be on its way are left out. What fails is logged and counted.
    """

    async def purge_one(job_id: JobId) -> Freed:
        job, _ = await mark(rt, job_id, parts, cause=cause)
        return await erase(rt, job) if job.purging else Freed()

    owing = await purges.owing(rt.db, job_ids)
    return await each(rt, [one for one in job_ids if one not in owing], purge_one)


async def each(rt: Runtime, jobs: Sequence[T], work: Callable[[T], Awaitable[Freed]]) -> Freed:
    """Do this for jobs, a few at a time, until all of a few fail: then the storage is away.

    In no order, so that those that always fail cannot stand before the others for ever.
    """
    freed, shuffled = Freed(), random.sample(jobs, len(jobs))
    for start in range(0, len(shuffled), AT_ONCE):
        some = shuffled[start : start + AT_ONCE]
        done = await asyncio.gather(*(run_logged(rt, "expire", work(one)) for one in some))
        freed = sum((Freed(failed=1) if one is None else one for one in done), freed)
        if not any(done):
            break
    return freed


async def _left(rt: Runtime, job: Job) -> list[Stored]:
    """Return what is in storage of the purged parts of a job, whether its row names it or not."""
    found: list[Stored] = []
    if purged(job, Part.MEDIA):
        found += [stored async for stored in rt.storage.keys(media_folder(job.id))]
    if purged(job, Part.METADATA):
        with suppress(NotFound):
            found.append(await rt.storage.stat(metadata_key(job.id)))
    return found
