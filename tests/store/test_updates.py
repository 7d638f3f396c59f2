"""Every change is decided on the locked row and written completely, under concurrency."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select
from uuid_utils.compat import uuid4, uuid7

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import FleekError, IllegalTransition, NotFound, PredictionTaken, StaleJob
from fleek.domain.job import AttemptId, Backoff, Job, JobError, JobId, Stage, Status
from fleek.domain.transitions import cancel, fail, fail_permanently, set_progress
from fleek.store import attempts, events, jobs
from fleek.store.counters import count_jobs
from fleek.store.database import Database, open_database
from fleek.store.errors import RowRefused
from fleek.store.tables import JobRow
from fleek.store.updates import Applied, Intent, Update, apply
from samples import NOON, a_file, a_job, an_attempt, binds, claims, completes, predicted

HISTORY = ["submitted", "starting", "waiting", "predicted", "completed"]


async def accepted(db: Database, **fields: Any) -> JobId:
    """Insert a job."""
    job = a_job(**fields)
    await jobs.insert_job(db, job)
    return job.id


async def intended(db: Database, job_id: JobId) -> AttemptId:
    """Claim a job."""
    applied = await apply(db, job_id, claims())
    return applied.update.intent.id


async def test_all_updates_of_a_job_agree_at_the_end(db: Database) -> None:
    """The row, its history, its attempt and its files are consistent."""
    job_id = await accepted(db)
    attempt_id = await intended(db, job_id)
    await apply(db, job_id, binds("p"), attempt_id=attempt_id)
    await apply(db, job_id, predicted)
    applied = await apply(db, job_id, completes(2))

    view = await jobs.get(db, job_id, tenant_id="default")
    history = await events.of_job(db, job_id)
    assert view.job == applied.job
    assert (view.job.version, view.job.status) == (5, Status.COMPLETED)
    assert [one.type for one in history] == HISTORY
    assert [one.seq for one in history] == [1, 2, 3, 4, 5]
    assert len(view.media) == 2
    assert [one.prediction_id for one in await attempts.of_job(db, job_id)] == ["p"]


async def test_one_of_many_concurrent_claims_wins(db: Database) -> None:
    """A dispatch may be delivered twice, but the job is started once."""
    job_id = await accepted(db)

    answers = await asyncio.gather(
        *(apply(db, job_id, claims()) for _ in range(20)), return_exceptions=True
    )

    assert Counter(map(type, answers)) == {Applied: 1, IllegalTransition: 19}
    assert len(await attempts.of_job(db, job_id)) == 1


async def test_one_of_many_processes_wins(database_url: str) -> None:
    """The same holds between processes."""
    async with (
        open_database(database_url) as first,
        open_database(database_url) as second,
        open_database(database_url) as third,
    ):
        made = [await accepted(first) for _ in range(10)]

        answers = await asyncio.gather(
            *(apply(db, job_id, claims()) for job_id in made for db in (first, second, third)),
            return_exceptions=True,
        )

        assert Counter(map(type, answers)) == {Applied: 10, IllegalTransition: 20}


async def test_updates_of_one_job_in_one_batch_follow_each_other(db: Database) -> None:
    """Each decides on the result of the one before, and none is lost."""
    job_id = await accepted(db)
    await apply(db, job_id, binds("p"), attempt_id=await intended(db, job_id))

    def progress(job: Job, _: Attempt | None) -> Update:
        return Update(change=set_progress(job, (job.progress or 0) + 0.01, now=NOON))

    applied = await asyncio.gather(*(apply(db, job_id, progress) for _ in range(50)))

    versions = [one.job.version for one in applied]
    history = await events.of_job(db, job_id)
    assert sorted(versions) == list(range(4, 54))
    assert [one.seq for one in history] == list(range(1, 54))
    assert (await jobs.get_any_tenant(db, job_id)).progress == pytest.approx(0.5)


async def test_the_second_update_in_a_batch_sees_the_attempt_of_the_first(db: Database) -> None:
    """Of two verdicts on one attempt, the second finds it closed."""
    job_id = await accepted(db)
    attempt_id = await intended(db, job_id)
    seen: list[Verdict | None] = []

    def close(_: Job, current: Attempt | None) -> Update:
        assert current is not None
        seen.append(current.verdict)
        return Update(attempt=replace(current, verdict=Verdict.LOST))

    await asyncio.gather(*(apply(db, job_id, close, attempt_id=attempt_id) for _ in range(2)))

    assert seen == [None, Verdict.LOST]


async def test_a_decision_may_change_nothing(db: Database) -> None:
    """Then nothing is written, and the version stays."""
    job_id = await accepted(db)

    applied = await apply(db, job_id, lambda _job, _attempt: Update())

    assert not applied.changed
    assert (await jobs.get_any_tenant(db, job_id)).version == 1


async def test_an_update_of_an_unknown_job_is_not_found(db: Database) -> None:
    """Others in the same batch are not affected."""
    job_id = await accepted(db)

    missing, found = await asyncio.gather(
        apply(db, JobId(uuid7()), claims()), apply(db, job_id, claims()), return_exceptions=True
    )

    assert isinstance(missing, NotFound)
    assert isinstance(found, Applied)


async def test_a_refused_decision_writes_nothing(db: Database) -> None:
    """Its exception is raised unchanged, and the batch continues without it."""
    refused, job_id = await accepted(db), await accepted(db)

    def stale(_: Job, __: Attempt | None) -> Update:
        raise StaleJob("no")

    answers = await asyncio.gather(
        apply(db, refused, stale), apply(db, job_id, claims()), return_exceptions=True
    )

    assert isinstance(answers[0], StaleJob)
    assert isinstance(answers[1], Applied)
    assert (await jobs.get_any_tenant(db, refused)).version == 1


async def test_an_exception_in_one_decision_fails_no_other(db: Database) -> None:
    """Unrelated callers share the transaction."""
    broken, job_id = await accepted(db), await accepted(db)

    def mistake(_: Job, __: Attempt | None) -> Update:
        raise KeyError("a defect")

    answers = await asyncio.gather(
        apply(db, broken, mistake), apply(db, job_id, claims()), return_exceptions=True
    )

    assert isinstance(answers[0], KeyError)
    assert isinstance(answers[1], Applied)


async def test_a_prediction_is_bound_to_one_attempt(db: Database) -> None:
    """The second attempt gets an error, in the same batch or later, and its job is unchanged."""
    first, second, third = [await accepted(db) for _ in range(3)]
    tries = [(job_id, await intended(db, job_id)) for job_id in (first, second, third)]

    answers = await asyncio.gather(
        *(apply(db, job_id, binds("same"), attempt_id=one) for job_id, one in tries),
        return_exceptions=True,
    )

    assert Counter(map(type, answers)) == {Applied: 1, PredictionTaken: 2}
    stages = Counter([(await jobs.get_any_tenant(db, job_id)).stage for job_id, _ in tries])
    assert stages == {Stage.WAITING: 1, Stage.STARTING: 2}


async def test_another_violated_constraint_is_no_duplicate_prediction(db: Database) -> None:
    """An attempt with a number that exists already is a defect."""
    job_id = await accepted(db)
    await intended(db, job_id)

    def again(job: Job, _: Attempt | None) -> Intent:
        return Intent(intent=an_attempt(job, id=AttemptId(uuid4()), number=1))

    with pytest.raises(RowRefused):
        await apply(db, job_id, again)


async def test_an_update_that_fails_halfway_leaves_no_change(db: Database) -> None:
    """The file comes twice: no row, no event, no new version."""
    job_id = await accepted(db)
    await apply(db, job_id, binds("p"), attempt_id=await intended(db, job_id))
    await apply(db, job_id, predicted)

    def twice(job: Job, current: Attempt | None) -> Update:
        step = completes(1)(job, current)
        assert isinstance(step, Update)
        return replace(step, media=[a_file(job), a_file(job)])

    with pytest.raises(RowRefused):
        await apply(db, job_id, twice)

    view = await jobs.get(db, job_id, tenant_id="default")
    assert (view.job.version, view.job.stage, view.media) == (4, Stage.COLLECTING, ())
    assert len(await events.of_job(db, job_id)) == 4


async def test_every_attempt_that_may_run_gets_a_cancellation(db: Database) -> None:
    """Those with a verdict have ended."""
    job_id = await accepted(db)
    lost = await intended(db, job_id)

    def retried(job: Job, current: Attempt | None) -> Update:
        assert current is not None
        error = JobError("code", "message")
        change = fail(job, error, retryable=True, now=NOON, backoff=Backoff())
        return Update(change=change, attempt=replace(current, verdict=Verdict.FAILED))

    def cancelled(job: Job, _: Attempt | None) -> Update:
        return Update(change=cancel(job, now=NOON), cancel_owed=True)

    await apply(db, job_id, retried, attempt_id=lost)
    await intended(db, job_id)
    await apply(db, job_id, cancelled)

    assert [one.cancel_owed for one in await attempts.of_job(db, job_id)] == [False, True]


async def test_an_unstorable_character_in_a_message_is_replaced(db: Database) -> None:
    """It must not keep a job from ending."""
    job_id = await accepted(db)
    strange = JobError("code", "nul \0 and half \ud800 \N{SNOWMAN}")

    await apply(db, job_id, lambda job, _: Update(change=fail_permanently(job, strange, now=NOON)))

    found = (await jobs.get_any_tenant(db, job_id)).error
    assert found == JobError("code", "nul \ufffd and half \ufffd \N{SNOWMAN}")
    assert (await events.of_job(db, job_id))[-1].data["message"] == found.message


@pytest.mark.parametrize("seed", range(3))
async def test_counters_versions_and_history_agree_after_a_storm(db: Database, seed: int) -> None:
    """Ended jobs stay as they ended."""
    dice = random.Random(seed)  # noqa: S311 - creates a storm, not a secret
    made = [await accepted(db) for _ in range(25)]

    def cancelled(job: Job, _: Attempt | None) -> Update:
        return Update(change=cancel(job, now=NOON), cancel_owed=job.attempt_id is not None)

    def failed(job: Job, _: Attempt | None) -> Update:
        error = JobError("code", "message")
        return Update(change=fail(job, error, retryable=True, now=NOON, backoff=Backoff()))

    def bound(job: Job, _: Attempt | None) -> Update:
        step: Update = binds(f"p-{job.attempt_id}")(job, an_attempt(job))
        return step

    moves: list[Callable[[Job, Attempt | None], Update]] = [
        *(claims(), claims(), bound, bound, predicted, completes(), failed, cancelled)
    ]
    answers = await asyncio.gather(
        *(apply(db, dice.choice(made), dice.choice(moves)) for _ in range(600)),
        return_exceptions=True,
    )

    wrong = [one for one in answers if not isinstance(one, Applied | FleekError)]
    assert wrong == []
    counted = await _count(db)
    tally = await count_jobs(db, now=NOON)
    assert {status: number for status, number in tally.by_status.items() if number} == counted
    for job_id in made:
        job = await jobs.get_any_tenant(db, job_id)
        history = await events.of_job(db, job_id)
        assert [one.seq for one in history] == list(range(1, job.version + 1))
        assert all(one.type not in {"completed", "cancelled"} for one in history[:-1])


async def _count(db: Database) -> dict[Status, int]:
    async with db.read() as tx:
        found = await tx.execute(select(JobRow.status, func.count()).group_by(JobRow.status))
        return {Status(status): number for status, number in found}
