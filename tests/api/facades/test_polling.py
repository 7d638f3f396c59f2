"""Clients that poll at their own pace stay within the limit of requests."""

import asyncio

from fastapi.requests import Request

from fleek.api.facades.polling import held
from fleek.api.request_rates import Quota
from fleek.app import create_app
from fleek.domain.job import JobRequest, Status
from fleek.domain.request_rate import request_rate
from fleek.domain.transitions import cancel
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.store.jobs import JobView
from fleek.store.updates import Update, apply

RATE = request_rate(600)


async def test_reads_are_held_back_once_few_requests_are_left(rt: Runtime) -> None:
    """Until the job ends; at once for a caller that has used little, and for a job that has ended."""
    app, view = create_app(rt), JobView(await submit(rt, JobRequest(prompt="x")), ())

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    def request(remaining: int) -> Request:
        quota = Quota(RATE, remaining, 0.0)
        return Request({"type": "http", "app": app, "fleek.quota": quota}, receive)

    at_once = await held(request(RATE.burst), view)
    holding = asyncio.create_task(held(request(1), view))
    while not len(app.state.hub):
        await asyncio.sleep(0)
    await apply(rt.db, view.job.id, lambda job, _: Update(change=cancel(job, now=rt.now())))
    later = await holding

    assert at_once is view
    assert later.job.status is Status.CANCELLED
    assert await held(request(1), later) is later
