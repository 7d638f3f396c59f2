"""Reconciling by a search at the provider: adopt what was created, never create it twice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import OutcomeUnknown, ProviderUnavailable
from fleek.domain.job import Job, PredictionId, Stage, Status
from fleek.engine import recover
from fleek.engine.cancel import cancel
from fleek.engine.reconcile import LOOKS
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, carry_out, intend, start
from fleek.engine.submit import submit
from fleek.providers.base import Failed, Found, Prediction
from fleek.store import attempts, jobs
from recovering import Recovering


@pytest.fixture(autouse=True)
def _searchable(provider: FakeProvider) -> None:
    """Make the provider support searches."""
    provider.reconcile_by = "find"


async def a_lost_start(
    rt: Runtime, provider: FakeProvider, *, created: bool, **fields: Any
) -> Job:
    """Start a job whose response is lost, after or before the creation of the prediction."""
    job = await submit(rt, a_request(**fields))
    provider.starts = [OutcomeUnknown("reset")]
    await start(rt, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    if created:
        provider.created[PredictionId(f"p-{attempt.id}")] = attempt
    return job


async def turns(rt: Runtime, clock: Clock, number: int) -> None:
    """Run a number of recovery turns of one coordinator, half a search apart."""
    recovery = Recovering(rt)
    for _ in range(number):
        await recovery.turn()
        clock.tick(seconds=rt.settings.reconcile_seconds.total_seconds() / 2)
        await rt.lease.beat()


async def test_a_lost_prediction_of_a_cancelled_job_is_cancelled(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Cancelled during the start, whose response was lost: the prediction still costs money."""
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    _, attempt = intended
    await cancel(rt, job.id, tenant_id="default")
    provider.starts = [OutcomeUnknown("reset")]
    await carry_out(rt, *intended)
    provider.created[PredictionId(f"p-{attempt.id}")] = attempt

    await turns(rt, clock, 1)

    assert provider.cancelled == [f"p-{attempt.id}"]
    (found,) = await attempts.of_job(rt.db, job.id)
    assert (found.prediction_id, found.error) == (f"p-{attempt.id}", None)


