"""Dispatch ids to workers: by a message, or within this process."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from fleek import failpoints
from fleek.dispatch.base import HandsOver, Task
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import Job, JobId

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

REPEAT_SECONDS: Final = 30.0  # before an id that was not claimed is dispatched again

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
        may: Callable[[JobId], bool] = lambda _: True,
    ) -> int:
        """Dispatch jobs until `most` are outstanding; returns how many were dispatched now.

        `wanted` holds the `run_at` of each job, in the order of dispatch. `may` is called in this
        order, and only for jobs that are dispatched if it returns True.
        """
        self.note(wanted)
        fresh = filter(may, (job_id for job_id in wanted if job_id not in self._sent))
        chosen = list(islice(fresh, max(most - len(self._sent), 0)))
        for number, job_id in enumerate(chosen):
            try:
                failpoints.hit("admit.dispatch")
                await rt.dispatcher.enqueue(self._task, job_id)
            except DispatcherUnavailable as error:
                log.warning("dispatch_failed", job_id=str(job_id), reason=str(error))
                return number
            self._sent[job_id] = (wanted[job_id], time.monotonic())
        return len(chosen)


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


async def dispatch_collect(rt: "Runtime", job: Job) -> None:
    """Dispatch the collect of a job that was concluded just now; `admit` repeats what fails.

    A process without workers, or without a free slot, sends a message.
    """
    try:
        if not (rt.own_share.keeps_next() and _hand_over(rt, job)):
            await rt.dispatcher.enqueue("collect", job.id)
    except DispatcherUnavailable as error:
        log.warning("dispatch_failed", job_id=str(job.id), reason=str(error))
    else:
        rt.collects.record(job.id, job.run_at)


def _hand_over(rt: "Runtime", job: Job) -> bool:
    return isinstance(rt.dispatcher, HandsOver) and rt.dispatcher.hand_over("collect", job.id)
