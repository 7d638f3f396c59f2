"""Calls to a provider stay within its limits, and stop while it is unavailable."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from fleek.domain.job import Job, JobId, PredictionId, Stage, Status
from fleek.engine import start as start_module
from fleek.engine.admit import BUSY, IDLE, Admission
from fleek.engine.provider_limits import BURST_SECONDS, TRIAL_SECONDS, PauseCache, TokenBucket
from fleek.engine.runtime import Runtime
from fleek.engine.start import intend, start
from fleek.engine.submit import submit
from fleek.engine.throttle import (
    LONGEST_PAUSE,
    OPENS_AFTER,
    OPERATOR_PAUSE,
    SHORTEST_PAUSE,
    circuit_pause,
    refresh_pauses,
)
from fleek.engine.watch import READ_SECONDS, Watch
from fleek.providers.base import (
    PAYMENT_REQUIRED,
    RATE_LIMITED,
    UNAUTHORIZED,
    UNREACHABLE,
    Budget,
    Failed,
    Prediction,
)
from fleek.store import jobs, provider_health

MINUTE = timedelta(minutes=1)
LIMITED = ProviderUnavailable("slow down", code=RATE_LIMITED, retry_after=MINUTE)
UNPAID = ProviderUnavailable("no credit", code=PAYMENT_REQUIRED)
REVOKED = ProviderUnavailable("no such token", code=UNAUTHORIZED)
AWAY = ProviderUnavailable("nobody listens", code=UNREACHABLE)
LOST = OutcomeUnknown("no answer")


class ListedDispatcher:
    """A dispatcher that records ids; its workers, if any, start the jobs at once."""

    def __init__(self) -> None:
        self.dispatched: list[JobId] = []
        self.workers: list[Runtime] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Pass the id to the workers in turn."""
        if task == "start":
            self.dispatched.append(job_id)
            if self.workers:
                await start(self.workers[len(self.dispatched) % len(self.workers)], job_id)

    async def consume(self, *_: object, **__: object) -> None:
        """Never called."""
        raise AssertionError

    async def check(self) -> None:
        """Always succeed."""


@pytest.fixture
def listed() -> ListedDispatcher:
    """Return a dispatcher without workers."""
    return ListedDispatcher()


@pytest.fixture
def rt(rt: Runtime, listed: ListedDispatcher) -> Runtime:
    """Return a runtime whose dispatches are recorded."""
    return replace(rt, dispatcher=listed)


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
        """Take a turn, some seconds later."""
        self._clock.tick(seconds=after)
        await self._rt.lease.beat()
        return await self._admission.turn()

    async def run(self, seconds: float, *, step: float = 0.1) -> None:
        """Take turns for a period."""
        for _ in range(round(seconds / step)):
            await self.one(after=step)


@pytest.fixture
def turns(rt: Runtime, provider: FakeProvider, clock: Clock) -> Callable[..., Turns]:
    """Return a factory of coordinators, to be called when all providers are set up."""

    def make(**budget: float) -> Turns:
        provider.budget = Budget(**budget)  # type: ignore[arg-type]  # chosen by the test
        return Turns(rt, clock)

    return make


async def submitted(rt: Runtime, count: int, **fields: Any) -> list[Job]:
    """Submit a number of jobs that are due at once."""
    return await asyncio.gather(
        *(submit(rt, a_request(run_at=rt.now(), **fields)) for _ in range(count))
    )


async def start_new(rt: Runtime, provider: FakeProvider, error: FleekError | None = None) -> Job:
    """Start a new job, with this failure if any, and return its latest state."""
    if error is not None:
        provider.starts = [error]
    (job,) = await submitted(rt, 1)
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def broken(rt: Runtime, provider: FakeProvider, error: FleekError = AWAY) -> None:
    """Fail starts until the circuit of the model is open."""
    for _ in range(OPENS_AFTER):
        await start_new(rt, provider, error)


# Budgets


@pytest.mark.parametrize("per_minute", [1, 6, 61, 600, 3000])
def test_a_bucket_stays_within_its_limit_per_minute(per_minute: int) -> None:
    """It does not matter when the provider's minute begins."""
    now = 0.0
    bucket = TokenBucket(per_minute, clock=lambda: now)
    given = []
    for tick in range(200 * 20):
        now = tick / 20
        while now > 70 and bucket.take():  # it was idle, so it is full
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


