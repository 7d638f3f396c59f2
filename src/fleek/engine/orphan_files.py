"""Remove files that no job stands for: what a crash, or a race that was lost, has left behind.

A file is looked at when it is older than a day. It stays if its job may still need it: while the
job runs, while an attempt has no verdict, and while a completed job names it. A file of a job
that this database does not know may be another installation's: only the operator's command
removes it.
"""

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.errors import StorageError
from fleek.domain.job import Status
from fleek.domain.media import Part, owner, purged
from fleek.engine.runtime import Runtime
from fleek.storage.base import Stored
from fleek.store import purges
from fleek.store.purges import FileOwner

GRACE: Final = timedelta(hours=24)  # longer than any download, and than clocks differ
EVERY: Final = timedelta(hours=6)
SOON: Final = 20  # heartbeats after the role was taken, or after the storage was away
BATCH: Final = 500  # files looked at in one turn
MOST_FAILED: Final = 20  # files that cannot be removed, before the storage counts as away
REST: Final = timedelta(seconds=0.5)  # between two turns: a million files take some 20 minutes

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RemovedOrphans:
    """What a walk through the storage has found so far."""

    files: int = 0  # looked at
    orphans: int = 0  # that no job stands for; removed, unless it is a dry run
    size_bytes: int = 0  # of those
    failed: int = 0  # that no job stands for, and that could not be removed
    unknown: int = 0  # of jobs that this database does not know


@dataclass(slots=True)
class OrphanSearch:
    """Looks at all files, a batch at a time.

    `unknown`: whether those of unknown jobs count as orphans. `dry`: whether to remove nothing.
    `grace`: how old a file must be.
    """

    rt: Runtime
    unknown: bool = False
    dry: bool = False
    grace: timedelta = GRACE
    swept: RemovedOrphans = field(default_factory=RemovedOrphans)
    _files: AsyncIterator[Stored] | None = field(default=None, init=False)

    async def batch(self) -> bool:
        """Look at the next files; returns False after the last ones.

        Raises:
            StorageError: They cannot be listed or removed; a new search begins anew.
        """
        if self._files is None:
            self._files = _everything(self.rt)
        found = [stored async for stored in _first(self._files)]
        self.swept.files += len(found)
        oldest = self.rt.clock.back(self.rt.now(), self.grace)
        old = [stored for stored in found if stored.modified_at < oldest]
        for stored in await self._orphans(old):
            if self.dry or await self._removed(stored):
                self.swept.orphans += 1
                self.swept.size_bytes += stored.size_bytes
        return len(found) == BATCH

    async def _removed(self, stored: Stored) -> bool:
        """Remove a file. One that cannot be removed is passed over, until none can be."""
        try:
            failpoints.hit("sweep.delete")
            await self.rt.storage.delete(stored.key)
        except StorageError as error:
            self.swept.failed += 1
            log.warning("orphan_file_not_removed", key=stored.key, reason=str(error))
            if self.swept.failed >= MOST_FAILED and not self.swept.orphans:
                raise
            return False
        self.rt.metrics.orphan_files.inc()
        return True

    async def _orphans(self, files: Sequence[Stored]) -> list[Stored]:
        named = [(stored, owner(stored.key)) for stored in files]
        ours = [(stored, *found) for stored, found in named if found is not None]
        if not ours:
            return []
        job_ids = sorted({job_id for _, _, job_id in ours})
        owners = await purges.owners(self.rt.db, job_ids)
        self.swept.unknown += sum(job_id not in owners for _, _, job_id in ours)
        return [
            stored
            for stored, part, job_id in ours
            if (self.unknown if job_id not in owners else _left(owners[job_id], part, stored))
        ]


def _left(one: FileOwner, part: Part, stored: Stored) -> bool:
    """Whether a job does not stand for this file, and never will."""
    if not one.job.terminal or one.owing:
        return False
    if one.job.status is not Status.COMPLETED or purged(one.job, part):
        return True
    return part is Part.MEDIA and stored.key not in one.keys


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
    """The turns of `sweep`, as long as this process coordinates."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._search: OrphanSearch | None = None
        self._next = rt.steady() + rt.lease.heartbeat.total_seconds() * SOON

    async def turn(self) -> timedelta:
        """Look at some files, if it is time; returns how long to wait."""
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
        swept = search.swept
        log.info(
            "orphan_files_removed",
            files=swept.files,
            orphans=swept.orphans,
            bytes=swept.size_bytes,
            failed=swept.failed,
            unknown=swept.unknown,
        )
        every = EVERY.total_seconds() * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
        self._next = rt.steady() + every
        return self._wait()

    def _wait(self) -> timedelta:
        return timedelta(seconds=self._next - self._rt.steady())
