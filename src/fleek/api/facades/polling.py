"""Clients that poll at a fixed pace, faster than the rate of requests allows many of them to.

Their protocol has no field that slows them down; a response that is held back does.
"""

from typing import Final

from fastapi.requests import Request

from fleek.api.request_rates import Quota
from fleek.api.waiting import waited_for_end
from fleek.store.jobs import JobView

HOLD_SECONDS: Final = 10.0  # below every client's timeout of a read
SCARCE: Final = 0.5  # of the burst: with fewer requests left than that, responses are held back


async def held(request: Request, view: JobView, *, least: float = 0.0) -> JobView:
    """Return a job as it is at its end, or after a while.

    That is `least` seconds, and more once the caller has few requests left. A caller that goes away, or a
    process that stops, ends it early.
    """
    quota: Quota | None = request.scope.get("fleek.quota")
    scarce = quota is not None and quota.remaining < quota.rate.burst * SCARCE
    seconds = HOLD_SECONDS if scarce else least
    if view.job.terminal or not seconds:
        return view
    return (await waited_for_end(request, view, seconds=seconds))[0]
