"""No faster than a provider takes it, and not at all while it cannot."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from fakes import Clock, FakeProvider, a_request
from fleek.dispatch.base import Task
from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import Job, JobId, Stage, Status
from fleek.engine import start as start_module
from fleek.engine.admit import BUSY, IDLE, Admission
from fleek.engine.provider_limits import PauseCache, TokenBucket
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, start
from fleek.engine.submit import submit
from fleek.engine.throttle import (
    LONGEST_PAUSE,
    OPENS_AFTER,
    OPERATOR_PAUSE,
    SHORTEST_PAUSE,
    TRIAL_SECONDS,
    circuit_pause,
    refresh_pauses,
)
from fleek.engine.watch import Watch
from fleek.providers.base import (
    PAYMENT_REQUIRED,
    RATE_LIMITED,
    UNAUTHORIZED,
    UNREACHABLE,
    Budget,
    Failed,
)
from fleek.store import jobs, provider_health

MINUTE = timedelta(minutes=1)
LIMITED = ProviderUnavailable("slow down", code=RATE_LIMITED, retry_after=MINUTE)
UNPAID = ProviderUnavailable("no credit", code=PAYMENT_REQUIRED)
REVOKED = ProviderUnavailable("no such token", code=UNAUTHORIZED)
AWAY = ProviderUnavailable("nobody listens", code=UNREACHABLE)
LOST = OutcomeUnknown("no answer")


class Hall:
    """A dispatcher whose workers start at once what they are told, or do nothing."""

    def __init__(self) -> None:
        self.told: list[JobId] = []
        self.workers: list[Runtime] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Tell one worker after the other."""
        if task == "start":
            self.told.append(job_id)
            if self.workers:
                await start(self.workers[len(self.told) % len(self.workers)], job_id)

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always fine."""


@pytest.fixture
def hall() -> Hall:
    """Return a dispatcher without workers."""
    return Hall()


@pytest.fixture
def rt(rt: Runtime, hall: Hall) -> Runtime:
    """Return a runtime whose nudges end in the hall."""
    return replace(rt, dispatcher=hall)


class Turns:
    """Turns of `admit` while time passes, with one clock for all."""

    def __init__(self, rt: Runtime, clock: Clock) -> None:
        self._rt = rt
        self._begun = clock.time
        self._clock = clock
        self._admission = Admission(rt, clock=self.seconds)

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return (self._clock.time - self._begun).total_seconds()

    async def one(self, *, after: float = 0) -> timedelta:
        """Take a turn, so many seconds later."""
        self._clock.tick(seconds=after)
        await self._rt.lease.beat()
        return await self._admission.turn()

    async def run(self, seconds: float, *, step: float = 0.1) -> None:
        """Take turns for so long."""
        for _ in range(round(seconds / step)):
            await self.one(after=step)


@pytest.fixture
def turns(rt: Runtime, provider: FakeProvider, clock: Clock) -> Callable[..., Turns]:
    """Return a maker of coordinators; to be called once all providers are as they should be."""

    def make(**budget: float) -> Turns:
        provider.budget = Budget(**budget)  # type: ignore[arg-type]  # what a test says
        return Turns(rt, clock)

    return make


async def submitted(rt: Runtime, count: int, **fields: Any) -> list[Job]:
    """Submit so many jobs that are due at once."""
    return await asyncio.gather(
        *(submit(rt, a_request(run_at=rt.now(), **fields)) for _ in range(count))
    )


async def purchase(rt: Runtime, provider: FakeProvider, error: FleekError | None = None) -> Job:
    """Start a new job, with this failure if any; returns what has become of it."""
    if error is not None:
        provider.starts = [error]
    (job,) = await submitted(rt, 1)
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def broken(rt: Runtime, provider: FakeProvider, error: FleekError = AWAY) -> None:
    """Let purchases fail until the model is left alone."""
    for _ in range(OPENS_AFTER):
        await purchase(rt, provider, error)


# Budgets


@pytest.mark.parametrize("per_minute", [1, 6, 61, 600, 3000])
def test_a_bucket_never_gives_more_than_its_minute(per_minute: int) -> None:
    """Whenever the provider's minute begins."""
    now = 0.0
    bucket = TokenBucket(per_minute, clock=lambda: now)
    given = []
    for tick in range(200 * 20):
        now = tick / 20
        while now > 70 and bucket.take():  # it has rested, so it is full
            given.append(now)

    assert len(given) >= per_minute  # in 130 seconds
    assert all(
        later - sooner > 60 - 1e-6
        for sooner, later in zip(given, given[per_minute:], strict=False)
    )


