"""Settling by looking into the provider's books: adopt what was bought, never buy it twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown, ProviderUnavailable
from fleek.domain.job import Job, PredictionId, Stage, Status
from fleek.engine import recover
from fleek.engine.cancel import cancel
from fleek.engine.reconcile import LOOKS
from fleek.engine.runtime import Runtime
from fleek.engine.start import carry_out, intend, start
from fleek.engine.submit import submit
from fleek.providers.base import Failed, Found, Prediction
from fleek.store import attempts, jobs
from recovering import Recovering


@pytest.fixture(autouse=True)
def _books(provider: FakeProvider) -> None:
    """The provider keeps books that can be looked into."""
    provider.reconcile_by = "find"


async def a_lost_purchase(rt: Runtime, provider: FakeProvider, *, sold: bool) -> Job:
    """Start a job whose answer gets lost, after or before the sale."""
    job = await submit(rt, a_request())
    provider.starts = [OutcomeUnknown("reset")]
    await start(rt, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    if sold:
        provider.sold[PredictionId(f"p-{attempt.id}")] = attempt
    return job


async def turns(rt: Runtime, clock: Clock, number: int) -> None:
    """Let one coordinator recover for so many turns, half a search apart."""
    recovery = Recovering(rt)
    for _ in range(number):
        await recovery.turn()
        clock.tick(seconds=rt.settings.reconcile_seconds.total_seconds() / 2)
        await rt.lease.beat()


async def test_what_was_sold_to_a_cancelled_job_is_stopped(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Cancelled while it was bought, and the answer got lost: its worker lives, and the bill runs."""
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    _, attempt = intended
    await cancel(rt, job.id, tenant_id="default")
    provider.starts = [OutcomeUnknown("reset")]
    await carry_out(rt, *intended)
    provider.sold[PredictionId(f"p-{attempt.id}")] = attempt

    await turns(rt, clock, 1)

    assert provider.cancelled == [f"p-{attempt.id}"]
    (found,) = await attempts.of_job(rt.db, job.id)
    assert (found.prediction_id, found.error) == (f"p-{attempt.id}", None)


async def test_what_was_sold_is_adopted(rt: Runtime, provider: FakeProvider, clock: Clock) -> None:
    """The money is spent: it is ours to collect."""
    job = await a_lost_purchase(rt, provider, sold=True)

    await turns(rt, clock, 1)

    adopted = await jobs.get_any_tenant(rt.db, job.id)
    assert (adopted.stage, adopted.attempt) == (Stage.WAITING, 1)
    assert adopted.prediction_id in provider.sold
    assert len(provider.started) == 1
    assert rt.metrics.adopted.labels("list")._value.get() == 1


async def test_what_nobody_sold_is_bought_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """After several looks, and without counting the attempt."""
    job = await a_lost_purchase(rt, provider, sold=False)
    await turns(rt, clock, LOOKS - 1)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN

    recovery = Recovering(rt)
    for _ in range(LOOKS):
        await recovery.turn()
        clock.tick(seconds=60)

    again = await jobs.get_any_tenant(rt.db, job.id)
    assert (again.status, again.attempt, again.deferrals) == (Status.PENDING, 0, 1)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.NOT_CREATED


