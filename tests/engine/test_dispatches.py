"""What is dispatched once a prediction has ended: within this process, or by one message."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from fakes import Clock, a_request
from fleek.dispatch.base import Task
from fleek.domain.job import Job, JobId
from fleek.engine.admit import Admission
from fleek.engine.dispatches import REPEAT_SECONDS, Dispatches, OwnShare
from fleek.engine.recover import expire_dead_workers
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.store import jobs


class Recording:
    """A dispatcher with handlers in this process that records ids."""

    def __init__(self, *, slots: int) -> None:
        self.slots = slots
        self.sent: list[tuple[Task, JobId]] = []
        self.handed_over: list[tuple[Task, JobId]] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record an id."""
        self.sent.append((task, job_id))

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Record an id, if there is a slot for it."""
        if len(self.handed_over) == self.slots:
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


async def test_a_job_without_a_free_slot_is_sent(rt: Runtime, clock: Clock) -> None:
    """It must not wait here while another worker has one."""
    dispatcher = Recording(slots=1)

    waiting = await conclude_jobs(with_dispatcher(rt, dispatcher), clock, 2)

    handed_over, sent = dispatcher.handed_over, dispatcher.sent
    assert {*handed_over, *sent} == {("collect", job.id) for job in waiting}
    assert (len(handed_over), len(sent)) == (1, 1)


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
