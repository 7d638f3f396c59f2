"""Attempts are found as long as a poll, a reconciliation or a cancellation is due."""

from dataclasses import replace
from typing import Any

import pytest
from uuid_utils.compat import uuid4, uuid7

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.budgets import day_of
from fleek.domain.job import AttemptId, Job, JobError, PredictionId, WorkerId
from fleek.domain.transitions import cancel, mark_unknown
from fleek.store import attempts, jobs, workers
from fleek.store.database import Database
from fleek.store.updates import Decision, Intent, Update, apply
from samples import NOON, SECOND, a_job, a_worker, an_attempt, binds, claims


async def intended(db: Database, worker_id: WorkerId) -> Attempt:
    """Accept and claim a job."""
    job = a_job()
    await jobs.insert_job(db, job)
    applied = await apply(db, job.id, claims(worker_id))
    return applied.update.intent


async def bound(db: Database, worker_id: WorkerId, *, seconds: int = 0) -> Attempt:
    """Accept and claim a job, and bind a prediction with a first poll some seconds later."""
    intent = await intended(db, worker_id)
    decide = binds(f"p-{intent.id}", now=NOON + SECOND * seconds)
    applied = await apply(db, intent.job_id, decide, attempt_id=intent.id)
    assert applied.update.attempt is not None
    return applied.update.attempt


def closes(**fields: Any) -> Any:
    """Return a decision that changes the attempt only."""

    def decide(_: Job, current: Attempt | None) -> Update:
        assert current is not None
        return Update(attempt=replace(current, **fields))

    return decide


def intends(attempt: Attempt) -> Decision[Intent]:
    """Return a decision that records this intent."""
    return lambda _job, _attempt: Intent(intent=attempt)


@pytest.fixture
async def worker_id(db: Database) -> WorkerId:
    """Return a worker that is alive."""
    worker = a_worker()
    await workers.register(db, worker)
    return worker.id


async def test_an_attempt_is_read_as_it_was_written(db: Database) -> None:
    """The provider's response is unchanged, whatever it contains."""
    job = a_job()
    await jobs.insert_job(db, job)
    answer = {"outputs": [{"uri": "https://…/é.png"}], "big": 2**53 + 1, "nul": "\0"}
    attempt = an_attempt(
        job,
        submitted_at=NOON.replace(microsecond=654321),
        first_look_at=NOON,
        result=answer,
        metrics={"predict_time": 1.5, "none": None},
        verdict=Verdict.FAILED,
        error=JobError("code", "message"),
        cancel_owed=True,
        estimate=3000,
        charged_on=day_of(NOON),
        cost=2500,
    )

    await apply(db, job.id, intends(attempt))

    assert await attempts.of_job(db, job.id) == [attempt]


async def test_a_missing_document_is_none(db: Database, worker_id: WorkerId) -> None:
    """It is not the JSON value null."""
    intent = await intended(db, worker_id)

    found = await attempts.of_job(db, intent.job_id)

    assert (found[0].result, found[0].metrics) == (None, None)


async def test_waiting_predictions_are_ordered_by_first_poll(
    db: Database, worker_id: WorkerId
) -> None:
    """They come page by page, and only those that are due."""
    made = [await bound(db, worker_id, seconds=seconds) for seconds in (3, 1, 2, 9)]
    until = NOON + SECOND * 3

    first = await attempts.waiting(db, after=None, until=until, limit=2)
    last = (first[-1].first_look_at, first[-1].id)
    second = await attempts.waiting(db, after=last, until=until, limit=2)

    assert [one.id for one in first] == [made[1].id, made[2].id]
    assert [one.id for one in second] == [made[0].id]
    assert first[0].prediction_id == made[1].prediction_id
    assert first[0].timeout_seconds == 3600


async def test_attempts_with_equal_times_are_all_returned(
    db: Database, worker_id: WorkerId
) -> None:
    """A page may end between two rows of the same instant."""
    made = {(await bound(db, worker_id)).id for _ in range(5)}
    seen: set[AttemptId] = set()
    after = None

    for _ in range(5):
        (one,) = await attempts.waiting(db, after=after, until=NOON, limit=1)
        after = (one.first_look_at, one.id)
        seen.add(one.id)

    assert seen == made
    assert await attempts.waiting(db, after=after, until=NOON, limit=1) == []


