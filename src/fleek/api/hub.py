"""What has become of jobs, for all requests of this process that wait for it.

None of them holds a connection to the database. While there are any, one task asks for the
versions of all their jobs together, several times a second; without any, nothing is asked. Changes
that this process makes are noticed at once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fleek.api.turns import read_in_turns
from fleek.domain.job import JobId
from fleek.engine.loops import Bell
from fleek.engine.runtime import Runtime
from fleek.store import jobs

IDS: Final = 500  # in one statement
MAX_WAITING: Final = 1000  # requests that wait for the end of their job


class Watch:
    """A job that somebody waits for; its bell rings when there is something new."""

    def __init__(self, job_id: JobId, bell: Bell) -> None:
        self.job_id = job_id
        self.bell = bell
        self.version = 0  # the latest one that was seen
        self.ended = False  # whether the job has ended, or has been removed


class Hub:
    """The watches of one process, and the task that reads for them."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._watches: defaultdict[JobId, set[Watch]] = defaultdict(set)
        self._reader: asyncio.Task[None] | None = None
        self._waiting = 0
        self.closing = False

    def __len__(self) -> int:
        return sum(map(len, self._watches.values()))

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """Count a request that waits for the end of its job; False: there are too many."""
        admitted = self._waiting < MAX_WAITING and not self.closing
        self._waiting += admitted
        try:
            yield admitted
        finally:
            self._waiting -= admitted

    @contextmanager
    def watch(self, job_id: JobId, bell: Bell) -> Iterator[Watch]:
        """Watch a job for as long as the block runs."""
        watch = Watch(job_id, bell)
        self._watches[job_id].add(watch)
        self._start()
        self._rt.wakeups.notify("events")
        try:
            yield watch
        finally:
            self._watches[job_id].discard(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    def close(self) -> None:
        """Let everybody go: the process ends. Each ring of a bell is the last one."""
        self.closing = True
        for watches in self._watches.values():
            for watch in watches:
                watch.bell.notify()

    def _start(self) -> None:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_while_watched())

    async def _read_while_watched(self) -> None:
        def followed() -> bool:
            return bool(self._watches) and not self.closing

        try:
            await read_in_turns(self._rt, self._read, followed=followed)
        finally:
            self._reader = None

    async def _read(self) -> bool:
        watched = list(self._watches)
        for start in range(0, len(watched), IDS):
            ids = watched[start : start + IDS]
            found = await jobs.versions(self._rt.db, ids)
            for job_id in ids:
                self._tell(job_id, found.get(job_id))
        return False

    def _tell(self, job_id: JobId, found: jobs.JobVersion | None) -> None:
        version, ended = (0, True) if found is None else found
        for watch in self._watches.get(job_id, ()):
            if (watch.version, watch.ended) != (version, ended):
                watch.version, watch.ended = version, ended
                watch.bell.notify()