def test_an_overdrawn_bucket_fills_up_first() -> None:
    """One scan may cost more than the bucket holds."""
    now = 0.0
    bucket = TokenBucket(61, clock=lambda: now)  # one per second
    bucket.spend(3)

    assert bucket.wait() == timedelta(seconds=4)
    now = 4.0
    assert bucket.take()
    assert not bucket.take()


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_many_jobs_are_admitted_at_the_provider_s_rate(
    rt: Runtime, listed: ListedDispatcher, turns: Callable[..., Turns]
) -> None:
    """600 a minute are 10 a second, and a burst is a second's worth."""
    coordinator = turns(creates_per_minute=600)
    listed.workers = [rt]
    await submitted(rt, 200)

    await coordinator.run(5)
    after_five = len(listed.dispatched)
    await coordinator.one(after=60)
    burst = len(listed.dispatched) - after_five
    await coordinator.run(5)

    assert 45 <= after_five <= 50
    assert burst == 9  # it holds no more, however long it was idle
    assert 90 <= len(listed.dispatched) - burst <= 100


async def test_a_new_coordinator_starts_with_an_empty_bucket(
    rt: Runtime, listed: ListedDispatcher, turns: Callable[..., Turns]
) -> None:
    """It does not know how much its predecessor has used."""
    await submitted(rt, 50)
    coordinator = turns(creates_per_minute=600)

    wait = await coordinator.one()

    assert listed.dispatched == []
    assert BUSY < wait < 6 * BUSY  # it takes a tenth of a second until there is a token
    await coordinator.one(after=wait.total_seconds() + 0.001)
    assert len(listed.dispatched) == 1


async def test_the_highest_priority_gets_the_token(
    rt: Runtime, listed: ListedDispatcher, turns: Callable[..., Turns]
) -> None:
    """The priority counts at any rate."""
    await submitted(rt, 5, priority=1)
    (best,) = await submitted(rt, 1, priority=9)
    coordinator = turns(creates_per_minute=60)

    await coordinator.one(after=1.1)

    assert listed.dispatched == [best.id]


async def test_a_provider_without_tokens_does_not_block_others(
    rt: Runtime, listed: ListedDispatcher, provider: FakeProvider, turns: Callable[..., Turns]
) -> None:
    """Its queue may be long, and older."""
    free = FakeProvider()
    rt.providers["fake"] = free  # type: ignore[index]  # a dictionary, in the tests
    listed.workers = [rt]
    await submitted(rt, 300, priority=9)
    others = await submitted(rt, 3, provider="fake")
    coordinator = turns(creates_per_minute=60)

    await coordinator.one(after=0.1)

    assert sorted(listed.dispatched) == sorted(job.id for job in others)
    assert provider.started == []


async def test_concurrent_predictions_stay_within_the_provider_s_limit(
    rt: Runtime,
    listed: ListedDispatcher,
    clock: Clock,
    turns: Callable[..., Turns],
    second_worker: Callable[[], Runtime],
) -> None:
    """With two workers, too: only the coordinator decides."""
    other = replace(second_worker(), dispatcher=listed, pauses=PauseCache())
    await other.lease.register()
    coordinator = turns(concurrency=3)
    await submitted(rt, 10)

    await coordinator.one()
    dispatched = len(listed.dispatched)  # and they are not claimed yet
    await coordinator.one()
    again = len(listed.dispatched)
    listed.workers = [rt, other]
    for job_id in listed.dispatched[:2]:
        await start(other, job_id)
    await coordinator.one()
    claimed = len(listed.dispatched)
    clock.tick(seconds=1)
    await Watch(rt).turn()  # two of them end
    await coordinator.one()

    assert (dispatched, again, claimed, len(listed.dispatched)) == (3, 3, 3, 5)


# Accounts


async def test_too_many_requests_pause_the_account_and_not_the_job(
    rt: Runtime,
    listed: ListedDispatcher,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    clock: Clock,
) -> None:
    """No other job calls the provider meanwhile, and the refused job keeps its place."""
    refused = await start_new(rt, provider, LIMITED)
    later = await submitted(rt, 2)
    listed.workers = [rt]
    coordinator = turns()

    await coordinator.run(59, step=1)
    during = list(listed.dispatched)
    await coordinator.run(2, step=1)

    assert refused.status is Status.PENDING
    assert refused.run_at < clock() - timedelta(seconds=50)
    assert during == []
    assert sorted(listed.dispatched) == sorted(job.id for job in (refused, *later))
    assert len(provider.created) == 3