def test_a_bucket_without_a_limit_is_never_empty() -> None:
    """As with the placeholder."""
    bucket = TokenBucket(None)
    bucket.spend(10**9)
    bucket.drain(seconds=60)

    assert bucket.take()
    assert bucket.wait() == timedelta(0)


def test_what_is_owed_is_paid_first() -> None:
    """A sweep may cost more than there is."""
    now = 0.0
    bucket = TokenBucket(61, clock=lambda: now)  # one per second
    bucket.spend(3)

    assert bucket.wait() == timedelta(seconds=4)
    now = 4.0
    assert bucket.take()
    assert not bucket.take()


async def test_a_crowd_is_admitted_at_the_provider_s_pace(
    rt: Runtime, hall: Hall, turns: Callable[..., Turns]
) -> None:
    """600 a minute are 10 a second, and a burst is a second's worth."""
    coordinator = turns(creates_per_minute=600)
    hall.workers = [rt]
    await submitted(rt, 1000)

    await coordinator.run(5)
    after_five = len(hall.told)
    await coordinator.one(after=60)
    burst = len(hall.told) - after_five
    await coordinator.run(5)

    assert 45 <= after_five <= 50
    assert burst == 9  # it kept no more, however long it rested
    assert 90 <= len(hall.told) - burst <= 100


async def test_a_new_coordinator_starts_with_nothing(
    rt: Runtime, hall: Hall, turns: Callable[..., Turns]
) -> None:
    """It does not know what the one before has spent."""
    await submitted(rt, 50)
    coordinator = turns(creates_per_minute=600)

    wait = await coordinator.one()

    assert hall.told == []
    assert BUSY < wait < 6 * BUSY  # it takes a tenth of a second until there is a token
    await coordinator.one(after=wait.total_seconds() + 0.001)
    assert len(hall.told) == 1


async def test_the_best_job_gets_the_token(
    rt: Runtime, hall: Hall, turns: Callable[..., Turns]
) -> None:
    """Priority counts whatever the pace."""
    await submitted(rt, 5, priority=1)
    (best,) = await submitted(rt, 1, priority=9)
    coordinator = turns(creates_per_minute=60)

    await coordinator.one(after=1.1)

    assert hall.told == [best.id]


async def test_a_provider_without_tokens_holds_up_no_other(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns]
) -> None:
    """However long its queue is, and however early it came."""
    free = FakeProvider()
    rt.providers["fake"] = free  # type: ignore[index]  # a dictionary, in the tests
    hall.workers = [rt]
    await submitted(rt, 300, priority=9)
    others = await submitted(rt, 3, provider="fake")
    coordinator = turns(creates_per_minute=60)

    await coordinator.one(after=0.1)

    assert sorted(hall.told) == sorted(job.id for job in others)
    assert provider.started == []


async def test_no_more_run_at_once_than_the_provider_runs(
    rt: Runtime,
    hall: Hall,
    clock: Clock,
    turns: Callable[..., Turns],
    second_worker: Callable[[], Runtime],
) -> None:
    """With two workers too: only the coordinator decides."""
    other = replace(second_worker(), dispatcher=hall, pauses=PauseCache())
    await other.lease.register()
    coordinator = turns(concurrency=3)
    await submitted(rt, 10)

    await coordinator.one()
    dispatched = len(hall.told)  # and nobody has claimed them yet
    await coordinator.one()
    again = len(hall.told)
    hall.workers = [rt, other]
    for job_id in hall.told[:2]:
        await start(other, job_id)
    await coordinator.one()
    claimed = len(hall.told)
    clock.tick(seconds=1)
    await Watch(rt).turn()  # two of them end
    await coordinator.one()

    assert (dispatched, again, claimed, len(hall.told)) == (3, 3, 3, 5)


# Accounts


async def test_too_many_requests_pause_the_account_and_not_the_job(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns], clock: Clock
) -> None:
    """Nobody else asks meanwhile; the job that was refused keeps its turn."""
    refused = await purchase(rt, provider, LIMITED)
    later = await submitted(rt, 2)
    hall.workers = [rt]
    coordinator = turns()

    await coordinator.run(59, step=1)
    during = list(hall.told)
    await coordinator.run(2, step=1)

    assert refused.status is Status.PENDING
    assert refused.run_at < clock() - timedelta(seconds=50)
    assert during == []
    assert sorted(hall.told) == sorted(job.id for job in (refused, *later))
    assert len(provider.sold) == 3