async def test_looks_are_counted_across_leaders(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Leadership may change more often than looks are due: a job must not stay unknown for ever."""
    job = await a_lost_purchase(rt, provider, sold=False)
    for _ in range(LOOKS):
        await Recovering(rt).turn()
        clock.tick(seconds=rt.settings.reconcile_seconds.total_seconds() / (LOOKS - 1))
        await rt.lease.beat()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_many_leaders_in_a_row_do_not_look_sooner(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Each begins with a look; together they would conclude within seconds."""
    job = await a_lost_purchase(rt, provider, sold=False)
    for _ in range(LOOKS + 2):
        await Recovering(rt).turn()
        clock.tick(seconds=5)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


async def test_looks_from_before_a_clock_was_set_back_do_not_count(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """How long ago they were is not known any more; and nothing waits until then."""
    job = await a_lost_purchase(rt, provider, sold=False)
    await turns(rt, clock, LOOKS - 1)
    clock.step(days=-1)
    await turns(rt, clock, LOOKS - 1)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN

    await turns(rt, clock, 1)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_looks_are_spread_over_the_search(rt: Runtime, provider: FakeProvider) -> None:
    """Ten looks within a second are one look."""
    job = await a_lost_purchase(rt, provider, sold=False)
    recovery = Recovering(rt)

    for _ in range(10):
        await recovery.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


@pytest.mark.parametrize("failure", ["incomplete", "away"])
async def test_a_look_that_saw_too_little_does_not_count(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
) -> None:
    """Not having seen it is not the same as it not being there."""
    job = await a_lost_purchase(rt, provider, sold=False)

    async def find(*_: object, **__: object) -> Found:
        if failure == "away":
            raise ProviderUnavailable("no answer")
        return Found(prediction=None, complete=False)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, LOOKS + 3)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


async def test_books_that_were_wiped_end_the_job(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a second purchase on a guess."""
    job = await a_lost_purchase(rt, provider, sold=False)

    async def find(*_: object, **__: object) -> Found:
        return Found(prediction=None, complete=True, wiped=True)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, 1)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "provider_outcome_unknown"


async def candidates_only(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the books name what was sold, but not to whom."""

    async def find(job: Job, *_: object, **__: object) -> Found:
        found = [Prediction(id=one) for one in provider.sold]
        assert job.prompt
        return Found(prediction=None, complete=True, candidates=tuple(found))

    monkeypatch.setattr(provider, "find", find)


async def test_twins_share_what_was_sold_to_them(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lost purchases of the same request: any of the two predictions will do for each."""
    twins = [await a_lost_purchase(rt, provider, sold=True) for _ in range(2)]
    await candidates_only(provider, monkeypatch)

    await turns(rt, clock, 3)

    adopted = [await jobs.get_any_tenant(rt.db, job.id) for job in twins]
    assert {job.stage for job in adopted} == {Stage.WAITING}
    assert {job.prediction_id for job in adopted} == set(provider.sold)
    assert provider.cancelled == []


async def test_a_candidate_of_another_hour_is_left_to_the_twin_that_may_own_it(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that clocks make look through hours must not take what another search would find.

    Else the other finds nothing, and its job is paid for again.
    """
    sure = await a_lost_purchase(rt, provider, sold=True)
    clock.tick(seconds=1)
    unsure = await a_lost_purchase(rt, provider, sold=True)  # the newer one is looked for first
    of_sure, of_unsure = provider.sold

    async def find(job: Job, *_: object, **__: object) -> Found:
        names = (of_sure, of_unsure) if job.id == unsure.id else (of_sure,)
        candidates = tuple(Prediction(id=name) for name in names)
        likely = 0 if job.id == unsure.id else None
        return Found(prediction=None, complete=True, candidates=candidates, likely=likely)

    monkeypatch.setattr(provider, "find", find)
    monkeypatch.setattr(recover, "AT_ONCE", 1)  # one after the other
    monkeypatch.setattr(recover, "SEARCHES", 1)

    await turns(rt, clock, LOOKS + 2)

    found = [await jobs.get_any_tenant(rt.db, job.id) for job in (unsure, sure)]
    assert [job.prediction_id for job in found] == [of_unsure, of_sure]
    assert len(provider.started) == 2


async def test_a_twin_that_cannot_be_found_is_not_waited_for_for_ever(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look through hours: after a while it does not matter which gets which."""
    twins = [await a_lost_purchase(rt, provider, sold=True) for _ in range(2)]

    async def find(*_: object, **__: object) -> Found:
        candidates = tuple(Prediction(id=name) for name in provider.sold)
        return Found(prediction=None, complete=True, candidates=candidates, likely=0)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, 3 * LOOKS)

    found = {(await jobs.get_any_tenant(rt.db, job.id)).prediction_id for job in twins}
    assert found == set(provider.sold)


async def test_a_twin_that_is_being_bought_is_waited_for(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    second_worker: Callable[[], Runtime],
) -> None:
    """What looks like ours may be what its worker is about to bind."""
    lost = await a_lost_purchase(rt, provider, sold=False)
    other = second_worker()
    await other.lease.register()
    twin = await submit(rt, a_request())
    intended = await intend(other, twin.id)
    assert intended is not None
    provider.sold[PredictionId("the twin's")] = intended[1]
    await candidates_only(provider, monkeypatch)

    recovery = Recovering(rt)
    for _ in range(LOOKS + 1):
        await recovery.turn()
        clock.tick(seconds=10)
        for worker in (rt, other):
            await worker.lease.beat()

    assert (await jobs.get_any_tenant(rt.db, lost.id)).stage is Stage.UNKNOWN


async def test_a_candidate_of_another_attempt_is_left_alone(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paid for and waited for already."""
    bought = await submit(rt, a_request())
    await start(rt, bought.id)
    lost = await a_lost_purchase(rt, provider, sold=False)
    await candidates_only(provider, monkeypatch)

    await turns(rt, clock, LOOKS + 1)

    assert provider.cancelled == []
    assert (await jobs.get_any_tenant(rt.db, bought.id)).stage is Stage.WAITING
    assert (await jobs.get_any_tenant(rt.db, lost.id)).status is Status.PENDING


@pytest.mark.parametrize("likely", [None, 0], ids=["of the time of the start", "of another hour"])
async def test_what_an_attempt_that_has_ended_was_paid_is_not_adopted(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    likely: int | None,
) -> None:
    """A search through hours finds the oldest equal one: an earlier job has had it."""
    provider.at_once = True
    provider.outcome = Failed("prediction_failed", "no", retryable=False)
    earlier = await submit(rt, a_request())
    await start(rt, earlier.id)
    assert (await jobs.get_any_tenant(rt.db, earlier.id)).status is Status.FAILED
    lost = await a_lost_purchase(rt, provider, sold=False)

    async def find(*_: object, **__: object) -> Found:
        candidates = tuple(Prediction(id=name) for name in provider.sold)
        return Found(prediction=None, complete=True, candidates=candidates, likely=likely)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, LOOKS + 1)

    again = await jobs.get_any_tenant(rt.db, lost.id)
    assert (again.status, again.prediction_id, again.deferrals) == (Status.PENDING, None, 1)


async def test_a_prediction_bound_to_another_attempt_is_never_stopped(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that gives one id twice: the second buyer has to find out what it has."""
    first = await submit(rt, a_request())
    await start(rt, first.id)
    shared = (await jobs.get_any_tenant(rt.db, first.id)).prediction_id
    assert shared is not None

    async def same(_: Job, attempt: Attempt) -> Prediction:
        provider.started.append(attempt)
        return Prediction(id=shared)

    monkeypatch.setattr(provider, "start", same)
    second = await submit(rt, a_request())

    await start(rt, second.id)

    assert provider.cancelled == []
    assert (await jobs.get_any_tenant(rt.db, second.id)).stage is Stage.UNKNOWN


async def test_a_purchase_for_an_ended_job_is_found_and_stopped(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Its deadline passed while nobody knew."""
    job = await a_lost_purchase(rt, provider, sold=True)
    clock.tick(days=2)
    await rt.lease.beat()
    late = replace(rt, settings=rt.settings.model_copy(update={"reconcile_seconds": timedelta(1)}))

    recovery = Recovering(late)
    for _ in range(2):
        await recovery.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).terminal or provider.sold
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.prediction_id in provider.sold
