"""Reconcile attempts whose outcome is unknown: find out whether a prediction was created.

Adopt the prediction if there is one, return the attempt to the queue if there is none, and write
the attempt off only if neither can be known.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict, close_attempt
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import AttemptId, Job, JobError, JobId, PredictionId, Stage, WorkerId
from fleek.domain.transitions import fail_permanently, hold_unknown, release_unknown
from fleek.engine.accounts import account_of
from fleek.engine.apply import apply, apply_until_stored
from fleek.engine.backlog import RetrySchedule
from fleek.engine.clock import STEP
from fleek.engine.history import search_history
from fleek.engine.inputs import with_inputs
from fleek.engine.loops import run_logged
from fleek.engine.provider_limits import call_timeout
from fleek.engine.runtime import Runtime
from fleek.engine.start import (
    RESTORED,
    awaits_start,
    bind,
    close_unbound,
    is_to_be_searched,
    is_unbound,
    record_not_created,
    record_refused,
    start_prediction,
)
from fleek.providers.base import (
    UNREACHABLE,
    Found,
    Prediction,
    SupportsAwaitedCallbacks,
    SupportsFind,
)
from fleek.store import attempts, jobs
from fleek.store.updates import Update

LOOKS: Final = 3  # complete searches without a result, spread over RECONCILE_SECONDS
TWIN_WAIT: Final = 2 * LOOKS  # looks before an unknown attempt loses its claim
RIVAL_WINDOW: Final = timedelta(
    minutes=5
)  # after an intent, in which a prediction of it is created
LIMIT: Final = timedelta(minutes=2)  # per repeat
SEARCH_LIMIT: Final = timedelta(minutes=10)  # per search: many pages, each with its own limit
MOST_SEEN: Final = 100_000  # attempts
LONGEST_PAUSE: Final = timedelta(minutes=1)  # while a callback is waited for
CRASHED: Final = JobError("worker_crashed", "too many workers crashed while starting this job")
UNKNOWN: Final = JobError(
    "provider_outcome_unknown", "it is not known whether the provider was paid for this job"
)
ABANDONED: Final = JobError(
    "provider_outcome_unknown",
    "its provider is no longer configured, and the operator has abandoned the prediction",
)
OPEN: Final = frozenset({Stage.STARTING, Stage.UNKNOWN, Stage.WAITING})

log = structlog.get_logger(__name__)


class Reconciliation:
    """Reconciles the attempts of one provider that no worker is working on any more.

    How many searches found nothing is kept with the attempt, so a new leader continues the count:
    leadership may change more often than `RECONCILE_SECONDS`. `schedule` says when to try again.
    """

    def __init__(self, rt: Runtime, name: str, schedule: RetrySchedule) -> None:
        self._rt = rt
        self._provider = rt.providers[name]
        self._schedule = schedule
        self._first_seen: dict[
            AttemptId, float
        ] = {}  # by the steady clock; with awaited callbacks
        self._ambiguous: set[PredictionId] = set()  # candidates of attempts that were written off
        self._between_looks = rt.settings.reconcile_seconds / (LOOKS - 1)

    async def reconcile(self, attempt: Attempt) -> bool:
        """Reconcile one attempt as its provider allows; returns whether the provider answered."""
        job = await jobs.get_any_tenant(self._rt.db, attempt.job_id)
        provider = account_of(self._rt, attempt.provider, attempt.account).provider
        crashed = job.crashes >= self._rt.settings.max_worker_crashes
        try:
            if is_to_be_searched(self._rt, job) and awaits_start(job, attempt):
                await self._search_history(job, attempt, crashed=crashed)
            elif provider.reconcile_by == "repeat":
                await self._rt.shielded.run(self._repeat(job, attempt))
            elif provider.reconcile_by == "find" and isinstance(provider, SupportsFind):
                await self._search(provider, job, attempt, crashed=crashed)
            elif left := self._until_overdue(attempt):
                self._schedule.postpone(attempt.id, pause=min(left, LONGEST_PAUSE))
            else:
                await write_off(self._rt, attempt, CRASHED if crashed else UNKNOWN)
        except (ProviderUnavailable, OutcomeUnknown) as error:
            log.info("reconcile_failed", attempt_id=str(attempt.id), reason=str(error))
            await self._store_looks(attempt, 0)
            return error.code not in {UNREACHABLE, OutcomeUnknown.code}
        return True

    def _until_overdue(self, attempt: Attempt) -> timedelta:
        """Return how long the callback of an attempt is still waited for; zero: not any longer.

        Its intent may have been written in the future, by a clock that was set back since: then the time
        since this process has first seen it counts.
        """
        rt, limit = self._rt, None
        if isinstance(self._provider, SupportsAwaitedCallbacks):
            limit = self._provider.callback_limit(attempt)
        if limit is None:
            return timedelta(0)
        if len(self._first_seen) >= MOST_SEEN:
            self._first_seen.clear()
        seen = rt.steady() - self._first_seen.setdefault(attempt.id, rt.steady())
        lived = rt.clock.lived(attempt.submitted_at, rt.now())
        passed = max(lived, timedelta(seconds=seen))
        return max(limit + rt.settings.reconcile_seconds - passed, timedelta(0))

    async def _repeat(self, job: Job, attempt: Attempt) -> None:
        """Start the same attempt again, which the provider takes for the same prediction.

        This is also the look that precedes a write-off, so one repeat follows the last crash that
        is allowed. The job is held meanwhile: a crash during a repeat counts like one at a start.
        """
        rt, worker_id = self._rt, self._rt.lease.worker_id
        if job.crashes > rt.settings.max_worker_crashes:
            await write_off(rt, attempt, CRASHED)
        elif await self._hold(attempt, worker_id):
            try:
                async with call_timeout(attempt.provider, LIMIT):
                    asked = await with_inputs(rt, job, attempt)
                    prediction = await start_prediction(rt, asked, attempt)
            except ProviderRejected as error:
                await record_refused(rt, attempt, error)
            else:
                await self._adopt(attempt, prediction, by="repeat")
            finally:
                await self._release(attempt, worker_id)

    async def _hold(self, attempt: Attempt, worker_id: WorkerId) -> bool:
        """Hold the job for a repeat; False: it moved on, or its latest holder is not freed yet."""
        rt = self._rt

        def decide(job: Job, current: Attempt | None) -> Update:
            holdable = job.terminal or job.stage is Stage.UNKNOWN
            if not holdable or job.worker_id is not None or not is_unbound(current):
                return Update()
            return Update(change=hold_unknown(job, worker_id, now=rt.now()))

        held = await apply(rt, attempt.job_id, decide, event="repeating", attempt_id=attempt.id)
        return held.changed

    async def _release(self, attempt: Attempt, worker_id: WorkerId) -> None:
        rt = self._rt

        def decide(job: Job, _: Attempt | None) -> Update:
            holdable = job.terminal or job.stage is Stage.UNKNOWN
            if not holdable or job.worker_id != worker_id:
                return Update()
            return Update(change=release_unknown(job, now=rt.now(), reason="the repeat has ended"))

        await apply_until_stored(rt, attempt.job_id, decide, event="released")

    async def _search(
        self, provider: SupportsFind, job: Job, attempt: Attempt, *, crashed: bool
    ) -> None:
        """Search the provider's list; several empty looks in a row mean that nothing was created."""
        rt, empty_looks = self._rt, self._empty_looks(attempt)
        if self._is_early(attempt, empty_looks):
            return
        failpoints.hit("reconcile.find")
        now = attempt.submitted_at + rt.clock.lived(attempt.submitted_at, rt.now())
        async with call_timeout(attempt.provider, SEARCH_LIMIT):
            found = await provider.find(job, attempt, now=now)
        unbound = await self._unbound(attempt, found.candidates)
        tied = found.partial and await self._is_tied(job, attempt, unbound)
        if found.prediction is not None:
            await self._adopt(attempt, found.prediction, by="list")
        elif unbound and not tied and not await self._is_contested(attempt, unbound[0], found):
            await self._adopt(attempt, unbound[0], by="list")
        elif found.wiped or (
            tied and now - attempt.submitted_at > TWIN_WAIT * self._between_looks
        ):
            self._ambiguous |= {candidate.id for candidate in unbound}
            await write_off(rt, attempt, UNKNOWN)
        elif unbound or not found.complete:
            await self._store_looks(attempt, 0)
        elif await self._store_looks(attempt, empty_looks + 1) and empty_looks + 1 >= LOOKS:
            await self._conclude_empty(attempt, crashed=crashed)

    async def _search_history(self, job: Job, attempt: Attempt, *, crashed: bool) -> None:
        """Search for what was created for a restored job after the backup of its database."""
        rt, empty_looks = self._rt, self._empty_looks(attempt)
        if self._is_early(attempt, empty_looks):
            return
        failpoints.hit("reconcile.find")
        async with call_timeout(attempt.provider, SEARCH_LIMIT):
            found = await search_history(rt, job, attempt)
        if found.prediction is not None:
            await self._adopt(attempt, found.prediction, by="history")
        elif found.elsewhere:
            other = ProviderUnavailable("its prediction is at another account of the provider")
            await record_not_created(rt, attempt, other)
        elif found.uncertain:
            await write_off(rt, attempt, RESTORED)
        elif not found.complete:
            await self._store_looks(attempt, 0)
        elif await self._store_looks(attempt, empty_looks + 1) and empty_looks + 1 >= LOOKS:
            await self._conclude_empty(attempt, crashed=crashed, searched=True)

    def _is_early(self, attempt: Attempt, empty_looks: int) -> bool:
        """Schedule the next look; returns whether it is too early for this one to count."""
        early = self._until_next_look(attempt) if empty_looks else timedelta(0)
        self._schedule.postpone(attempt.id, pause=early or self._between_looks)
        return bool(early)

    async def _is_tied(self, job: Job, attempt: Attempt, unbound: Sequence[Prediction]) -> bool:
        """Whether candidates may be of another request with the same prompt, made about that time."""
        if not self._ambiguous.isdisjoint(candidate.id for candidate in unbound):
            return True
        if not unbound:
            return False
        before = attempt.submitted_at + RIVAL_WINDOW
        return await attempts.rival_unbound(self._rt.db, attempt, prompt=job.prompt, before=before)

    async def _is_contested(self, attempt: Attempt, candidate: Prediction, found: Found) -> bool:
        """Whether another attempt with the same request may have a better claim to a candidate.

        A candidate of another hour is left to unknown attempts that were not looked for long enough:
        one whose prediction was taken would find nothing, and its job would be paid for again.
        """
        since = None
        if candidate not in found.candidates[: found.likely]:
            since = self._rt.clock.back(self._rt.now(), TWIN_WAIT * self._between_looks)
        return await attempts.duplicate_in_flight(self._rt.db, attempt, unknown_since=since)

    def _empty_looks(self, attempt: Attempt) -> int:
        """Return how many looks in a row were empty; none count if the clock was set back since."""
        looked_at = attempt.looked_at
        if looked_at is None or looked_at > self._rt.now() + STEP:
            return 0
        return attempt.empty_looks

    def _until_next_look(self, attempt: Attempt) -> timedelta:
        """Return how long to wait for another look to count."""
        assert attempt.looked_at is not None
        passed = self._rt.clock.lived(attempt.looked_at, self._rt.now())
        return max(self._between_looks - passed, timedelta(0))

    async def _store_looks(self, attempt: Attempt, empty_looks: int) -> bool:
        """Store how many looks in a row were empty; False: another leader has looked meanwhile."""
        if not empty_looks and not attempt.empty_looks:
            return True
        now = self._rt.now()

        def decide(_: Job, current: Attempt | None) -> Update:
            if not is_unbound(current) or current.empty_looks != attempt.empty_looks:
                return Update()
            return Update(attempt=replace(current, empty_looks=empty_looks, looked_at=now))

        stored = await apply(
            self._rt, attempt.job_id, decide, event="empty_look", attempt_id=attempt.id
        )
        return stored.update.attempt is not None

    async def _unbound(
        self, attempt: Attempt, candidates: Sequence[Prediction]
    ) -> Sequence[Prediction]:
        """Return the candidates that are bound to no attempt."""
        if not candidates:
            return ()
        ids = [candidate.id for candidate in candidates]
        bound = await attempts.bound_ids(self._rt.db, attempt.provider, ids)
        return [candidate for candidate in candidates if candidate.id not in bound]

    async def _adopt(self, attempt: Attempt, prediction: Prediction, *, by: str) -> None:
        self._rt.metrics.adopted.labels(by).inc()
        log.info(
            "prediction_adopted", attempt_id=str(attempt.id), prediction_id=prediction.id, by=by
        )
        failpoints.hit("reconcile.adopt")
        await bind(self._rt, attempt, prediction)

    async def _conclude_empty(
        self, attempt: Attempt, *, crashed: bool, searched: bool = False
    ) -> None:
        """Return the attempt to the queue, or fail a job that has crashed too many workers."""
        failpoints.hit("reconcile.empty")
        if crashed:
            refused = ProviderRejected(CRASHED.message, code=CRASHED.code)
            await record_refused(self._rt, attempt, refused)
        else:
            error = ProviderUnavailable("no prediction was created", code="not_bought")
            await record_not_created(self._rt, attempt, error, searched=searched)