async def test_a_worker_that_knows_of_the_pause_does_not_ask(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A nudge that was under way is passed over; the job is as it was."""
    job, *_ = await submitted(rt, 1)
    await purchase(rt, provider, LIMITED)

    await start(rt, job.id)
    during = await jobs.get_any_tenant(rt.db, job.id)
    clock.tick(seconds=60)
    await start(rt, job.id)

    assert (during.status, during.version) == (Status.PENDING, 1)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


@pytest.mark.parametrize("refusal", [UNPAID, REVOKED], ids=["unpaid", "revoked"])
async def test_an_account_that_is_refused_is_parked(
    *,
    rt: Runtime,
    hall: Hall,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    clock: Clock,
    refusal: ProviderUnavailable,
) -> None:
    """One alert, however often it is tried; jobs wait, and go on once somebody has acted."""
    waiting = await submitted(rt, 3)
    hall.workers = [rt]
    provider.starts = [refusal, refusal]
    coordinator = turns(creates_per_minute=600)

    with capture_logs() as lines:
        await coordinator.run(1)
        await coordinator.run(2 * OPERATOR_PAUSE / timedelta(seconds=1) + 60, step=10)

    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["account_paused"]
    assert [line["event"] for line in lines if line["event"] == "provider_resumed"]
    assert len(provider.started) == 2 + 3
    assert {(await jobs.get_any_tenant(rt.db, job.id)).stage for job in waiting} == {Stage.WAITING}
    assert await provider_health.impaired(rt.db, now=clock()) == []


async def test_a_parked_provider_holds_up_no_other(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns]
) -> None:
    """One bill that is not paid is one provider's matter."""
    rt.providers["fake"] = FakeProvider()  # type: ignore[index]  # a dictionary, in the tests
    await purchase(rt, provider, UNPAID)
    await submitted(rt, 100, priority=9)
    others = await submitted(rt, 2, provider="fake")
    hall.workers = [rt]
    coordinator = turns()

    await coordinator.run(1)

    assert sorted(hall.told) == sorted(job.id for job in others)


# Models


def test_the_pause_of_a_model_doubles() -> None:
    """From half a minute up to ten."""
    pauses = [circuit_pause(failures) for failures in range(4, 100)]

    assert pauses[:4] == [None, SHORTEST_PAUSE, 2 * SHORTEST_PAUSE, 4 * SHORTEST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize("error", [AWAY, LOST], ids=["away", "lost"])
async def test_a_model_that_fails_is_left_alone(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns], error: FleekError
) -> None:
    """Others of the same provider go on, even from behind its long queue."""
    await broken(rt, provider, error)
    await submitted(rt, 100, priority=9)
    (other,) = await submitted(rt, 1, model="fake/other")
    coordinator = turns()

    await coordinator.run(29, step=1)

    assert set(hall.told) == {other.id}


async def test_a_success_between_failures_starts_the_count_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Four of five is no breakdown."""
    for _ in range(OPENS_AFTER - 1):
        await purchase(rt, provider, AWAY)
    await purchase(rt, provider)
    await purchase(rt, provider, AWAY)

    (account,) = await provider_health.impaired(rt.db, now=clock())

    assert (account.failures, account.paused_until) == (1, None)


async def test_a_success_that_was_under_way_opens_the_model_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Of purchases answered at once, those that failed may be noted first."""
    provider.hold = asyncio.Event()
    (job,) = await submitted(rt, 1)
    buying = asyncio.create_task(start(rt, job.id))
    while not provider.sold:
        await asyncio.sleep(0)
    await broken(rt, provider)
    is_paused = rt.pauses.is_paused("placeholder", "fake/model", now=clock())

    provider.hold.set()
    await buying

    assert is_paused
    assert await provider_health.impaired(rt.db, now=clock()) == []
    assert not rt.pauses.is_paused("placeholder", "fake/model", now=clock())


async def test_a_few_failures_change_nothing_yet(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns]
) -> None:
    """They may be chance."""
    await purchase(rt, provider, AWAY)
    crowd = await submitted(rt, 5)
    coordinator = turns()

    await coordinator.one()

    assert set(hall.told) >= {job.id for job in crowd}


