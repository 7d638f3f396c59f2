"""A tenant has no more running jobs than its limit, and does not block other tenants."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

import pytest

from backing_services import both_databases
from fakes import Clock, FakeProvider, a_request
from fleek.bootstrap import open_runtime
from fleek.diagnosis import check_queue
from fleek.dispatch.base import Task
from fleek.domain.access import Scope
from fleek.domain.job import JobId, Status
from fleek.engine.access import create_key
from fleek.engine.admit import FULL, IDLE, Admission
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.tenants import change_tenant
from fleek.engine.watch import Watch
from fleek.settings import Settings
from fleek.store import event_stream, jobs
from fleek.store.event_stream import Cursor, StreamEvent
from fleek.store.migrate import migrate
from fleek.worker import work

MOST = 2
LIMIT = 60  # seconds; only a failing test takes so long


class Dispatched:
    """A dispatcher that records ids only."""

    def __init__(self) -> None:
        self.sent: list[JobId] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record the id of a start."""
        if task == "start":
            self.sent.append(job_id)

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always succeed."""


@pytest.fixture
def rt(rt: Runtime) -> Runtime:
    """Return a runtime with a low limit of running jobs per tenant."""
    return limited(replace(rt, dispatcher=Dispatched()))


def limited(rt: Runtime, most: int = MOST) -> Runtime:
    """Return a runtime with this limit."""
    return replace(rt, settings=rt.settings.model_copy(update={"max_running": most}))


def sent(rt: Runtime) -> list[JobId]:
    """Return the dispatched ids."""
    assert isinstance(rt.dispatcher, Dispatched)
    return list(rt.dispatcher.sent)


async def made(rt: Runtime, tenant_id: str, number: int) -> list[JobId]:
    """Submit jobs of a tenant."""
    return [(await submit(rt, a_request(tenant_id=tenant_id))).id for _ in range(number)]


@both_databases
async def test_workers_start_no_more_jobs_than_the_limit(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """A dispatched job over the limit stays in the queue, without an attempt."""
    other = second_worker()
    await other.lease.register()
    waiting = await made(rt, "acme", 8)

    await asyncio.gather(*(start((rt, other)[n % 2], one) for n, one in enumerate(waiting)))

    found = [await jobs.get_any_tenant(rt.db, job_id) for job_id in waiting]
    statuses = Counter(job.status for job in found)
    assert statuses == {Status.PROCESSING: MOST, Status.PENDING: 8 - MOST}
    assert len(provider.started) == MOST
    assert {job.attempt for job in found if job.status is Status.PENDING} == {0}


async def test_no_more_jobs_are_dispatched_than_the_limit(rt: Runtime, clock: Clock) -> None:
    """When one of them has ended, the next one is dispatched soon."""
    mine = await made(rt, "acme", 5)
    clock.tick(seconds=1)
    admission = Admission(rt)

    await admission.turn()
    first = sent(rt)
    for job_id in first:
        await start(rt, job_id)
    wait = await admission.turn()

    assert (first, sent(rt), wait) == (mine[:MOST], first, FULL)
    await cancel(rt, mine[0], tenant_id="acme")
    await admission.turn()
    assert sent(rt) == mine[: MOST + 1]


async def test_a_busy_tenant_does_not_block_others(rt: Runtime, clock: Clock) -> None:
    """Its thousands of jobs are older, and the others still take turns with it."""
    await asyncio.gather(*(submit(rt, a_request(tenant_id="many")) for _ in range(1000)))
    clock.tick(seconds=1)
    few, some = await made(rt, "few", 2), await made(rt, "some", 1)
    clock.tick(seconds=1)
    admission = Admission(rt)

    await admission.turn()
    others = [job_id for job_id in sent(rt) if job_id in {*few, *some}]

    assert len(sent(rt)) == MOST + 3
    assert others[:2] in ([few[0], some[0]], [some[0], few[0]])
    assert others[2] == few[1]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_all_jobs_complete_under_a_limit(settings: Settings, provider: FakeProvider) -> None:
    """The whole engine runs, and the limit holds at all times."""
    few = settings.model_copy(update={"max_running": MOST})
    async with open_runtime(few) as opened:
        await migrate(opened.db)
        rt = replace(opened, providers={"placeholder": provider})
        stop = asyncio.Event()
        mine = await made(rt, "default", 12)
        working = asyncio.create_task(work(rt, stop))
        async with asyncio.timeout(LIMIT):
            while not all([(await jobs.get_any_tenant(rt.db, one)).terminal for one in mine]):
                await asyncio.sleep(0.02)
        stop.set()
        await working

        stream = await event_stream.page(rt.db, "default", after=Cursor(0), limit=1000)
        found = [await jobs.get_any_tenant(rt.db, one) for one in {each.job_id for each in stream}]

    assert {job.status for job in found} == {Status.COMPLETED}
    assert len(found) == 12
    assert most_at_once(stream) <= MOST


def most_at_once(stream: list[StreamEvent]) -> int:
    """Return the highest number of jobs running at once, according to the stream of events."""
    running = most = 0
    for _, events in groupby(stream, key=lambda each: each.cursor.position):
        types = Counter(each.event.type for each in events)  # of one transaction
        running += types["starting"]
        most = max(most, running)
        running -= types["completed"]
    return most


async def test_jobs_of_a_disabled_tenant_wait_until_it_is_enabled(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Running jobs are collected; waiting ones are neither started nor lost, and cause no turns."""
    rt = limited(rt, 9)
    await create_key(rt, name="shop", tenant_id="acme", scopes=[Scope.JOBS_READ])
    running, waiting = await made(rt, "acme", 2)
    (other,) = await made(rt, "other", 1)
    await start(rt, running)
    await change_tenant(rt, "acme", enabled=False)
    clock.tick(seconds=1)
    admission = Admission(rt)

    await admission.turn()
    wait = await admission.turn()
    await start(rt, waiting)
    await Watch(rt, "placeholder").turn()
    await collect(rt, running)

    statuses = [(await jobs.get_any_tenant(rt.db, one)).status for one in (running, waiting)]
    assert statuses == [Status.COMPLETED, Status.PENDING]
    assert (sent(rt), wait) == ([other], IDLE)
    assert len(provider.started) == 1
    await change_tenant(rt, "acme", enabled=True)
    await admission.turn()
    assert sent(rt) == [other, waiting]


async def test_a_limit_of_the_tenant_replaces_the_setting(rt: Runtime, clock: Clock) -> None:
    """It may be higher or lower."""
    await create_key(rt, name="shop", tenant_id="acme", scopes=[Scope.JOBS_READ])
    await change_tenant(rt, "acme", limits={"max_running": 1})
    mine, others = await made(rt, "acme", 3), await made(rt, "other", 3)
    clock.tick(seconds=1)

    await Admission(rt).turn()

    assert sorted(sent(rt)) == sorted([*mine[:1], *others[:MOST]])


async def test_health_reports_waiting_jobs_of_disabled_tenants(rt: Runtime, clock: Clock) -> None:
    """After a long wait, because the operator may have forgotten them."""
    await create_key(rt, name="shop", tenant_id="acme", scopes=[Scope.JOBS_READ])
    await change_tenant(rt, "acme", enabled=False)
    await made(rt, "acme", 1)
    before = await check_queue(rt.db, now=rt.now())
    clock.tick(hours=1)

    finding = await check_queue(rt.db, now=rt.now())

    assert (before.status, finding.status) == ("ok", "warning")
    assert finding.advice.startswith("jobs of disabled tenants (1) wait: fleek tenants list")
