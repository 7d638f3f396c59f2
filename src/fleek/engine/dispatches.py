"""Dispatch ids to workers: by a message, or within this process."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from fleek import __version__, failpoints
from fleek.dispatch.base import Dispatcher, HandsOver, SendsMany, Slot, Task
from fleek.domain.attempt import Attempt
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import Job, JobId
from fleek.domain.values import dataclass
from fleek.registry import supports
from fleek.store.workers import Worker

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

REPEAT_SECONDS: Final = 30.0  # before an id that was not claimed is dispatched again
SLOTS_PER_ID: Final = 8  # of the smallest worker, per id in a message

log = structlog.get_logger(__name__)


class Dispatches:
    """The ids of one task that this process has dispatched, and that were not claimed yet."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sent: dict[JobId, tuple[datetime, float]] = {}  # its `run_at` then; when, monotonic

    def note(self, wanted: Mapping[JobId, datetime]) -> None:
        """Forget ids that were claimed, or were dispatched too long ago.

        An id was claimed if its job is not `wanted` any more, or has another `run_at`: then it was
        claimed and returned to the queue in between.
        """
        oldest = time.monotonic() - REPEAT_SECONDS
        self._sent = {
            job_id: (run_at, sent)
            for job_id, (run_at, sent) in self._sent.items()
            if wanted.get(job_id) == run_at and sent > oldest
        }

    def record(self, job_id: JobId, run_at: datetime) -> None:
        """Take note of an id that was dispatched by other means than `send`.

        Only a coordinator calls `note`, so what is too old is forgotten here too.
        """
        now = time.monotonic()
        while self._sent:
            oldest = next(iter(self._sent))
            if self._sent[oldest][1] > now - REPEAT_SECONDS:
                break
            del self._sent[oldest]
        self._sent.pop(job_id, None)  # so that the oldest comes first
        self._sent[job_id] = (run_at, now)

    @property
    def outstanding(self) -> list[JobId]:
        """The ids that are not known to be claimed."""
        return list(self._sent)

    async def send(
        self,
        rt: "Runtime",
        wanted: Mapping[JobId, datetime],
        *,
        most: int,
        running: Sequence[Worker],
        may: Callable[[JobId], bool] = lambda _: True,
    ) -> int:
        """Dispatch jobs until `most` are outstanding; returns how many were dispatched now.

        `wanted` holds the `run_at` of each job, in the order of dispatch. `may` is called in this
        order, and only for jobs that are dispatched if it returns True. `running`: all workers.
        """
        self.note(wanted)
        fresh = filter(may, (job_id for job_id in wanted if job_id not in self._sent))
        chosen = list(islice(fresh, max(most - len(self._sent), 0)))
        size = ids_per_message(rt.dispatcher, running, len(chosen))
        for number in range(0, len(chosen), size):
            job_ids = chosen[number : number + size]
            try:
                failpoints.hit("admit.dispatch")
                await self._send(rt, job_ids)
            except DispatcherUnavailable as error:
                log.warning("dispatch_failed", job_ids=list(map(str, job_ids)), reason=str(error))
                return number
            sent = time.monotonic()
            self._sent.update({job_id: (wanted[job_id], sent) for job_id in job_ids})
        return len(chosen)

    async def _send(self, rt: "Runtime", job_ids: Sequence[JobId]) -> None:
        if len(job_ids) > 1 and isinstance(rt.dispatcher, SendsMany):
            await rt.dispatcher.enqueue_many(self._task, job_ids)
            return
        for job_id in job_ids:
            await rt.dispatcher.enqueue(self._task, job_id)


def ids_per_message(dispatcher: Dispatcher, running: Sequence[Worker], number: int) -> int:
    """Return how many of so many ids are sent in one message.

    Few ids are spread over all workers, so that none is idle while another has several. A message
    never fills more than an eighth of a worker's slots. While releases are mixed during an upgrade,
    it has one id, which every release understands.
    """
    mixed = any(worker.version != __version__ for worker in running)
    if mixed or not running or not isinstance(dispatcher, SendsMany):
        return 1
    share = -(-number // len(running))
    eighth = min(worker.slots for worker in running) // SLOTS_PER_ID
    return max(min(share, eighth, dispatcher.most_ids), 1)


class OwnShare:
    """Which of the jobs that this process has concluded it collects itself.

    Without a message a collect costs less. But the coordinator concludes the jobs of all workers, so
    it keeps one of so many as there are workers, and sends the others the rest.
    """

    def __init__(self) -> None:
        self.others = 0  # workers, as of the latest look at their heartbeats
        self._passed_on = 0  # since one was kept

    def keeps_next(self) -> bool:
        """Whether the next job belongs to this process; call it once for each."""
        if self._passed_on < self.others:
            self._passed_on += 1
            return False
        self._passed_on = 0
        return True


@dataclass(frozen=True, slots=True)
class ClaimedCollect:
    """A job that this process has claimed, to collect its outputs."""

    job: Job
    attempt: Attempt | None = None  # that was concluded with the claim; None: it is to be read


def reserve_collect(rt: "Runtime") -> Slot | None:
    """Keep a slot of this process for the collect of a job that is about to be concluded.

    None: no slot is free, or it is the turn of another worker.
    """
    dispatcher = rt.dispatcher
    if not supports(dispatcher, HandsOver) or not rt.own_share.keeps_next():
        return None
    return dispatcher.reserve("collect")


async def dispatch_collect(rt: "Runtime", job: Job) -> None:
    """Dispatch the collect of a job that was concluded just now; `admit` repeats what fails.

    A process without workers, or without a free slot while there are other workers, sends a message.
    """
    try:
        if not _waits_here(rt, job):
            await rt.dispatcher.enqueue("collect", job.id)
    except DispatcherUnavailable as error:
        log.warning("dispatch_failed", job_id=str(job.id), reason=str(error))
    else:
        rt.collects.record(job.id, job.run_at)


def _waits_here(rt: "Runtime", job: Job) -> bool:
    """Whether the job waits for a slot of this process: no other worker has one sooner."""
    dispatcher = rt.dispatcher
    if rt.own_share.others or not supports(dispatcher, HandsOver):
        return False
    return dispatcher.hand_over("collect", job.id)