@pytest.mark.parametrize(("error", "written"), [(LIMITED, 1), (AWAY, OPENS_AFTER)])
async def test_what_is_known_already_is_not_written_again(
    rt: Runtime, provider: FakeProvider, clock: Clock, error: FleekError, written: int
) -> None:
    """When a provider breaks down, all that is under way fails at once."""
    crowd = await submitted(rt, 2 * OPENS_AFTER)
    intended = [await intend(rt, job.id) for job in crowd]
    provider.starts = [error] * len(crowd)

    for one in intended:
        assert one is not None
        await start_module.carry_out(rt, *one)
        clock.tick(seconds=0.01)

    (account,) = await provider_health.impaired(rt.db, now=clock())
    begun = clock.time - timedelta(seconds=0.01) * len(crowd)
    assert account.updated_at - begun == timedelta(seconds=0.01) * (written - 1)


async def test_what_another_worker_has_cleared_is_cleared(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """Only one of them says that all is well again."""
    other = replace(second_worker(), pauses=PauseCache())
    await other.lease.register()
    await purchase(rt, provider, AWAY)
    await refresh_pauses(other)

    with capture_logs() as lines:
        await purchase(rt, provider)
        await purchase(other, provider)

    assert [line["event"] for line in lines].count("provider_resumed") == 1


@pytest.mark.parametrize(
    "error",
    [
        ProviderRejected("bad input"),
        ProviderUnavailable("busy", code="provider_busy"),
    ],
    ids=["rejected", "busy"],
)
async def test_what_tells_nothing_of_the_provider_s_health_is_not_counted(
    rt: Runtime, provider: FakeProvider, clock: Clock, error: FleekError
) -> None:
    """A caller's mistake must not stop other callers."""
    for _ in range(OPENS_AFTER):
        await purchase(rt, provider, error)

    assert await provider_health.impaired(rt.db, now=clock()) == []
    assert rt.metrics.start_failures.labels("placeholder", error.code)._value.get() == 5


async def test_a_prediction_that_fails_is_not_counted(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """It was sold: that is all that counts here."""
    provider.outcome = Failed("prediction_failed", "bad day", retryable=True)
    provider.at_once = True
    for _ in range(OPENS_AFTER):
        await purchase(rt, provider)

    assert await provider_health.impaired(rt.db, now=clock()) == []


async def test_after_its_pause_one_job_tries_the_model(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns], clock: Clock
) -> None:
    """As long as nothing is heard of it, no other is started; a success opens the door."""
    await broken(rt, provider)
    clock.tick(seconds=SHORTEST_PAUSE.total_seconds())
    coordinator = turns()

    await coordinator.run(20, step=1)
    trial = list(hall.told)
    await start(rt, trial[0])
    hall.workers = [rt]
    await coordinator.run(2)

    assert len(trial) == 1
    assert sorted(Counter(hall.told).values()) == [1] * OPENS_AFTER
    assert await provider_health.impaired(rt.db, now=clock()) == []


async def test_a_trial_that_fails_leads_to_a_longer_pause(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns], clock: Clock
) -> None:
    """And to another trial after it."""
    await broken(rt, provider)
    clock.tick(seconds=SHORTEST_PAUSE.total_seconds())
    hall.workers = [rt]
    provider.starts = [AWAY] * 2
    coordinator = turns()

    await coordinator.run(1)
    (account,) = await provider_health.impaired(rt.db, now=clock())
    first = len(hall.told)
    await coordinator.run(58, step=1)
    second = len(hall.told)
    await coordinator.run(3, step=1)

    assert account.paused_until is not None
    assert account.paused_until - account.updated_at == 2 * SHORTEST_PAUSE
    assert (first, second, len(hall.told)) == (1, 1, 2)


async def test_a_trial_that_is_lost_is_followed_by_another(
    rt: Runtime, hall: Hall, provider: FakeProvider, turns: Callable[..., Turns], clock: Clock
) -> None:
    """Its worker may have died."""
    await broken(rt, provider)
    clock.tick(seconds=SHORTEST_PAUSE.total_seconds())
    coordinator = turns()

    await coordinator.run(TRIAL_SECONDS - 1, step=1)
    first = len(hall.told)
    await coordinator.run(3, step=1)

    assert (first, len(hall.told)) == (1, 2)