async def write_off(rt: Runtime, attempt: Attempt, reason: JobError) -> None:
    """Close the attempt as lost, and fail the job that depends on it."""

    def decide(job: Job, current: Attempt | None) -> Update:
        lost = close_unbound(current, Verdict.LOST)
        if not awaits_start(job, attempt):
            return Update(attempt=lost)
        return Update(attempt=lost, change=fail_permanently(job, reason, now=rt.now()))

    await apply(rt, attempt.job_id, decide, event="failed", attempt_id=attempt.id)


async def abandon(rt: Runtime, provider: str) -> tuple[int, int]:
    """Close all attempts of a removed provider that may still cost money, as lost.

    Jobs that depend on one fail with ``provider_outcome_unknown``. Returns how many attempts were
    closed, and how many could not be.
    """
    closed = failed = 0
    for attempt_id, job_id in await attempts.without_verdict(rt.db, provider):
        if await run_logged(
            rt, "abandon", partial(_abandon, rt, attempt_id, job_id), job_id=job_id
        ):
            closed += 1
        else:
            failed += 1
    log.warning("provider_abandoned", provider=provider, attempts=closed, failed=failed)
    return closed, failed


async def _abandon(rt: Runtime, attempt_id: AttemptId, job_id: JobId) -> bool:
    def decide(job: Job, current: Attempt | None) -> Update:
        """Close the attempt as lost, and fail its job unless that has gone on or ended."""
        if current is None or current.verdict is not None:
            return Update()
        lost = close_attempt(current, Verdict.LOST, ABANDONED)
        if job.attempt_id != attempt_id or job.stage not in OPEN:
            return Update(attempt=lost)
        return Update(attempt=lost, change=fail_permanently(job, ABANDONED, now=rt.now()))

    await apply(rt, job_id, decide, event="failed", attempt_id=attempt_id)
    return True
