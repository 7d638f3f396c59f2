"""The heartbeat of a worker, and the lease that it keeps alive."""

import os
import socket
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import structlog
from uuid_utils.compat import uuid7

from fleek import __version__, failpoints
from fleek.domain.errors import WorkerSuspended
from fleek.domain.job import WorkerId
from fleek.store import workers
from fleek.store.database import Database
from fleek.store.workers import Worker
from fleek.system_clock import Steady, steady_seconds

DEAD_AFTER: Final = 6  # missed heartbeats: other workers free what it holds
SUSPENDED_AFTER: Final = 4  # missed heartbeats: it starts no predictions
ROLE_LASTS: Final = 3  # heartbeats

Key = TypeVar("Key", bound=Hashable)

log = structlog.get_logger(__name__)


class WorkerLease:
    """The lease of this process as a worker. Only a registered worker may claim jobs.

    A worker is considered dead after `DEAD_AFTER` missed heartbeats. It stops starting predictions
    after `SUSPENDED_AFTER`.
    """

    def __init__(
        self,
        db: Database,
        *,
        heartbeat: timedelta,
        slots: int,
        now: Callable[[], datetime],
        steady: Steady = steady_seconds,
    ) -> None:
        self._db = db
        self._now = now
        self._slots = slots
        self._steady = steady
        self._last = float("-inf")  # steady; start of the latest heartbeat
        self._heartbeats = Unchanged(steady)
        self._id: WorkerId | None = None
        self.heartbeat = heartbeat

    @property
    def worker_id(self) -> WorkerId:
        """This worker's id; it changes if the lease was lost.

        Raises:
            WorkerSuspended: Not registered.
        """
        if self._id is None:
            raise WorkerSuspended("this process is not registered as a worker")
        return self._id

    def is_own(self, worker_id: WorkerId) -> bool:
        """Whether this process is that worker."""
        return worker_id == self._id

    @property
    def dead_after(self) -> timedelta:
        """How long a worker may miss heartbeats before it is considered dead."""
        return self.heartbeat * DEAD_AFTER

    def check(self) -> None:
        """Make sure that no other worker can consider this one dead.

        Raises:
            WorkerSuspended: It has missed too many heartbeats and must not start predictions.
        """
        missed = self._steady() - self._last
        if self._id is None or missed > self.heartbeat.total_seconds() * SUSPENDED_AFTER:
            raise WorkerSuspended(
                "this worker could not write its heartbeat in time; it tries again"
            )

    async def register(self) -> None:
        """Register this process as a worker with a new id."""
        begun, now = self._steady(), self._now()
        worker = workers.Worker(
            id=WorkerId(uuid7()),
            host=process_space(),
            pid=os.getpid(),
            version=__version__,
            slots=self._slots,
            started_at=now,
            heartbeat_at=now,
        )
        failpoints.hit("heartbeat.register")
        await workers.register(self._db, worker)
        self._id, self._last = worker.id, begun
        log.info("worker_registered", worker_id=str(worker.id))

    async def beat(self) -> None:
        """Write a heartbeat; register again if the lease was lost."""
        failpoints.hit("heartbeat.write")
        begun = self._steady()
        if await workers.beat(self._db, self.worker_id, now=self._now()):
            self._last = begun
            return
        log.warning("worker_lease_lost", worker_id=str(self.worker_id))
        await self.register()

    def silent(self, running: Sequence[Worker], *, asked: float) -> list[Worker]:
        """Return the workers whose heartbeat has not changed for too long, by the steady clock here.

        The times in the heartbeats are not compared, so a wrong clock expires no worker. `asked`:
        the steady time of the query for `running`.
        """
        heartbeats = {worker.id: worker.heartbeat_at for worker in running}
        unchanged = self._heartbeats.compare(heartbeats, asked=asked)
        limit = self.dead_after.total_seconds()
        return [worker for worker in running if unchanged[worker.id] > limit]

    async def end(self) -> None:
        """End the lease on shutdown: what this worker still holds may be freed at once."""
        if self._id is not None:
            ended, self._id = self._id, None
            failpoints.hit("heartbeat.end")
            await workers.end(self._db, [ended], now=self._now(), resigned=True)


class Unchanged:
    """How long values have stayed the same, as observed by this process."""

    def __init__(self, steady: Steady) -> None:
        self._steady = steady
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def compare(self, values: Mapping[Key, object], *, asked: float) -> Mapping[Key, float]:
        """Return for how many seconds each value has been the same; others are forgotten.

        `asked`: the steady time of the query; values may have changed since.
        """
        now, before = self._steady(), self._seen
        self._seen = {
            key: before[key] if key in before and before[key][0] == value else (value, now)
            for key, value in values.items()
        }
        return {key: max(asked - self._seen[key][1], 0.0) for key in values}


def process_space() -> str:
    """Return the name of the space in which a pid is unique: machine, boot and pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {boot} {space}"


def process_is_gone(worker: workers.Worker) -> bool:
    """Whether a worker of this process space has certainly ended."""
    if worker.host != process_space() or not worker.host.count(" "):
        return False
    return not Path(f"/proc/{worker.pid}").exists()
