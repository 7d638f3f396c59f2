"""Purge what has been kept for as long as the settings say, and finish what was begun.

Little at a time: a turn looks at one page of each kind, and each job is a short transaction.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.job import Job, Status
from fleek.domain.media import Part
from fleek.engine.backlog import PageWalk
from fleek.engine.purge import ALL_PARTS, Freed, each, erase, purge_all
from fleek.engine.runtime import Runtime
from fleek.store import purges
from fleek.store.purges import Cursor

PAGE: Final = 100  # jobs of one kind and turn
REMOVED: Final = 25  # jobs whose rows go in one transaction, each with its history
REST: Final = timedelta(seconds=0.1)  # while there is more to do: others want the database, too
TROUBLED: Final = 6  # heartbeats, when nothing could be removed: the storage is away

log = structlog.get_logger(__name__)


async def purge_older(rt: Runtime, *, before: datetime, status: Status | None) -> Freed:
    """Purge all jobs that ended so (None: in any way) before then, until none is left.

    Those for which money may be on its way are left out.
    """
    freed, after = Freed(), None
    while True:
        found = await purges.kept(rt.db, before=before, status=status, after=after, limit=PAGE)
        some = await purge_all(rt, [job_id for _, job_id in found], ALL_PARTS, cause="command")
        freed += some
        if len(found) < PAGE or (some.failed and not some.jobs):
            return freed
        after = found[-1]


class Retention:
    """The turns of `expire`, as long as this process coordinates."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._purging, self._ended = PageWalk(PAGE), PageWalk(PAGE)
        self._parts = {part: PageWalk(PAGE) for part in Part}

    async def turn(self) -> timedelta:
        """Purge what is due; returns how long to wait."""
        rt, now = self._rt, self._rt.now()
        freed = await self._finish()
        if not rt.clock.settled:
            return rt.lease.heartbeat
        for part, walk in self._parts.items():
            age = rt.settings.retention(part)
            if age is not None:
                freed += await self._expire(part, walk, before=rt.clock.back(now, age))
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
        walks = (self._purging, self._ended, *self._parts.values())
        return REST if any(walk.more for walk in walks) else rt.lease.heartbeat

    async def _finish(self) -> Freed:
        """Remove what was purged on request, or by somebody who was interrupted."""
        rt = self._rt
        found = await self._purging.page(
            lambda after: purges.purging(rt.db, after=after, limit=PAGE),
            lambda job: (job.updated_at, job.id),
        )
        owing = await purges.owing(rt.db, [job.id for job in found])

        async def erase_one(job: Job) -> Freed:
            return await erase(rt, job)

        return await each(rt, [job for job in found if job.id not in owing], erase_one)

    async def _expire(self, part: Part, walk: PageWalk, *, before: datetime) -> Freed:
        rt = self._rt

        async def read(after: Cursor | None) -> Sequence[Cursor]:
            return await purges.expired(rt.db, part, before=before, after=after, limit=PAGE)

        found = await walk.page(read, lambda place: place)
        return await purge_all(rt, [job_id for _, job_id in found], [part], cause=part.value)

    async def _remove(self, *, before: datetime) -> tuple[Freed, int]:
        """Remove jobs that ended before then, their files first; returns how many are gone."""
        rt = self._rt

        async def read(after: Cursor | None) -> Sequence[Cursor]:
            return await purges.ended(rt.db, before=before, after=after, limit=PAGE)

        found = [job_id for _, job_id in await self._ended.page(read, lambda place: place)]
        freed = await purge_all(rt, found, ALL_PARTS, cause="job")
        removed = 0
        for start in range(0, len(found), REMOVED):
            failpoints.hit("expire.remove")
            removed += await purges.remove(rt.db, found[start : start + REMOVED])
            failpoints.hit("expire.removed")
        rt.metrics.removed_jobs.inc(removed)
        return freed, removed
