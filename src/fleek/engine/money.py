"""What follows if there is no money for the next attempt of a job: no budget, or its own limit."""

from datetime import timedelta
from typing import Final

from fleek.domain.attempt import Attempt
from fleek.domain.charges import MAX_COST, over_max_cost
from fleek.domain.errors import OutOfBudget
from fleek.domain.job import Job, JobError, JobId, Status
from fleek.domain.transitions import wait_for_budget
from fleek.engine import failover
from fleek.engine.apply import apply_until_stored
from fleek.engine.inputs import route_of
from fleek.engine.runtime import Runtime
from fleek.store.updates import Update

BUDGET_PAUSE: Final = timedelta(minutes=1)  # until a job without money is tried again


class OverMaxCost(OutOfBudget):
    """The next attempt would cost more than the job may."""

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(reason)
        self.route = route_of(job)


def check_max_cost(job: Job, attempt: Attempt) -> None:
    """Raise `OverMaxCost` if the job may not make this attempt."""
    if (reason := over_max_cost(job, attempt.estimate)) is not None:
        raise OverMaxCost(job, reason)


async def wait_for_money(rt: Runtime, job_id: JobId, error: OutOfBudget) -> None:
    """Let a job wait that has no money for its next attempt: the budget may be raised any time.

    Its own limit stays: it goes on at its next route, which may be cheaper, or ends.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        """Wait for the budget, or leave the route that is too expensive."""
        if job.status is not Status.PENDING:
            return Update()
        if isinstance(error, OverMaxCost):
            reason = JobError(code=MAX_COST, message=str(error))
            leaves = route_of(job) == error.route
            return Update(change=failover.refused(rt, job, reason)) if leaves else Update()
        return Update(change=wait_for_budget(job, error, now=rt.now(), pause=BUDGET_PAUSE))

    await apply_until_stored(rt, job_id, decide, event="out_of_budget")
