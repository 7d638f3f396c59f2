"""Remove orphaned files, which crashes and lost races leave in storage.

A file older than a day is an orphan unless its job may still need it: while the job runs, while one
of its attempts has no verdict, and while a completed job names the file. A file of a job that is
not in this database may belong to another installation: only the operator's command removes it.
"""

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import field
from datetime import timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.errors import StorageError
from fleek.domain.job import Status
from fleek.domain.media import Part, original_key, owner, purged
from fleek.domain.values import dataclass
from fleek.engine.runtime import Runtime
from fleek.storage.base import Stored
from fleek.store import inputs, purges
from fleek.store.purges import FileOwner

GRACE: Final = timedelta(hours=24)  # longer than any download, and than any difference of clocks
EVERY: Final = timedelta(hours=6)
SOON: Final = 20  # heartbeats after leadership was acquired, or storage was unavailable
BATCH: Final = 500  # files per turn
MOST_FAILED: Final = 20  # files that cannot be removed, before storage counts as unavailable
REST: Final = timedelta(seconds=0.5)  # between turns: a million files take some 20 minutes

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RemovedOrphans:
    """The result of a search so far."""

    files: int = 0  # checked
    orphans: int = 0  # removed, except in a dry run
    size_bytes: int = 0  # of the orphans
    failed: int = 0  # orphans that could not be removed
    unknown: int = 0  # of jobs that are not in this database


@dataclass(slots=True)
class OrphanSearch:
    """A search through all files, in batches.

    `unknown`: whether files of unknown jobs are orphans. `dry`: whether to remove nothing.
    `grace`: the minimum age of an orphan.
    """

    rt: Runtime
    unknown: bool = False
    dry: bool = False
    grace: timedelta = GRACE
    result: RemovedOrphans = field(default_factory=RemovedOrphans)
    _files: AsyncIterator[Stored] | None = field(default=None, init=False)

    async def batch(self) -> bool:
        """Check the next files; returns False after the last batch.

        Raises:
            StorageError: Files cannot be listed or removed; start a new search.
        """
        if self._files is None:
            self._files = _everything(self.rt)
        batch = [stored async for stored in _first(self._files)]
        self.result.files += len(batch)
        oldest = self.rt.clock.back(self.rt.now(), self.grace)
        old = [stored for stored in batch if stored.modified_at < oldest]
        for stored in await self._orphans(old):
            if self.dry or await self._removed(stored):
                self.result.orphans += 1
                self.result.size_bytes += stored.size_bytes
        return len(batch) == BATCH

    async def _removed(self, stored: Stored) -> bool:
        """Remove a file; False if it cannot be removed. Raises if no orphan can be."""
        try:
            failpoints.hit("orphan_file.delete")
            await self.rt.storage.delete(stored.key)
        except StorageError as error:
            self.result.failed += 1
            log.warning("orphan_file_not_removed", key=stored.key, reason=str(error))
            if self.result.failed >= MOST_FAILED and not self.result.orphans:
                raise
            return False
        self.rt.metrics.orphan_files.inc()
        return True

    async def _orphans(self, files: Sequence[Stored]) -> list[Stored]:
        named = [(stored, owner(stored.key)) for stored in files]
        ours = [(stored, *owned) for stored, owned in named if owned is not None]
        if not ours:
            return []
        job_ids = sorted({job_id for _, _, job_id in ours})
        owners = await purges.owners(self.rt.db, job_ids)
        needed = await inputs.jobs_in_use(self.rt.db, job_ids)
        self.result.unknown += sum(job_id not in owners for _, _, job_id in ours)
        return [
            stored
            for stored, part, job_id in ours
            if (self.unknown if job_id not in owners else _is_orphan(owners[job_id], part, stored))
            and not (job_id in needed and stored.key in owners[job_id].keys)
        ]


def _is_orphan(file_owner: FileOwner, part: Part, stored: Stored) -> bool:
    """Whether the job does not need this file, now or later."""
    job = file_owner.job
    if not job.terminal or file_owner.owing:
        return False
    if job.status is not Status.COMPLETED or purged(job, part):
        return True
    return part is Part.MEDIA and original_key(stored.key) not in file_owner.keys


async def _everything(rt: Runtime) -> AsyncIterator[Stored]:
    for part in Part:
        async for stored in rt.storage.keys(f"{part}/"):
            yield stored


async def _first(files: AsyncIterator[Stored]) -> AsyncIterator[Stored]:
    for _ in range(BATCH):
        try:
            yield await anext(files)
        except StopAsyncIteration:
            return


class OrphanFiles:
    """The turns of the loop `sweep` during one leadership."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._search: OrphanSearch | None = None
        self._next = rt.steady() + rt.lease.heartbeat.total_seconds() * SOON

    async def turn(self) -> timedelta:
        """Check a batch of files when a search is due; returns the time until the next turn."""
        rt = self._rt
        if self._search is None:
            if rt.steady() < self._next:
                return self._wait()
            self._search = OrphanSearch(rt)
        search, self._search = self._search, None
        self._next = rt.steady() + rt.lease.heartbeat.total_seconds() * SOON  # if this fails
        if await search.batch():
            self._search = search
            return REST
        result = search.result
        log.info(
            "orphan_files_removed",
            files=result.files,
            orphans=result.orphans,
            bytes=result.size_bytes,
            failed=result.failed,
            unknown=result.unknown,
        )
        every = EVERY.total_seconds() * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
        self._next = rt.steady() + every
        return self._wait()

    def _wait(self) -> timedelta:
        return timedelta(seconds=self._next - self._rt.steady())
