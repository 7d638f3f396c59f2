"""Jobs are stored completely, found by their tenant only, listed and counted."""

import asyncio
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert
from uuid_utils.compat import uuid7

from fleek.domain.errors import InvalidInput, NotFound
from fleek.domain.job import JobError, JobFilter, JobId, ModelName, PredictionId, Status, WorkerId
from fleek.store import events, jobs, listing, queue
from fleek.store.counters import count_jobs
from fleek.store.database import Database
from fleek.store.errors import RowRefused
from fleek.store.jobs import Accepted
from fleek.store.tables import EventRow
from fleek.store.updates import apply
from samples import NOON, SECOND, WORKER, a_job, binds, claims, completes, predicted


async def completed(db: Database, *, files: int = 1) -> JobId:
    """Take a job through all its states."""
    job = a_job()
    await jobs.insert_job(db, job)
    applied = await apply(db, job.id, claims())
    await apply(db, job.id, binds(f"p-{job.id}"), attempt_id=applied.update.intent.id)
    await apply(db, job.id, predicted)
    await apply(db, job.id, completes(files))
    return job.id


async def test_a_job_is_read_as_it_was_accepted(db: Database) -> None:
    """Both databases store every field alike."""
    job = a_job(
        prompt="été 🚲 \t\n 'quoted' \"twice\" %s :name ?",
        input={"z": 1, "a": [None, True, {"deep": {"er": "ü"}}], "big": 2**63 - 1, "f": 1e300},
        metadata={"b": -0.5, "a": -(2**63), "é": "\N{SNOWMAN}"},
        priority=9,
        run_at=NOON + timedelta(microseconds=1),
        progress=0.1,
        error=JobError("code", "message"),
        prediction_id=PredictionId("p"),
        worker_id=WORKER,
        started_at=NOON - timedelta(microseconds=123456),
    )

    await jobs.insert_job(db, job)

    found = (await jobs.get(db, job.id, tenant_id="default")).job
    assert found == job
    assert list(found.input) == ["z", "a", "big", "f"]
    assert isinstance(found.input["f"], float)
    assert found.run_at.utcoffset() == timedelta(0)