async def test_a_worker_with_the_pause_cached_makes_no_call(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A dispatch that was under way is skipped, and the job is unchanged."""
    job, *_ = await submitted(rt, 1)
    await start_new(rt, provider, LIMITED)

    await start(rt, job.id)
    during = await jobs.get_any_tenant(rt.db, job.id)
    clock.tick(seconds=60)
    await start(rt, job.id)

    assert (during.status, during.version) == (Status.PENDING, 1)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


@pytest.mark.parametrize("refusal", [UNPAID, REVOKED], ids=["unpaid", "revoked"])
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_refused_account_is_paused(
    *,
    rt: Runtime,
    listed: ListedDispatcher,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    clock: Clock,
    refusal: ProviderUnavailable,
) -> None:
    """There is one alert, and jobs wait until the operator has acted."""
    waiting = await submitted(rt, 3)
    listed.workers = [rt]
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


async def test_a_paused_provider_does_not_block_others(
    rt: Runtime, listed: ListedDispatcher, provider: FakeProvider, turns: Callable[..., Turns]
) -> None:
    """An unpaid bill concerns one provider only."""
    rt.providers["fake"] = FakeProvider()  # type: ignore[index]  # a dictionary, in the tests
    await start_new(rt, provider, UNPAID)
    await submitted(rt, 100, priority=9)
    others = await submitted(rt, 2, provider="fake")
    listed.workers = [rt]
    coordinator = turns()

    await coordinator.run(1)

    assert sorted(listed.dispatched) == sorted(job.id for job in others)


# Models


def test_the_pause_of_a_model_doubles() -> None:
    """From half a minute up to ten minutes."""
    pauses = [circuit_pause(failures) for failures in range(4, 100)]

    assert pauses[:4] == [None, SHORTEST_PAUSE, 2 * SHORTEST_PAUSE, 4 * SHORTEST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize("error", [AWAY, LOST], ids=["away", "lost"])
async def test_a_failing_model_is_paused(
    rt: Runtime,
    listed: ListedDispatcher,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    error: FleekError,
) -> None:
    """Other models of the same provider continue, even from behind its long queue."""
    await broken(rt, provider, error)
    await submitted(rt, 100, priority=9)
    (other,) = await submitted(rt, 1, model="fake/other")
    coordinator = turns()

    await coordinator.run(29, step=1)

    assert set(listed.dispatched) == {other.id}


async def test_a_success_between_failures_starts_the_count_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Four failures of five are no outage."""
    for _ in range(OPENS_AFTER - 1):
        await start_new(rt, provider, AWAY)
    await start_new(rt, provider)
    await start_new(rt, provider, AWAY)

    (account,) = await provider_health.impaired(rt.db, now=clock())

    assert (account.failures, account.paused_until) == (1, None)


async def test_a_late_success_closes_the_circuit(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Of simultaneous responses, the failures may be recorded first."""
    provider.hold = asyncio.Event()
    (job,) = await submitted(rt, 1)
    starting = asyncio.create_task(start(rt, job.id))
    while not provider.created:
        await asyncio.sleep(0)
    await broken(rt, provider)
    is_paused = rt.pauses.is_paused("placeholder", "fake/model", now=clock())

    provider.hold.set()
    await starting

    assert is_paused
    assert await provider_health.impaired(rt.db, now=clock()) == []
    assert not rt.pauses.is_paused("placeholder", "fake/model", now=clock())


async def test_a_few_failures_pause_nothing(
    rt: Runtime, listed: ListedDispatcher, provider: FakeProvider, turns: Callable[..., Turns]
) -> None:
    """They may be chance."""
    await start_new(rt, provider, AWAY)
    crowd = await submitted(rt, 5)
    coordinator = turns()

    await coordinator.one()

    assert set(listed.dispatched) >= {job.id for job in crowd}


@pytest.mark.parametrize(("error", "written"), [(LIMITED, 1), (AWAY, OPENS_AFTER)])
async def test_a_known_failure_is_not_recorded_again(
    rt: Runtime, provider: FakeProvider, clock: Clock, error: FleekError, written: int
) -> None:
    """In an outage, all starts in progress fail at once."""
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


async def test_recovery_is_logged_by_one_worker_only(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """Another worker's cache may still contain the failure."""
    other = replace(second_worker(), pauses=PauseCache())
    await other.lease.register()
    await start_new(rt, provider, AWAY)
    await refresh_pauses(other)

    with capture_logs() as lines:
        await start_new(rt, provider)
        await start_new(other, provider)

    assert [line["event"] for line in lines].count("provider_resumed") == 1


@pytest.mark.parametrize(
    "error",
    [
        ProviderRejected("bad input"),
        ProviderUnavailable("busy", code="provider_busy"),
    ],
    ids=["rejected", "busy"],
)
async def test_errors_unrelated_to_provider_health_are_not_counted(
    rt: Runtime, provider: FakeProvider, clock: Clock, error: FleekError
) -> None:
    """A caller's mistake must not stop other callers."""
    for _ in range(OPENS_AFTER):
        await start_new(rt, provider, error)

    assert await provider_health.impaired(rt.db, now=clock()) == []
    assert rt.metrics.start_failures.labels("placeholder", error.code)._value.get() == 5


async def test_a_failed_prediction_is_not_counted(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """It was created, and that is all that counts here."""
    provider.outcome = Failed("prediction_failed", "bad day", retryable=True)
    provider.at_once = True
    for _ in range(OPENS_AFTER):
        await start_new(rt, provider)

    assert await provider_health.impaired(rt.db, now=clock()) == []


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_after_the_pause_one_job_tests_the_model(
    rt: Runtime,
    listed: ListedDispatcher,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    clock: Clock,
) -> None:
    """No other job is started before its result, and a success closes the circuit."""
    await broken(rt, provider)
    clock.tick(seconds=SHORTEST_PAUSE.total_seconds())
    coordinator = turns()

    await coordinator.run(20, step=1)
    trial = list(listed.dispatched)
    await start(rt, trial[0])
    listed.workers = [rt]
    await coordinator.run(2)

    assert len(trial) == 1
    assert sorted(Counter(listed.dispatched).values()) == [1] * OPENS_AFTER
    assert await provider_health.impaired(rt.db, now=clock()) == []


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_failed_trial_leads_to_a_longer_pause(
    rt: Runtime,
    listed: ListedDispatcher,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    clock: Clock,
) -> None:
    """Another trial follows it."""
    await broken(rt, provider)
    clock.tick(seconds=SHORTEST_PAUSE.total_seconds())
    listed.workers = [rt]
    provider.starts = [AWAY] * 2
    coordinator = turns()

    await coordinator.run(1)
    (account,) = await provider_health.impaired(rt.db, now=clock())
    first = len(listed.dispatched)
    await coordinator.run(58, step=1)
    second = len(listed.dispatched)
    await coordinator.run(3, step=1)

    assert account.paused_until is not None
    assert account.paused_until - account.updated_at == 2 * SHORTEST_PAUSE
    assert (first, second, len(listed.dispatched)) == (1, 1, 2)


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_lost_trial_is_followed_by_another(
    rt: Runtime,
    listed: ListedDispatcher,
    provider: FakeProvider,
    turns: Callable[..., Turns],
    clock: Clock,
) -> None:
    """Its worker may have crashed."""
    await broken(rt, provider)
    clock.tick(seconds=SHORTEST_PAUSE.total_seconds())
    coordinator = turns()

    await coordinator.run(TRIAL_SECONDS - 1, step=1)
    first = len(listed.dispatched)
    await coordinator.run(3, step=1)

    assert (first, len(listed.dispatched)) == (1, 2)


async def test_a_worker_reads_the_pauses_of_others(
    rt: Runtime, provider: FakeProvider, clock: Clock, second_worker: Callable[[], Runtime]
) -> None:
    """It does so with its heartbeat; then its success counts for all."""
    other = replace(second_worker(), pauses=PauseCache())
    await other.lease.register()
    await start_new(rt, provider, AWAY)

    await start_new(other, provider)
    unchanged = await provider_health.impaired(rt.db, now=clock())
    await refresh_pauses(other)
    await start_new(other, provider)

    assert len(unchanged) == 1
    assert await provider_health.impaired(rt.db, now=clock()) == []


async def test_a_healthy_start_reads_and_writes_no_health(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs no statement."""

    async def asked(*_: object, **__: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(provider_health, "clear", asked)
    monkeypatch.setattr(provider_health, "impaired", asked)

    job = await start_new(rt, provider)

    assert job.stage is Stage.WAITING


@pytest.mark.parametrize("error", [LIMITED, AWAY], ids=["account", "model"])
async def test_a_failure_that_cannot_be_recorded_does_not_hold_the_job(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, error: FleekError
) -> None:
    """It is released all the same, and waits on its own."""

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(provider_health, "pause", away)
    monkeypatch.setattr(provider_health, "fail", away)

    job = await start_new(rt, provider, error)

    floor = getattr(error, "retry_after", None) or timedelta(0)
    assert (job.status, job.attempt, job.deferrals) == (Status.PENDING, 0, 1)
    assert job.run_at >= rt.now() + floor


async def test_a_success_that_cannot_be_recorded_is_recorded_by_the_next(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prediction is bound before."""
    await start_new(rt, provider, AWAY)

    async def away(*_: object, **__: object) -> bool:
        raise DatabaseUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(provider_health, "clear", away)
        job = await start_new(rt, provider)
    await refresh_pauses(rt)
    await start_new(rt, provider)

    assert job.stage is Stage.WAITING
    assert await provider_health.impaired(rt.db, now=clock()) == []


# Polls


async def running(rt: Runtime, provider: FakeProvider, count: int) -> list[str]:
    """Start jobs whose predictions run on, and return their ids in order."""
    provider.outcome = None
    for job in await submitted(rt, count):
        await start(rt, job.id)
    return list(provider.created)


def a_watch(rt: Runtime, clock: Clock) -> Watch:
    """Return a watch whose budget uses the test's clock."""
    return Watch(rt, clock=lambda: clock().timestamp())


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_polls_stay_within_the_call_budget(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Half of it is reserved for other calls, and the longest wait goes first."""
    provider.budget = Budget(calls_per_minute=600)
    ids = await running(rt, provider, 20)
    watch = a_watch(rt, clock)

    for _ in range(100):
        clock.tick(seconds=0.1)
        await watch.turn()

    assert 40 <= len(provider.polled) <= 50
    assert max(Counter(provider.polled).values()) - min(Counter(provider.polled).values()) <= 1
    assert set(provider.polled[:20]) == set(ids)


async def test_polls_without_budget_return_their_wait(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The loop sleeps until there is a token."""
    provider.budget = Budget(calls_per_minute=600)
    await running(rt, provider, 2)
    clock.tick(seconds=1)

    wait = await a_watch(rt, clock).turn()

    assert provider.polled == []
    assert timedelta(seconds=0.1) < wait < IDLE / 2


async def test_many_predictions_are_polled_together(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Where that costs fewer calls; its cost is paid before the next poll."""
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


async def test_predictions_that_were_forgotten_cost_no_calls(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """They have ended otherwise while they waited for a call: those behind them would wait on for nothing."""
    provider.budget = Budget(calls_per_minute=600)
    await running(rt, provider, 4)
    watch = a_watch(rt, clock)
    await watch.turn()
    clock.tick(seconds=1)
    watch._calls["placeholder"].drain()
    await watch.turn()  # their looks are due, and wait for calls
    [(*ended, last)] = watch._queues.values()
    for watched in ended:
        del watch._watched[watched.row.id]
    clock.tick(seconds=READ_SECONDS - 0.03)  # time for one call, and not for the next read of rows

    await watch.turn()

    assert provider.polled == [last.row.prediction_id]


class CountingProvider(FakeProvider):
    """A provider whose poll makes two calls, whatever it is asked for."""

    poll_calls = 7  # of polls before

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Count the calls."""
        self.poll_calls += 2
        return await super().poll(ids)


@pytest.fixture
def counting() -> CountingProvider:
    """Return such a provider, which may make twenty calls in a poll."""
    provider = CountingProvider()
    provider.budget = Budget(calls_per_minute=600, max_calls_per_poll=20)
    return provider


async def test_calls_that_a_poll_has_not_made_are_given_back(
    rt: Runtime, counting: CountingProvider, clock: Clock
) -> None:
    """Else the next poll would wait for calls that nobody has made."""
    rt = replace(rt, providers={"placeholder": counting})
    await running(rt, counting, 30)
    watch = a_watch(rt, clock)
    await watch.turn()
    clock.tick(seconds=1)

    await watch.turn()

    left = rt.metrics.budget.labels("placeholder", "calls")._value.get()
    assert len(counting.polled) == 30
    assert left == pytest.approx(BURST_SECONDS * 600 / 2 / (60 + BURST_SECONDS) - 2)


async def test_calls_given_back_do_not_shorten_the_wait_that_a_provider_asks_for(
    rt: Runtime, counting: CountingProvider, clock: Clock
) -> None:
    """What is given back does not fill what the provider's wait has emptied."""
    rt = replace(rt, providers={"placeholder": counting})
    await running(rt, counting, 30)
    watch = a_watch(rt, clock)
    await watch.turn()
    clock.tick(seconds=1)
    counting.poll_error = LIMITED

    await watch.turn()

    assert watch._calls["placeholder"].wait() > MINUTE


async def test_rate_limited_polls_pause(rt: Runtime, provider: FakeProvider, clock: Clock) -> None:
    """The provider says for how long, and starts are not affected."""
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
