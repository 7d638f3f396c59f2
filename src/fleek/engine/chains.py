"""Chains: jobs that wait for the output of another job.

Such a job is not due while it waits. This loop lets it start once all of these have completed, and ends
it if one of them has failed or was cancelled.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from fleek.domain import transitions
from fleek.domain.attempt import Attempt
from fleek.domain.inputs import InputKind
from fleek.domain.job import Job, JobError, JobId, OnInputCancel, Status
from fleek.engine.apply import apply
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.store import inputs, jobs
from fleek.store.updates import Update

PAGE: Final = 500  # links per turn
IDLE: Final = timedelta(seconds=1)
REST: Final = timedelta(seconds=0.05)  # between turns while there are more links


class Chains:
    """The turns of the loop `chain` during one leadership."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._after: tuple[JobId, int] | None = None

    async def turn(self) -> timedelta:
        """Look at a page of waiting jobs; returns the time until the next turn."""
        rt = self._rt
        rt.links.expected = False  # a job that is submitted during the look sets it again
        links = await inputs.waiting(rt.db, after=self._after, limit=PAGE)
        if links or self._after is not None:
            rt.links.expected = True
        for job_id in dict.fromkeys(link.job_id for link in links if link.ended):
            await run_logged(rt, "chain", partial(advance, rt, job_id), job_id=job_id)
        more = len(links) == PAGE
        self._after = (links[-1].job_id, links[-1].number) if more else None
        return REST if more else IDLE


async def advance(rt: Runtime, job_id: JobId) -> Job:
    """Let a waiting job start, or end it, if the jobs that it waits for have ended so."""
    waiting = await jobs.get_any_tenant(rt.db, job_id)
    statuses = await inputs.sources(rt.db, waiting)

    def decide(job: Job, _: Attempt | None) -> Update:
        if not job.waits_for_input:
            return Update(inputs_ready=True)
        return _outcome(rt, job, statuses)

    applied = await apply(rt, job_id, decide, event="inputs_ready")
    if applied.changed:
        rt.wakeups.notify("admit")
    return applied.job


def _outcome(rt: Runtime, job: Job, statuses: Mapping[JobId, Status]) -> Update:
    now = rt.now()
    wanted = {each.id for each in job.inputs if each.kind is InputKind.JOB}
    by_id = {str(source): status for source, status in statuses.items()}
    lost = {each: by_id.get(str(each)) for each in wanted}
    cancelled = [each for each, status in lost.items() if status is Status.CANCELLED]
    failed = [each for each, status in lost.items() if status in {None, Status.FAILED}]
    if cancelled and not failed and job.on_input_cancel is OnInputCancel.CANCEL:
        return Update(change=transitions.cancel(job, now=now))
    if gone := sorted(map(str, failed + cancelled)):
        how = lost[gone[0]] or "removed"
        reason = JobError("input_failed", f"job {gone[0]}, whose output it needs, was {how}")
        if how is Status.FAILED:
            reason = JobError("input_failed", f"job {gone[0]}, whose output it needs, has failed")
        return Update(change=transitions.fail_permanently(job, reason, now=now))
    if all(status is Status.COMPLETED for status in lost.values()):
        return Update(change=transitions.release_inputs(job, now=now), inputs_ready=True)
    return Update()
