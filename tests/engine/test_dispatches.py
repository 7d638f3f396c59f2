"""What is dispatched once a prediction has ended: within this process, or by one message."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from fakes import Clock, a_request
from fleek import __version__
from fleek.dispatch.base import Task
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import Job, JobId, WorkerId
from fleek.engine.admit import Admission
from fleek.engine.dispatches import REPEAT_SECONDS, Dispatches, OwnShare, ids_per_message
from fleek.engine.recover import expire_dead_workers
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.store import jobs
from fleek.store.workers import Worker


class Recording:
    """A dispatcher with handlers in this process that records ids."""

    def __init__(self, *, slots: int) -> None:
        self.slots = slots
        self.sent: list[tuple[Task, JobId]] = []
        self.handed_over: list[tuple[Task, JobId]] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record an id."""
        self.sent.append((task, job_id))

    def hand_over(self, task: Task, job_id: JobId, *, wait: bool = False) -> bool:
        """Record an id, if there is a slot for it or it may wait."""
        if len(self.handed_over) == self.slots and not wait:
            return False
        self.handed_over.append((task, job_id))
        return True


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
    collects = Dispatches("collect")
    return replace(rt, dispatcher=dispatcher, collects=collects, own_share=OwnShare())  # type: ignore[arg-type]  # all that it needs


async def test_a_concluded_job_is_collected_in_this_process(rt: Runtime, clock: Clock) -> None:
    """A message would cost as much as the rest of the collect."""
    dispatcher = Recording(slots=1)

    (job,) = await conclude_jobs(with_dispatcher(rt, dispatcher), clock, 1)

    assert dispatcher.handed_over == [("collect", job.id)]
    assert dispatcher.sent == []


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
    assert dispatcher.handed_over == []


async def test_each_worker_gets_its_share(
    rt: Runtime, clock: Clock, second_worker: Callable[[], Runtime]
) -> None:
    """The coordinator concludes the jobs of all workers, and must not collect them all."""
    await second_worker().lease.register()
    dispatcher = Recording(slots=9)
    sharing = with_dispatcher(rt, dispatcher)
    await expire_dead_workers(sharing)

    await conclude_jobs(sharing, clock, 6)

    assert (len(dispatcher.handed_over), len(dispatcher.sent)) == (3, 3)


async def test_a_dispatched_collect_is_not_dispatched_again(rt: Runtime, clock: Clock) -> None:
    """`admit` finds it in the database until a worker has claimed it."""
    dispatcher = Recording(slots=1)
    recording = with_dispatcher(rt, dispatcher)
    await conclude_jobs(recording, clock, 2)
    sent = list(dispatcher.sent)

    await Admission(recording).turn()

    assert dispatcher.sent == sent


async def test_an_unclaimed_collect_is_dispatched_again(rt: Runtime, clock: Clock) -> None:
    """Its id may be lost with a process or a message."""
    dispatcher = Recording(slots=1)
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
