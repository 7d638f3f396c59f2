"""What is dispatched once a prediction has ended: within this process, or by one message."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from fakes import BADLY, WELL, Clock, FakeProvider, Recording, a_request
from fleek import __version__, failpoints
from fleek.dispatch.base import Task
from fleek.domain.attempt import Verdict
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import Job, JobId, Stage, Status, WorkerId
from fleek.domain.media import metadata_key
from fleek.engine.admit import Admission
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.dispatches import REPEAT_SECONDS, Dispatches, OwnShare, ids_per_message
from fleek.engine.recover import expire_dead_workers
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.store import attempts, events, jobs
from fleek.store.workers import Worker


async def conclude_jobs(rt: Runtime, clock: Clock, number: int) -> list[Job]:
    """Start so many jobs, and let the coordinator find that their predictions have ended."""
    waiting = []
    for _ in range(number):
        job = await submit(rt, a_request())
        await start(rt, job.id)
        waiting.append(await jobs.get_any_tenant(rt.db, job.id))
    clock.tick(seconds=1)
    await Watch(rt, "placeholder").turn()
    return waiting


def with_dispatcher(rt: Runtime, dispatcher: Recording) -> Runtime:
    """Return a runtime with this dispatcher, with records of its own."""
    own = {"collects": Dispatches("collect"), "own_share": OwnShare(), "claimed": {}}
    return replace(rt, dispatcher=dispatcher, **own)  # type: ignore[arg-type]  # all that it needs


async def test_a_concluded_job_is_collected_in_this_process(rt: Runtime, clock: Clock) -> None:
    """A message would cost as much as the rest of the collect, and so would a claim of its own."""
    dispatcher = Recording(slots=1)
    concluding = with_dispatcher(rt, dispatcher)

    (job,) = await conclude_jobs(concluding, clock, 1)
    claimed = await jobs.get_any_tenant(rt.db, job.id)
    await collect(concluding, job.id)

    assert dispatcher.ran == [("collect", job.id)]
    assert dispatcher.sent == dispatcher.queued == []
    assert (claimed.stage, claimed.worker_id) == (Stage.COLLECTING, rt.lease.worker_id)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED
    lines = await events.of_job(rt.db, job.id)
    assert [line.type for line in lines][-3:] == ["predicted", "collecting", "completed"]
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))


async def test_a_claimed_job_is_collected_once(
    rt: Runtime, clock: Clock, second_worker: Callable[[], Runtime]
) -> None:
    """A message of earlier may still be under way, to this process or to another one."""
    other = second_worker()
    await other.lease.register()
    concluding = with_dispatcher(rt, Recording(slots=1))
    (job,) = await conclude_jobs(concluding, clock, 1)

    await asyncio.gather(
        collect(replace(other, claimed={}), job.id),
        *(collect(concluding, job.id) for _ in range(2)),
    )

    seen = [line.type for line in await events.of_job(rt.db, job.id)]
    assert (seen.count("collecting"), seen.count("completed")) == (1, 1)


async def test_a_job_of_several_attempts_is_completed_with_all_of_them(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Its document names them; only the latest is known from the conclusion."""
    provider.outcome = BADLY
    concluding = with_dispatcher(rt, Recording(slots=1))
    (job,) = await conclude_jobs(concluding, clock, 1)
    provider.outcome = WELL
    clock.tick(minutes=2)
    await start(concluding, job.id)
    clock.tick(seconds=1)
    await Watch(concluding, "placeholder").turn()

    await collect(concluding, job.id)

    pieces = [piece async for piece in rt.storage.read(metadata_key(job.id))]
    made = json.loads(b"".join(pieces))["attempts"]
    assert [attempt["verdict"] for attempt in made] == ["failed", "succeeded"]