async def test_a_closed_attempt_is_not_waiting(db: Database, worker_id: WorkerId) -> None:
    """A verdict ends it."""
    one = await bound(db, worker_id)
    decide = closes(verdict=Verdict.SUCCEEDED)

    await apply(db, one.job_id, decide, attempt_id=one.id)

    assert await attempts.waiting(db, after=None, until=NOON, limit=9) == []


async def test_an_intent_is_unreconciled_after_the_end_of_its_worker(
    db: Database, worker_id: WorkerId
) -> None:
    """While the worker lives, it may still be starting the prediction."""
    intent = await intended(db, worker_id)
    alive = await attempts.unreconciled(db, "fake", limit=9)

    await workers.end(db, [worker_id], now=NOON)

    assert alive == []
    assert await attempts.unreconciled(db, "fake", limit=9) == [intent]


async def test_an_intent_of_an_unknown_worker_is_unreconciled(db: Database) -> None:
    """The worker's row may have been removed."""
    intent = await intended(db, WorkerId(uuid7()))

    assert await attempts.unreconciled(db, "fake", limit=9) == [intent]


async def test_an_intent_with_unknown_outcome_is_unreconciled(
    db: Database, worker_id: WorkerId
) -> None:
    """Its worker is alive, but has recorded that it is not starting it any more."""
    intent, other = await intended(db, worker_id), await intended(db, worker_id)

    await apply(
        db,
        intent.job_id,
        lambda job, _: Update(change=mark_unknown(job, now=NOON, reason="no answer")),
    )

    assert await attempts.unreconciled(db, "fake", limit=9) == [intent]
    assert other.verdict is None


async def test_the_oldest_intents_are_reconciled_first(db: Database) -> None:
    """Up to a limit."""
    job = a_job()
    await jobs.insert_job(db, job)
    made = [
        an_attempt(
            job, id=AttemptId(uuid4()), number=number, submitted_at=NOON + SECOND * (9 - number)
        )
        for number in (1, 2, 3)
    ]
    for one in made:
        await apply(db, job.id, intends(one))

    found = await attempts.unreconciled(db, "fake", limit=2)

    assert [one.number for one in found] == [3, 2]


async def test_cancellations_are_due_for_bound_predictions_only(
    db: Database, worker_id: WorkerId
) -> None:
    """Until they have a verdict; an intent is reconciled first."""
    bound_attempt, intent = await bound(db, worker_id), await intended(db, worker_id)
    for one in (bound_attempt, intent):
        await apply(
            db, one.job_id, lambda job, _: Update(change=cancel(job, now=NOON), cancel_owed=True)
        )

    found = await attempts.pending_cancels(db, "fake", limit=9)
    await apply(
        db, bound_attempt.job_id, closes(verdict=Verdict.CANCELLED), attempt_id=bound_attempt.id
    )

    assert [one.id for one in found] == [bound_attempt.id]
    assert await attempts.pending_cancels(db, "fake", limit=9) == []


async def test_an_attempt_is_found_by_its_id(db: Database, worker_id: WorkerId) -> None:
    """A callback contains the id; a wrong one finds nothing."""
    intent = await intended(db, worker_id)

    assert await attempts.get(db, intent.id) == intent
    assert await attempts.get(db, AttemptId(uuid4())) is None


async def test_bound_predictions_are_recognised(db: Database, worker_id: WorkerId) -> None:
    """Of this provider only, because ids are unique per provider."""
    one = await bound(db, worker_id)
    assert one.prediction_id is not None
    asked = [one.prediction_id, PredictionId("another")]

    assert await attempts.bound_ids(db, "fake", asked) == {one.prediction_id}
    assert await attempts.bound_ids(db, "other", asked) == set()


async def test_a_starting_duplicate_is_found(db: Database, worker_id: WorkerId) -> None:
    """Neither the attempt itself nor one with an unknown outcome counts."""
    one, duplicate = await intended(db, worker_id), await intended(db, worker_id)
    starting = await attempts.duplicate_in_flight(db, one)

    await apply(
        db,
        duplicate.job_id,
        lambda job, _: Update(change=mark_unknown(job, now=NOON, reason="no answer")),
    )

    assert starting
    assert not await attempts.duplicate_in_flight(db, one)