async def test_a_worker_learns_of_what_others_have_seen(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Callable[[], Runtime]
) -> None:
    """With its heartbeat; then its success counts for all."""
    other = replace(second_worker(), pauses=PauseCache())
    await other.lease.register()
    await purchase(rt, provider, AWAY)

    await purchase(other, provider)
    unheard = await provider_health.impaired(rt.db, now=clock())
    await refresh_pauses(other)
    await purchase(other, provider)

    assert len(unheard) == 1
    assert await provider_health.impaired(rt.db, now=clock()) == []


async def test_a_healthy_job_writes_nothing_here(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not even ask."""

    async def asked(*_: object, **__: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(provider_health, "clear", asked)
    monkeypatch.setattr(provider_health, "impaired", asked)

    job = await purchase(rt, provider)

    assert job.stage is Stage.WAITING


@pytest.mark.parametrize("error", [LIMITED, AWAY], ids=["account", "model"])
async def test_what_cannot_be_noted_does_not_stop_the_job(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, error: FleekError
) -> None:
    """It is given back all the same, and waits itself."""

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(provider_health, "pause", away)
    monkeypatch.setattr(provider_health, "fail", away)

    job = await purchase(rt, provider, error)

    floor = getattr(error, "retry_after", None) or timedelta(0)
    assert (job.status, job.attempt, job.deferrals) == (Status.PENDING, 0, 1)
    assert job.run_at >= rt.now() + floor


async def test_a_success_that_cannot_be_noted_is_noted_by_the_next(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sold is bound before."""
    await purchase(rt, provider, AWAY)

    async def away(*_: object, **__: object) -> bool:
        raise DatabaseUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(provider_health, "clear", away)
        job = await purchase(rt, provider)
    await refresh_pauses(rt)
    await purchase(rt, provider)

    assert job.stage is Stage.WAITING
    assert await provider_health.impaired(rt.db, now=clock()) == []


# Looks


async def running(rt: Runtime, provider: FakeProvider, count: int) -> list[str]:
    """Start jobs whose predictions run on; returns these in their order."""
    provider.outcome = None
    for job in await submitted(rt, count):
        await start(rt, job.id)
    return list(provider.sold)


def a_watch(rt: Runtime, clock: Clock) -> Watch:
    """Return a watch whose budget goes by the test's clock."""
    return Watch(rt, clock=lambda: clock().timestamp())


async def test_looks_keep_to_the_budget_of_calls(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Half of it is kept for all other calls; who has waited longest goes first."""
    provider.budget = Budget(calls_per_minute=600)
    sold = await running(rt, provider, 20)
    watch = a_watch(rt, clock)

    for _ in range(100):
        clock.tick(seconds=0.1)
        await watch.turn()

    assert 40 <= len(provider.polled) <= 50
    assert max(Counter(provider.polled).values()) - min(Counter(provider.polled).values()) <= 1
    assert set(provider.polled[:20]) == set(sold)


async def test_looks_that_have_to_wait_tell_how_long(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The loop sleeps until there is a token."""
    provider.budget = Budget(calls_per_minute=600)
    await running(rt, provider, 2)
    clock.tick(seconds=1)

    wait = await a_watch(rt, clock).turn()

    assert provider.polled == []
    assert timedelta(seconds=0.1) < wait < IDLE / 2


async def test_a_crowd_is_looked_at_together(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Where that costs fewer calls; what it cost is paid before the next look."""
    provider.budget = Budget(calls_per_minute=600, max_calls_per_poll=20)
    await running(rt, provider, 30)
    watch = a_watch(rt, clock)
    await watch.turn()
    clock.tick(seconds=1)

    await watch.turn()
    together = len(provider.polled)
    clock.tick(seconds=2)
    await watch.turn()

    assert together == 30
    assert len(provider.polled) == 30
    assert rt.metrics.budget.labels("placeholder", "calls")._value.get() < 0


async def test_looks_that_are_too_many_pause(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider says for how long; purchases are another matter."""
    provider.budget = Budget(calls_per_minute=600)
    await running(rt, provider, 1)
    watch = a_watch(rt, clock)
    await watch.turn()
    clock.tick(seconds=1)
    provider.poll_error = LIMITED
    await watch.turn()
    asked = len(provider.polled)
    provider.poll_error = None

    for _ in range(59):
        clock.tick(seconds=1)
        await watch.turn()
    during = len(provider.polled)
    clock.tick(seconds=2)
    await watch.turn()

    assert (asked, during, len(provider.polled)) == (1, 1, 2)
    assert await provider_health.impaired(rt.db, now=clock()) == []