async def test_a_lost_prediction_is_adopted(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """It is paid for, so its result is collected."""
    job = await a_lost_start(rt, provider, created=True)

    await turns(rt, clock, 1)

    adopted = await jobs.get_any_tenant(rt.db, job.id)
    assert (adopted.stage, adopted.attempt) == (Stage.WAITING, 1)
    assert adopted.prediction_id in provider.created
    assert len(provider.started) == 1
    assert rt.metrics.adopted.labels("list")._value.get() == 1


async def test_a_job_without_a_prediction_is_started_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """After several searches, and without counting the attempt."""
    job = await a_lost_start(rt, provider, created=False)
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


async def test_searches_are_counted_across_leaders(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Leaders may change more often than searches are due, and a job must not stay unknown."""
    job = await a_lost_start(rt, provider, created=False)
    for _ in range(LOOKS):
        await Recovering(rt).turn()
        clock.tick(seconds=rt.settings.reconcile_seconds.total_seconds() / (LOOKS - 1))
        await rt.lease.beat()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_frequent_leader_changes_do_not_conclude_sooner(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Each leader begins with a search, and these must not add up within seconds."""
    job = await a_lost_start(rt, provider, created=False)
    for _ in range(LOOKS + 2):
        await Recovering(rt).turn()
        clock.tick(seconds=5)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


async def test_searches_before_a_clock_was_set_back_do_not_count(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Their age is not known any more, and nothing waits for those times."""
    job = await a_lost_start(rt, provider, created=False)
    await turns(rt, clock, LOOKS - 1)
    clock.step(days=-1)
    await turns(rt, clock, LOOKS - 1)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN

    await turns(rt, clock, 1)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_searches_within_a_second_count_once(rt: Runtime, provider: FakeProvider) -> None:
    """Provider lists may lag behind, so searches have to be spread over the period."""
    job = await a_lost_start(rt, provider, created=False)
    recovery = Recovering(rt)

    for _ in range(10):
        await recovery.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


@pytest.mark.parametrize("failure", ["incomplete", "away"])
async def test_an_incomplete_search_does_not_count(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
) -> None:
    """A prediction that was not seen may still exist."""
    job = await a_lost_start(rt, provider, created=False)

    async def find(*_: object, **__: object) -> Found:
        if failure == "away":
            raise ProviderUnavailable("no answer")
        return Found(prediction=None, complete=False)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, LOOKS + 3)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN


async def test_wiped_provider_records_fail_the_job(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second prediction is never created on a guess."""
    job = await a_lost_start(rt, provider, created=False)

    async def find(*_: object, **__: object) -> Found:
        return Found(prediction=None, complete=True, wiped=True)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, 1)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "provider_outcome_unknown"


async def candidates_only(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make searches return predictions without their attempts."""

    async def find(job: Job, *_: object, **__: object) -> Found:
        found = [Prediction(id=one) for one in provider.created]
        assert job.prompt
        return Found(prediction=None, complete=True, candidates=tuple(found))

    monkeypatch.setattr(provider, "find", find)


async def test_duplicates_share_their_predictions(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two equal requests: each of the two predictions is right for either of them."""
    duplicates = [await a_lost_start(rt, provider, created=True) for _ in range(2)]
    await candidates_only(provider, monkeypatch)

    await turns(rt, clock, 3)

    adopted = [await jobs.get_any_tenant(rt.db, job.id) for job in duplicates]
    assert {job.stage for job in adopted} == {Stage.WAITING}
    assert {job.prediction_id for job in adopted} == set(provider.created)
    assert provider.cancelled == []


async def test_a_request_with_the_same_prompt_keeps_its_prediction(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates that do not show all parameters may be of either; then neither takes one."""
    lost = await a_lost_start(rt, provider, created=False)
    other = await submit(rt, a_request(parameters={"steps": 50}))
    intended = await intend(rt, other.id)
    assert intended is not None
    provider.created[PredictionId("p-other")] = intended[1]

    async def find(*_: object, **__: object) -> Found:
        candidates = tuple(Prediction(id=name) for name in provider.created)
        return Found(prediction=None, complete=True, candidates=candidates, partial=True)

    monkeypatch.setattr(provider, "find", find)
    await turns(rt, clock, LOOKS)
    waits = await jobs.get_any_tenant(rt.db, lost.id)
    await bind(rt, intended[1], Prediction(id=PredictionId("p-other")))
    await turns(rt, clock, LOOKS + 1)

    theirs = await jobs.get_any_tenant(rt.db, other.id)
    again = await jobs.get_any_tenant(rt.db, lost.id)
    assert waits.stage is Stage.UNKNOWN
    assert theirs.prediction_id == "p-other"
    assert again.status is Status.PENDING


async def test_two_lost_requests_with_the_same_prompt_are_written_off(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell which prediction is whose, and neither is paid for again."""
    lost = [
        await a_lost_start(rt, provider, created=True, parameters={"steps": steps})
        for steps in (4, 50)
    ]

    async def find(*_: object, **__: object) -> Found:
        candidates = tuple(Prediction(id=name) for name in provider.created)
        return Found(prediction=None, complete=True, candidates=candidates, partial=True)

    monkeypatch.setattr(provider, "find", find)
    await turns(rt, clock, 4 * LOOKS)

    ended = [await jobs.get_any_tenant(rt.db, job.id) for job in lost]
    codes = [job.error and job.error.code for job in ended]
    assert codes == ["provider_outcome_unknown", "provider_outcome_unknown"]
    assert len(provider.started) == 2


async def test_an_unlikely_candidate_is_left_to_its_probable_owner(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search over hours, due to clock differences, must not take the prediction of a duplicate.

    Otherwise the duplicate finds nothing, and its job is paid for again.
    """
    sure = await a_lost_start(rt, provider, created=True)
    clock.tick(seconds=1)
    unsure = await a_lost_start(rt, provider, created=True)  # the newer one is searched first
    of_sure, of_unsure = provider.created

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


async def test_the_wait_for_a_duplicate_is_limited(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while it does not matter which of the two gets which prediction."""
    duplicates = [await a_lost_start(rt, provider, created=True) for _ in range(2)]

    async def find(*_: object, **__: object) -> Found:
        candidates = tuple(Prediction(id=name) for name in provider.created)
        return Found(prediction=None, complete=True, candidates=candidates, likely=0)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, 3 * LOOKS)

    found = {(await jobs.get_any_tenant(rt.db, job.id)).prediction_id for job in duplicates}
    assert found == set(provider.created)


async def test_a_search_waits_for_a_duplicate_that_is_starting(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    second_worker: Callable[[], Runtime],
) -> None:
    """The candidate may be the prediction that the other worker is about to bind."""
    lost = await a_lost_start(rt, provider, created=False)
    other = second_worker()
    await other.lease.register()
    duplicate = await submit(rt, a_request())
    intended = await intend(other, duplicate.id)
    assert intended is not None
    provider.created[PredictionId("the twin's")] = intended[1]
    await candidates_only(provider, monkeypatch)

    recovery = Recovering(rt)
    for _ in range(LOOKS + 1):
        await recovery.turn()
        clock.tick(seconds=10)
        for worker in (rt, other):
            await worker.lease.beat()

    assert (await jobs.get_any_tenant(rt.db, lost.id)).stage is Stage.UNKNOWN


async def test_a_candidate_bound_to_another_attempt_is_not_touched(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paid for, and its job waits for it."""
    bound = await submit(rt, a_request())
    await start(rt, bound.id)
    lost = await a_lost_start(rt, provider, created=False)
    await candidates_only(provider, monkeypatch)

    await turns(rt, clock, LOOKS + 1)

    assert provider.cancelled == []
    assert (await jobs.get_any_tenant(rt.db, bound.id)).stage is Stage.WAITING
    assert (await jobs.get_any_tenant(rt.db, lost.id)).status is Status.PENDING


@pytest.mark.parametrize("likely", [None, 0], ids=["of the time of the start", "of another hour"])
async def test_a_prediction_of_an_ended_attempt_is_not_adopted(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    likely: int | None,
) -> None:
    """A search over hours finds the oldest equal prediction, which an earlier job has had."""
    provider.at_once = True
    provider.outcome = Failed("prediction_failed", "no", retryable=False)
    earlier = await submit(rt, a_request())
    await start(rt, earlier.id)
    assert (await jobs.get_any_tenant(rt.db, earlier.id)).status is Status.FAILED
    lost = await a_lost_start(rt, provider, created=False)

    async def find(*_: object, **__: object) -> Found:
        candidates = tuple(Prediction(id=name) for name in provider.created)
        return Found(prediction=None, complete=True, candidates=candidates, likely=likely)

    monkeypatch.setattr(provider, "find", find)

    await turns(rt, clock, LOOKS + 1)

    again = await jobs.get_any_tenant(rt.db, lost.id)
    assert (again.status, again.prediction_id, again.deferrals) == (Status.PENDING, None, 1)


async def test_a_prediction_bound_to_another_attempt_is_not_cancelled(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider returns one id twice: the second attempt has to be reconciled."""
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


async def test_a_lost_prediction_of_an_overdue_job_is_bound(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The deadline passed while the outcome was unknown."""
    job = await a_lost_start(rt, provider, created=True)
    clock.tick(days=2)
    await rt.lease.beat()
    late = replace(rt, settings=rt.settings.model_copy(update={"reconcile_seconds": timedelta(1)}))

    recovery = Recovering(late)
    for _ in range(2):
        await recovery.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).terminal or provider.created
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.prediction_id in provider.created