async def test_a_time_in_another_zone_is_the_same_instant(db: Database) -> None:
    """Callers may use any time zone."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    job = a_job(run_at=elsewhere)

    await jobs.insert_job(db, job)

    assert (await jobs.get_any_tenant(db, job.id)).run_at == NOON
    assert [one.job_id for one in await queue.due(db, providers=["fake"], now=NOON, limit=1)] == [
        job.id
    ]


async def test_acceptance_is_the_first_line_of_the_history(db: Database) -> None:
    """The row and its event are written together."""
    job = a_job()

    await jobs.insert_job(db, job)

    assert [(one.seq, one.type) for one in await events.of_job(db, job.id)] == [(1, "submitted")]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_many_callers_are_accepted_together(db: Database) -> None:
    """Each gets its own row, and all are counted."""
    made = [a_job() for _ in range(600)]

    await asyncio.gather(*(jobs.insert_job(db, job) for job in made))

    found = await asyncio.gather(*(jobs.get_any_tenant(db, job.id) for job in made))
    assert found == made
    assert (await count_jobs(db, now=NOON)).by_status[Status.PENDING] == 600


async def test_a_bad_row_fails_only_its_own_caller(db: Database) -> None:
    """Other requests in the same commit are stored."""
    twice = a_job()
    await jobs.insert_job(db, twice)
    made = [a_job() for _ in range(20)]
    made[7] = replace(twice, prompt="Again")
    made[11] = a_job(prompt="half a character: \ud800")

    answers = await asyncio.gather(
        *(jobs.insert_job(db, job) for job in made), return_exceptions=True
    )

    assert isinstance(answers.pop(11), InvalidInput)
    assert isinstance(answers.pop(7), RowRefused)
    accepted = [job for number, job in enumerate(made) if number not in {7, 11}]
    assert answers == [Accepted(job) for job in accepted]
    assert (await count_jobs(db, now=NOON)).total == 19
    assert (await jobs.get_any_tenant(db, twice.id)).prompt == twice.prompt


@pytest.mark.parametrize(
    "field",
    [{"prompt": "\ud800"}, {"input": {"a": "\ud800"}}, {"priority": 2**70}],
    ids=["surrogate", "surrogate in a document", "number beyond the column"],
)
async def test_an_unstorable_value_is_invalid_input(
    db: Database, field: dict[str, object]
) -> None:
    """The API refuses such values first; here it is a 422, and never a 500."""
    with pytest.raises(InvalidInput):
        await jobs.insert_job(db, a_job(**field))


async def test_a_disconnected_caller_has_still_submitted(db: Database) -> None:
    """The batch is not cancelled with one of its callers."""
    job = a_job()
    caller = asyncio.create_task(jobs.insert_job(db, job))
    await asyncio.sleep(0)

    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await db._groups[jobs._insert_all].close()

    assert await jobs.get_any_tenant(db, job.id) == job


async def test_a_foreign_job_looks_like_a_missing_one(db: Database) -> None:
    """Both errors are identical."""
    job = a_job(tenant_id="somebody")
    await jobs.insert_job(db, job)

    with pytest.raises(NotFound) as foreign:
        await jobs.get(db, job.id, tenant_id="default")
    with pytest.raises(NotFound) as unknown:
        await jobs.get(db, JobId(uuid7()), tenant_id="default")

    assert str(foreign.value) == str(unknown.value)
    assert (await listing.page(db, tenant_id="default", limit=9)).views == []
    behind = await listing.page(db, tenant_id="default", limit=9, after=JobId(uuid7()))
    assert behind.views == []


async def test_the_engine_reads_jobs_of_any_tenant(db: Database) -> None:
    """An unknown job is still an error."""
    job = a_job(tenant_id="somebody")
    await jobs.insert_job(db, job)

    assert await jobs.get_any_tenant(db, job.id) == job
    with pytest.raises(NotFound):
        await jobs.get_any_tenant(db, JobId(UUID(int=0)))


async def test_a_completed_job_is_read_with_its_files_in_order(db: Database) -> None:
    """Two jobs read together keep their own files."""
    first, second = await completed(db, files=3), await completed(db, files=1)

    one, other = await asyncio.gather(
        jobs.get(db, first, tenant_id="default"), jobs.get(db, second, tenant_id="default")
    )

    assert [media.index for media in one.media] == [0, 1, 2]
    assert [media.job_id for media in other.media] == [second]
    assert one.media[0].size_bytes == 2**40


async def test_pages_follow_each_other_without_gap_or_overlap(db: Database) -> None:
    """By cursor, new jobs do not shift the pages; by number, they do."""
    made = [a_job().id for _ in range(7)]
    for job_id in made:
        await jobs.insert_job(db, a_job(id=job_id))
    newest_first = made[::-1]

    first = (await listing.page(db, tenant_id="default", limit=3)).views
    await jobs.insert_job(db, a_job())
    second = (await listing.page(db, tenant_id="default", limit=3, after=first[-1].job.id)).views
    by_offset = (await listing.page(db, tenant_id="default", limit=3, offset=4)).views

    assert [view.job.id for view in first] == newest_first[:3]
    assert [view.job.id for view in second] == newest_first[3:6]
    assert [view.job.id for view in by_offset] == newest_first[3:6]


async def test_a_list_can_be_filtered_by_status(db: Database) -> None:
    """With files, as in `get`."""
    await jobs.insert_job(db, a_job())
    done = await completed(db)

    found = (
        await listing.page(
            db,
            tenant_id="default",
            wanted=JobFilter(statuses=frozenset({Status.COMPLETED})),
            limit=9,
        )
    ).views

    assert [(view.job.id, len(view.media)) for view in found] == [(done, 1)]
    assert (
        await listing.page(
            db, tenant_id="default", wanted=JobFilter(statuses=frozenset({Status.FAILED})), limit=9
        )
    ).views == []


async def test_due_jobs_are_ordered_by_priority_then_time(db: Database) -> None:
    """Scheduled jobs are excluded, however high their priority."""
    later = a_job(priority=9, run_at=NOON + SECOND)
    low = a_job(priority=0, run_at=NOON - SECOND * 60)
    high = a_job(priority=7)
    old, new = a_job(run_at=NOON - SECOND), a_job()
    for job in (later, low, new, old, high):
        await jobs.insert_job(db, job)

    found = await queue.due(db, providers=["fake"], now=NOON, limit=9)

    assert [one.job_id for one in found] == [high.id, old.id, new.id, low.id]
    assert (found[0].priority, found[0].tenant_id, found[0].run_at) == (7, "default", NOON)
    assert await queue.next_run(db, providers=["fake"], now=NOON) == NOON + SECOND


async def test_due_jobs_are_limited_per_priority(db: Database) -> None:
    """So one priority cannot hide the others."""
    for priority in (1, 1, 1, 2, 2, 2):
        await jobs.insert_job(db, a_job(priority=priority))

    found = await queue.due(db, providers=["fake"], now=NOON, limit=2)

    assert [one.priority for one in found] == [2, 2, 1, 1]


async def test_tenants_take_turns_within_a_priority(db: Database) -> None:
    """A tenant with many older jobs is not served first with all of them."""
    many = [a_job(tenant_id="many", run_at=NOON - SECOND * (60 - n)) for n in range(3)]
    few = [a_job(tenant_id="few", run_at=NOON - SECOND * (9 - n)) for n in range(2)]
    urgent = a_job(tenant_id="many", priority=9)
    for job in (*many, *few, urgent):
        await jobs.insert_job(db, job)

    found = await queue.due(db, providers=["fake"], now=NOON, limit=9)

    turns = [urgent, many[0], few[0], many[1], few[1], many[2]]
    assert [one.job_id for one in found] == [job.id for job in turns]


async def test_a_tenant_with_many_jobs_hides_no_other(db: Database) -> None:
    """The first job of every other tenant is in the list, too."""
    many = [a_job(tenant_id="many", run_at=NOON - SECOND * 60) for _ in range(30)]
    others = [a_job(tenant_id=f"t{n}", run_at=NOON - SECOND) for n in range(5)]
    broken = a_job(tenant_id="t5", model=ModelName("the/broken"))
    for job in (*many, *others, broken, a_job(tenant_id="t6", run_at=NOON + SECOND)):
        await jobs.insert_job(db, job)

    options: dict[str, Any] = {"providers": ["fake"], "now": NOON, "limit": 10}
    found = await queue.due(db, **options, without=[("fake", ModelName("the/broken"))])
    everything = await queue.due(db, **options)

    assert found[0].tenant_id == "many"
    assert {one.job_id for one in found[1:6]} == {job.id for job in others}
    assert {one.tenant_id for one in found[6:]} == {"many"}
    assert {one.job_id for one in everything[1:7]} == {job.id for job in (*others, broken)}


async def test_tenants_at_their_limit_take_no_turn(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, a job that may start is found at once."""
    monkeypatch.setattr(queue, "TENANTS_PER_TURN", 2)
    busy = [f"busy{n}" for n in range(20)]
    for tenant_id in busy:
        await jobs.insert_job(db, a_job(tenant_id=tenant_id, run_at=NOON - SECOND * 60))
    free = a_job(tenant_id="free", run_at=NOON - SECOND)
    await jobs.insert_job(db, free)

    found = await queue.due(db, providers=["fake"], now=NOON, limit=5, busy=busy)

    assert free.id in {one.job_id for one in found}


