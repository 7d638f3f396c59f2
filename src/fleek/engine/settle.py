"""Find out whether an attempt with an unknown outcome was bought."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import AttemptId, Job, JobError
from fleek.domain.transitions import give_up
from fleek.engine.bind import bind
from fleek.engine.runtime import Runtime
from fleek.engine.start import buy
from fleek.engine.verdict import is_buying, record_not_bought, record_refused, settle_attempt
from fleek.providers.base import Prediction, Provider
from fleek.store import attempts, jobs
from fleek.store.steps import Step

LOOKS: Final = 3  # complete ones that found nothing, spread over ADOPT_SECONDS
CRASHED: Final = JobError("worker_crashed", "every worker that started this job died")
UNKNOWN: Final = JobError(
    "provider_outcome_unknown", "it is not known whether the provider was paid for this job"
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Search:
    """What was seen of one lost purchase so far."""

    empty_looks: int
    next_at: datetime


class Settlement:
    """Settles attempts, as long as this process coordinates.

    Only for attempts that nobody is buying any more: their worker is dead, or has said so. What
    fails is tried again in a later turn.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._searches: dict[AttemptId, _Search] = {}

    async def settle(self, attempt: Attempt) -> None:
        """Settle one attempt, in the way its provider allows."""
        rt = self._rt
        job = await jobs.peek(rt.db, attempt.job_id)
        if job.crashes >= rt.settings.max_crashes and is_buying(job, attempt):
            await write_off(rt, attempt, CRASHED)
            return
        provider = rt.providers.get(attempt.provider)
        if provider is None:
            return  # until the operator configures it again, or the deadline ends the job
        if provider.settles == "repeat":
            await self._repeat(job, attempt)
        elif provider.settles == "find":
            await self._search(provider, job, attempt)
        else:
            await write_off(rt, attempt, UNKNOWN)

    async def _repeat(self, job: Job, attempt: Attempt) -> None:
        """Start the same attempt again: to its provider that is the same purchase."""
        try:
            prediction = await buy(self._rt, job, attempt)
        except ProviderRejected as error:
            await record_refused(self._rt, attempt, error)
        except (ProviderUnavailable, OutcomeUnknown) as error:
            log.info("not_settled", attempt=str(attempt.id), reason=str(error))
        else:
            await self._adopt(attempt, prediction, by="repeat")

    async def _search(self, provider: Provider, job: Job, attempt: Attempt) -> None:
        """Look for the purchase in the provider's books; several empty looks mean no purchase."""
        rt, now = self._rt, self._rt.now()
        pause = rt.settings.adopt_seconds / (LOOKS - 1)
        search = self._searches.setdefault(attempt.id, _Search(0, now))
        if now < search.next_at:
            return
        search.next_at = now + pause
        failpoints.hit("settle.find")
        found = await provider.find(job, attempt, now=now)
        free = await self._free(attempt, found.candidates)
        if found.prediction is not None:
            await self._adopt(attempt, found.prediction, by="list")
        elif free and not await attempts.twin_is_buying(rt.db, attempt):
            await self._adopt(attempt, free[0], by="list")
        elif found.wiped:
            await write_off(rt, attempt, UNKNOWN)
        elif free or not found.complete:
            search.empty_looks = 0
        else:
            search.empty_looks += 1
            if search.empty_looks >= LOOKS:
                await self._conclude_empty(attempt)

    async def _free(
        self, attempt: Attempt, candidates: Sequence[Prediction]
    ) -> Sequence[Prediction]:
        """Return the candidates that no attempt has: twins' or our own, they are the same."""
        if not candidates:
            return ()
        ids = [candidate.id for candidate in candidates]
        taken = await attempts.bound(self._rt.db, attempt.provider, ids)
        return [one for one in candidates if one.id not in taken]

    async def _adopt(self, attempt: Attempt, prediction: Prediction, *, by: str) -> None:
        self._searches.pop(attempt.id, None)
        self._rt.metrics.adopted.labels(by).inc()
        log.info("adopted", attempt=str(attempt.id), prediction=prediction.id, by=by)
        failpoints.hit("settle.adopt")
        await bind(self._rt, attempt, prediction)

    async def _conclude_empty(self, attempt: Attempt) -> None:
        failpoints.hit("settle.empty")
        self._searches.pop(attempt.id, None)
        error = ProviderUnavailable("the provider did not sell anything", code="not_bought")
        await record_not_bought(self._rt, attempt, error)


async def write_off(rt: Runtime, attempt: Attempt, reason: JobError) -> None:
    """End the attempt as lost, and the job that stands or falls with it as failed."""

    def decide(job: Job, current: Attempt | None) -> Step:
        lost = settle_attempt(current, Verdict.LOST)
        if not is_buying(job, attempt):
            return Step(attempt=lost)
        return Step(attempt=lost, change=give_up(job, reason, now=rt.now()))

    await rt.take(attempt.job_id, decide, attempt_id=attempt.id)