async def test_a_slot_is_kept_for_a_success_alone(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """It is given back if the job has moved on."""
    dispatcher = Recording(slots=3)
    concluding = with_dispatcher(rt, dispatcher)
    cancelled = await submit(rt, a_request())
    await start(rt, cancelled.id)
    await cancel(rt, cancelled.id, tenant_id="default")
    clock.tick(seconds=1)
    await Watch(concluding, "placeholder").turn()
    provider.outcome = BADLY
    await conclude_jobs(concluding, clock, 1)

    (attempt,) = await attempts.of_job(rt.db, cancelled.id)
    assert attempt.verdict is Verdict.SUCCEEDED
    assert (await jobs.get_any_tenant(rt.db, cancelled.id)).status is Status.CANCELLED
    assert (dispatcher.slots, dispatcher.ran) == (3, [])


@pytest.mark.parametrize("point", ["predicted.write", "predicted.written", "database.committed"])
async def test_a_claim_whose_commit_was_not_confirmed_is_collected(
    rt: Runtime, clock: Clock, point: str
) -> None:
    """No other worker would look for a job that a living one has claimed."""
    dispatcher = Recording(slots=1)
    concluding = with_dispatcher(rt, dispatcher)
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.tick(seconds=1)
    failpoints.arm(f"{point}=dberror")
    try:
        await Watch(concluding, "placeholder").turn()
    finally:
        failpoints.arm("")

    assert dispatcher.ran == [("collect", job.id)]
    assert [line.type for line in await events.of_job(rt.db, job.id)].count("collecting") == 1


async def test_a_slot_is_given_back_if_nothing_can_be_written(rt: Runtime, clock: Clock) -> None:
    """The prediction is concluded at the next look."""
    dispatcher = Recording(slots=1)
    concluding = with_dispatcher(rt, dispatcher)
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.tick(seconds=1)
    failpoints.arm("predicted.write=oserror")
    try:
        await Watch(concluding, "placeholder").turn()
    finally:
        failpoints.arm("")

    assert (dispatcher.slots, dispatcher.ran, concluding.claimed) == (1, [], {})
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_a_process_that_stops_releases_what_it_has_claimed(
    rt: Runtime, clock: Clock
) -> None:
    """Its slots begin nothing any more; another worker collects the job."""
    dispatcher = Recording(slots=1)
    dispatcher.stopping = True
    concluding = with_dispatcher(rt, dispatcher)

    (job,) = await conclude_jobs(concluding, clock, 1)

    released = await jobs.get_any_tenant(rt.db, job.id)
    assert (released.stage, released.worker_id) == (Stage.COLLECTING, None)
    assert (dispatcher.slots, concluding.claimed) == (1, {})


async def test_a_claim_outlasts_its_caller(rt: Runtime, clock: Clock) -> None:
    """As a provider that sends a callback and does not wait for the answer."""
    dispatcher = Recording(slots=1)
    concluding = with_dispatcher(rt, dispatcher)
    job = await submit(rt, a_request())
    await start(rt, job.id)
    clock.tick(seconds=1)
    turn = asyncio.create_task(Watch(concluding, "placeholder").turn())
    while not concluding.shielded:
        await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    await concluding.shielded.finish(seconds=10)

    assert dispatcher.ran == [("collect", job.id)]


async def test_a_job_without_a_free_slot_is_sent(
    rt: Runtime, clock: Clock, second_worker: Callable[[], Runtime]
) -> None:
    """It must not wait here while another worker has one."""
    await second_worker().lease.register()
    dispatcher = Recording(slots=0)
    sharing = with_dispatcher(rt, dispatcher)
    await expire_dead_workers(sharing)

    waiting = await conclude_jobs(sharing, clock, 2)

    assert set(dispatcher.sent) == {("collect", job.id) for job in waiting}
    assert dispatcher.ran == dispatcher.queued == []


async def test_a_job_without_a_free_slot_waits_in_a_worker_that_is_alone(
    rt: Runtime, clock: Clock
) -> None:
    """It is not claimed: should another worker come, that one may collect it."""
    dispatcher = Recording(slots=0)

    (job,) = await conclude_jobs(with_dispatcher(rt, dispatcher), clock, 1)

    assert dispatcher.queued == [("collect", job.id)]
    assert (await jobs.get_any_tenant(rt.db, job.id)).worker_id is None


async def test_each_worker_gets_its_share(
    rt: Runtime, clock: Clock, second_worker: Callable[[], Runtime]
) -> None:
    """The coordinator concludes the jobs of all workers, and must not collect them all."""
    await second_worker().lease.register()
    dispatcher = Recording(slots=9)
    sharing = with_dispatcher(rt, dispatcher)
    await expire_dead_workers(sharing)

    await conclude_jobs(sharing, clock, 6)

    assert (len(dispatcher.ran), len(dispatcher.sent)) == (3, 3)


async def test_a_dispatched_collect_is_not_dispatched_again(rt: Runtime, clock: Clock) -> None:
    """`admit` finds it in the database until a worker has claimed it."""
    dispatcher = Recording(slots=1)
    recording = with_dispatcher(rt, dispatcher)
    await conclude_jobs(recording, clock, 2)

    await Admission(recording).turn()

    assert (len(dispatcher.ran), len(dispatcher.queued)) == (1, 1)
    assert dispatcher.sent == []


async def test_an_unclaimed_collect_is_dispatched_again(rt: Runtime, clock: Clock) -> None:
    """Its id may be lost with a process or a message."""
    dispatcher = Recording(slots=0)
    recording = with_dispatcher(rt, dispatcher)
    (job,) = await conclude_jobs(recording, clock, 1)
    run_at, sent = recording.collects._sent[job.id]
    recording.collects._sent[job.id] = (run_at, sent - REPEAT_SECONDS - 1)

    await Admission(recording).turn()

    assert dispatcher.sent == [("collect", job.id)]


async def test_records_of_long_ago_are_dropped(clock: Clock) -> None:
    """A process that is not the coordinator never compares them with the database."""
    old, new = (JobId(UUID(int=number)) for number in (1, 2))
    collects = Dispatches("collect")
    collects.record(old, clock())
    run_at, sent = collects._sent[old]
    collects._sent[old] = (run_at, sent - REPEAT_SECONDS - 1)

    collects.record(new, clock())

    assert collects.outstanding == [new]


class Batching(Recording):
    """A dispatcher that records messages with several ids."""

    most_ids = 8

    def __init__(self) -> None:
        super().__init__(slots=0)
        self.batches: list[list[JobId]] = []
        self.away = False

    async def enqueue_many(self, _task: Task, job_ids: Sequence[JobId]) -> None:
        """Record them, or be unavailable."""
        if self.away:
            raise DispatcherUnavailable("no broker")
        self.batches.append(list(job_ids))


def workers_of(*versions: str, slots: int = 64) -> list[Worker]:
    """Return workers of these releases."""
    now = datetime(2027, 1, 1, tzinfo=UTC)
    return [
        Worker(
            id=WorkerId(UUID(int=number)),
            host="here",
            pid=number,
            version=version,
            slots=slots,
            started_at=now,
            heartbeat_at=now,
        )
        for number, version in enumerate(versions, start=1)
    ]


@pytest.mark.parametrize(
    ("running", "number", "size"),
    [
        pytest.param(workers_of(__version__), 1, 1, id="one"),
        pytest.param(workers_of(__version__), 5, 5, id="few, one worker"),
        pytest.param(workers_of(__version__), 100, 8, id="many"),
        pytest.param(workers_of(*[__version__] * 4), 4, 1, id="as many as workers"),
        pytest.param(workers_of(*[__version__] * 4), 10, 3, id="few, four workers"),
        pytest.param(workers_of(__version__, slots=16), 100, 2, id="small workers"),
        pytest.param(workers_of(__version__, slots=4), 100, 1, id="tiny workers"),
        pytest.param(workers_of(__version__, "0.1.0"), 100, 1, id="an earlier release"),
        pytest.param(workers_of(__version__, "999.0.0"), 100, 1, id="a later release"),
        pytest.param([], 100, 1, id="no worker"),
    ],
)
def test_a_message_has_few_ids_while_few_are_due(
    running: list[Worker], number: int, size: int
) -> None:
    """No worker is idle while another has several; each release understands what it may get."""
    batching, plain = Batching(), Recording(slots=0)

    assert ids_per_message(batching, running, number) == size  # type: ignore[arg-type]  # likewise
    assert ids_per_message(plain, running, number) == 1  # type: ignore[arg-type]  # likewise


async def test_many_due_jobs_are_sent_in_few_messages(rt: Runtime) -> None:
    """In the order of dispatch; what could not be sent is sent in the next turn."""
    wanted = {JobId(UUID(int=number)): rt.now() for number in range(20)}
    batching = Batching()
    sending = with_dispatcher(rt, batching)
    starts, running = Dispatches("start"), workers_of(__version__)
    batching.away = True
    nothing = await starts.send(sending, wanted, most=64, running=running)
    batching.away = False

    everything = await starts.send(sending, wanted, most=64, running=running)
    again = await starts.send(sending, wanted, most=64, running=running)

    assert (nothing, everything, again) == (0, 20, 0)
    assert [len(batch) for batch in batching.batches] == [8, 8, 4]
    assert [one for batch in batching.batches for one in batch] == list(wanted)