async def test_dispatched_jobs_stay_listed_while_they_wait(db: Database) -> None:
    """Otherwise a full list would make them look claimed."""
    waiting, paused = a_job(), a_job(provider="shut")
    claimed = a_job(status=Status.PROCESSING)
    early = [a_job(run_at=NOON - SECOND) for _ in range(3)]
    for job in (waiting, paused, claimed, *early):
        await jobs.insert_job(db, job)

    found = await queue.due(
        db,
        providers=["fake"],
        now=NOON,
        limit=3,
        dispatched=[waiting.id, paused.id, claimed.id, early[0].id],
    )

    assert {one.job_id for one in found} == {waiting.id, *(job.id for job in early)}


async def test_each_provider_has_a_queue_of_its_own(db: Database) -> None:
    """The jobs of a paused provider must not fill the list."""
    for _ in range(3):
        await jobs.insert_job(db, a_job(provider="shut", run_at=NOON - SECOND))
    mine = a_job()
    await jobs.insert_job(db, mine)

    found = await queue.due(db, providers=["fake", "none"], now=NOON, limit=2)

    assert [one.job_id for one in found] == [mine.id]


async def test_a_model_can_be_left_out(db: Database) -> None:
    """Its jobs take no place in the list, but those of an equally named model elsewhere do."""
    for _ in range(3):
        await jobs.insert_job(db, a_job(model=ModelName("the/broken"), run_at=NOON - SECOND))
    mine, other = a_job(), a_job(provider="other", model=ModelName("the/broken"))
    await jobs.insert_job(db, mine)
    await jobs.insert_job(db, other)

    found = await queue.due(
        db,
        providers=["fake", "other"],
        now=NOON,
        limit=2,
        without=[("fake", ModelName("the/broken"))],
    )

    assert {one.job_id for one in found} == {mine.id, other.id}
    assert {one.model for one in found} == {mine.model, other.model}


