"""Requests whose answer is the result: they wait until their job has ended."""

from time import monotonic
from typing import Final

from fastapi.requests import Request

from fleek.api.deps import runtime
from fleek.api.facades.repeats import has_gone
from fleek.api.waiting import waited_for_end
from fleek.domain.errors import StillRunning, Unreadable
from fleek.store import jobs
from fleek.store.jobs import Accepted, JobView

HOLD_SECONDS: Final = 570.0  # clients give up after ten minutes


async def ended(request: Request, accepted: Accepted) -> JobView:
    """Return a job when it has ended.

    Raises:
        StillRunning: It takes too long, or this process stops or has too many requests that wait.
        Unreadable: The caller has gone; the job goes on.
    """
    job, since = accepted.job, monotonic()
    view = await jobs.get(runtime(request).db, job.id, tenant_id=job.tenant_id)
    while not view.job.terminal:
        left = HOLD_SECONDS - (monotonic() - since)
        view, waited = await waited_for_end(request, view, seconds=max(left, 0.0))
        if view.job.terminal:
            break
        if await has_gone(request.receive):
            raise Unreadable("the caller has gone")
        if left <= 0 or not waited:
            raise StillRunning(f"job {job.id} has not ended yet: send the same request again")
    return view
