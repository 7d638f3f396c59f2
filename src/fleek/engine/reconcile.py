"""Find out whether an attempt with an unknown outcome was bought."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import AttemptId, Job, JobError
from fleek.domain.transitions import fail_permanently
from fleek.engine.agenda import Agenda
from fleek.engine.bind import bind
from fleek.engine.patience import in_time
from fleek.engine.runtime import Runtime
from fleek.engine.start import buy
from fleek.engine.verdict import close_attempt, is_buying, record_not_bought, record_refused
from fleek.providers.base import UNREACHABLE, Prediction, SupportsFind
from fleek.store import attempts, jobs
from fleek.store.updates import Update

LOOKS: Final = 3  # complete ones that found nothing, spread over ADOPT_SECONDS
LIMIT: Final = timedelta(minutes=2)  # the longest that one look may take
CRASHED: Final = JobError("worker_crashed", "every worker that started this job died")
UNKNOWN: Final = JobError(
    "provider_outcome_unknown", "it is not known whether the provider was paid for this job"
)

log = structlog.get_logger(__name__)


class Reconciliation:
    """Settles attempts of one provider, as long as this process coordinates.

    Only for attempts that nobody is buying any more: their worker is dead, or has said so. What
    fails is tried again later: `agenda` says when.
    """

    def __init__(self, rt: Runtime, name: str, agenda: Agenda) -> None:
        self._rt = rt
        self._provider = rt.providers[name]
        self._agenda = agenda
        self._empty_looks: Counter[AttemptId] = Counter()  # in a row

    async def reconcile(self, attempt: Attempt) -> bool:
        """Settle one attempt, in the way its provider allows; returns whether that answered."""
        job = await jobs.get_any_tenant(self._rt.db, attempt.job_id)
        crashed = job.crashes >= self._rt.settings.max_crashes
        try:
            if self._provider.settles == "repeat":
                await self._repeat(job, attempt)
            elif self._provider.settles == "find" and isinstance(self._provider, SupportsFind):
                await self._search(self._provider, job, attempt, crashed=crashed)
            else:
                await write_off(self._rt, attempt, CRASHED if crashed else UNKNOWN)
        except (ProviderUnavailable, OutcomeUnknown) as error:
            self._empty_looks.pop(attempt.id, None)  # a look that failed saw nothing
            log.info("reconcile_failed", attempt_id=str(attempt.id), reason=str(error))
            return error.code not in {UNREACHABLE, OutcomeUnknown.code}
        return True

    async def _repeat(self, job: Job, attempt: Attempt) -> None:
        """Start the same attempt again: to its provider that is the same purchase."""
        try:
            async with in_time(attempt.provider, LIMIT):
                prediction = await buy(self._rt, job, attempt)
        except ProviderRejected as error:
            await record_refused(self._rt, attempt, error)
        else:
            await self._adopt(attempt, prediction, by="repeat")

    async def _search(
        self, provider: SupportsFind, job: Job, attempt: Attempt, *, crashed: bool
    ) -> None:
        """Look for the purchase in the provider's books; several empty looks mean no purchase."""
        rt = self._rt
        self._agenda.later(attempt.id, pause=rt.settings.adopt_seconds / (LOOKS - 1))
        failpoints.hit("settle.find")
        async with in_time(attempt.provider, LIMIT):
            found = await provider.find(job, attempt, now=rt.now())
        free = await self._free(attempt, found.candidates)
        if found.prediction is not None:
            await self._adopt(attempt, found.prediction, by="list")
        elif free and not await attempts.duplicate_in_flight(rt.db, attempt):
            await self._adopt(attempt, free[0], by="list")
        elif found.wiped:
            await write_off(rt, attempt, UNKNOWN)
        elif free or not found.complete:
            self._empty_looks.pop(attempt.id, None)
        else:
            self._empty_looks[attempt.id] += 1
            if self._empty_looks[attempt.id] >= LOOKS:
                await self._conclude_empty(attempt, crashed=crashed)

    async def _free(
        self, attempt: Attempt, candidates: Sequence[Prediction]
    ) -> Sequence[Prediction]:
        """Return the candidates that no attempt has: twins' or our own, they are the same."""
        if not candidates:
            return ()
        ids = [candidate.id for candidate in candidates]
        taken = await attempts.bound_ids(self._rt.db, attempt.provider, ids)
        return [one for one in candidates if one.id not in taken]

    async def _adopt(self, attempt: Attempt, prediction: Prediction, *, by: str) -> None:
        self._empty_looks.pop(attempt.id, None)
        self._rt.metrics.adopted.labels(by).inc()
        log.info(
            "prediction_adopted", attempt_id=str(attempt.id), prediction_id=prediction.id, by=by
        )
        failpoints.hit("settle.adopt")
        await bind(self._rt, attempt, prediction)

    async def _conclude_empty(self, attempt: Attempt, *, crashed: bool) -> None:
        """Give the attempt back; a job that every worker crashed over is not started again."""
        failpoints.hit("settle.empty")
        self._empty_looks.pop(attempt.id, None)
        error = ProviderUnavailable("the provider did not sell anything", code="not_bought")
        if crashed:
            refused = ProviderRejected(CRASHED.message, code=CRASHED.code)
            await record_refused(self._rt, attempt, refused)
        else:
            await record_not_bought(self._rt, attempt, error)


async def write_off(rt: Runtime, attempt: Attempt, reason: JobError) -> None:
    """End the attempt as lost, and the job that stands or falls with it as failed."""

    def decide(job: Job, current: Attempt | None) -> Update:
        lost = close_attempt(current, Verdict.LOST)
        if not is_buying(job, attempt):
            return Update(attempt=lost)
        return Update(attempt=lost, change=fail_permanently(job, reason, now=rt.now()))

    await rt.apply(attempt.job_id, decide, attempt_id=attempt.id)