async def test_the_next_time_is_none_if_all_jobs_are_due(db: Database) -> None:
    """The coordinator then waits for its own interval."""
    await jobs.insert_job(db, a_job())

    assert await queue.next_run(db, providers=["fake"], now=NOON) is None


async def test_the_counters_contain_the_longest_wait(db: Database) -> None:
    """Scheduled jobs are no backlog."""
    empty = await count_jobs(db, now=NOON)
    await jobs.insert_job(db, a_job(run_at=NOON + SECOND))
    scheduled = await count_jobs(db, now=NOON)
    waits = await count_jobs(db, now=NOON + SECOND * 4)

    assert (empty.total, empty.oldest_pending_seconds) == (0, None)
    assert (scheduled.queue_depth, scheduled.oldest_pending_seconds) == (1, None)
    assert waits.oldest_pending_seconds == 3.0
    assert waits.in_flight == 0


async def test_only_held_jobs_are_jobs_of_a_worker(db: Database) -> None:
    """Released jobs belong to no worker."""
    held, freed = a_job(), a_job()
    await jobs.insert_job(db, held)
    await jobs.insert_job(db, freed)
    await apply(db, held.id, claims())
    applied = await apply(db, freed.id, claims())
    await apply(db, freed.id, binds("p"), attempt_id=applied.update.intent.id)

    assert await jobs.held_by(db, WORKER) == [held.id]
    assert await jobs.held_by(db, WorkerId(uuid7())) == []


async def test_jobs_to_collect_are_listed_when_due(db: Database) -> None:
    """The longest wait goes first, and claimed jobs are excluded."""
    ids = []
    for number in range(2):
        job = a_job()
        await jobs.insert_job(db, job)
        applied = await apply(db, job.id, claims())
        await apply(db, job.id, binds(f"p{number}"), attempt_id=applied.update.intent.id)
        await apply(db, job.id, predicted)
        ids.append(job.id)

    assert set(await queue.uncollected(db, now=NOON, limit=9, postponed=False)) == set(ids)
    assert len(await queue.uncollected(db, now=NOON, limit=1, postponed=False)) == 1
    assert await queue.uncollected(db, now=NOON - SECOND, limit=9, postponed=False) == {}


async def test_overdue_jobs_are_those_past_their_deadline(db: Database) -> None:
    """Ended jobs never are, and a collection in progress may finish."""
    soon = {"deadline": NOON + SECOND}
    pending, later = a_job(**soon), a_job()
    processing, collecting, ended = a_job(**soon), a_job(**soon), a_job(**soon)
    for job in (pending, later, processing, collecting, ended):
        await jobs.insert_job(db, job)
    await apply(db, processing.id, claims())
    for job, steps in ((collecting, [predicted]), (ended, [predicted, completes()])):
        applied = await apply(db, job.id, claims())
        await apply(db, job.id, binds(f"p-{job.id}"), attempt_id=applied.update.intent.id)
        for decide in steps:
            await apply(db, job.id, decide)

    found = await jobs.overdue(db, now=NOON + SECOND * 2, limit=9)

    assert {job_id for _, job_id in found} == {pending.id, processing.id}
    assert await jobs.overdue(db, now=NOON + SECOND * 2, after=found[0], limit=9) == found[1:]
    assert await jobs.overdue(db, now=NOON + SECOND, limit=9) == []


async def test_a_history_can_be_read_from_any_event(db: Database) -> None:
    """A disconnected stream continues where it ended."""
    job_id = await completed(db)

    found = await events.of_job(db, job_id, after=3)

    assert [(one.seq, one.type) for one in found] == [(4, "predicted"), (5, "completed")]
    assert found[1].data == {"outputs": 1}
    assert found[1].at == NOON


async def test_an_event_without_a_job_is_refused(db: Database) -> None:
    """The database enforces the reference."""
    line = {"job_id": uuid7(), "seq": 1, "type": "x", "data": {}, "at": NOON}

    with pytest.raises(RowRefused):
        await _insert(db, line)


async def _insert(db: Database, line: dict[str, object]) -> None:
    async with db.write() as tx:
        await tx.execute(insert(EventRow).values(line))
