"""Charges and budgets follow a job: reserved, spent or released in its own commits."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

import pytest

from backing_services import both_databases
from fakes import BADLY, Clock, FakeProvider, a_request
from fleek.domain.budgets import Period
from fleek.domain.errors import (
    BudgetExceeded,
    NotFound,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import Job, JobId, Status
from fleek.domain.money import Micros
from fleek.domain.prices import Listed, Price, PriceList, Unit
from fleek.engine.access import create_key
from fleek.engine.budgets import change_budget, list_budgets
from fleek.engine.cancel import cancel
from fleek.engine.conclude import conclude
from fleek.engine.reconcile import UNKNOWN, write_off
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import retry, submit
from fleek.providers.base import Failed, Outcome, Prediction, Succeeded
from fleek.store import attempts, events, jobs
from ledgers import charges_of, spend_of

PRICES: Final = PriceList(
    [
        Listed("fake", "by/time", Price(units={Unit.RUN_SECOND: Decimal("0.001")})),
        Listed(
            "placeholder",
            "*",
            Price(
                units={Unit.PREDICTION: Decimal("0.002"), Unit.RUN_SECOND: Decimal("0.001")},
                assumed={Unit.RUN_SECOND: Decimal(1)},
            ),
        ),
    ]
)
ESTIMATE: Final = 3000
DAY: Final = "2026-01-01"
OF_TODAY: Final = ("", "", "day", DAY)


@pytest.fixture
def rt(rt: Runtime) -> Runtime:
    """Return a runtime with prices; an attempt costs an estimated 3,000 micros."""
    return replace(rt, prices=PRICES)


async def _limit(rt: Runtime, micros: int, period: Period = Period.DAY) -> None:
    limit = Micros(micros)
    await change_budget(rt, tenant_id=None, key_id=None, period=period, limit=limit)


async def _conclude(
    rt: Runtime, job_id: JobId, outcome: Outcome | None = None, seconds: float | None = 0.5
) -> Job:
    """End the latest prediction of a job after a run time; None: the provider names none."""
    (*_, attempt) = await attempts.of_job(rt.db, job_id)
    assert attempt.prediction_id is not None
    provider = rt.providers["fake"]
    assert isinstance(provider, FakeProvider)
    ended = Prediction(
        id=attempt.prediction_id,
        outcome=outcome or provider.outcome,
        metrics={} if seconds is None else {"predict_time": seconds},
    )
    await conclude(rt, attempt, ended)
    return await jobs.get_any_tenant(rt.db, job_id)


@both_databases
async def test_a_job_reserves_and_pays(rt: Runtime) -> None:
    """Its estimate with the submission, its actual cost with the verdict."""
    await _limit(rt, 10_000)

    job = await submit(rt, a_request())
    reserved = await spend_of(rt.db)
    await start(rt, job.id)
    running = await spend_of(rt.db)
    ended = await _conclude(rt, job.id)

    assert reserved[OF_TODAY] == running[OF_TODAY] == (ESTIMATE, 0)
    assert (await spend_of(rt.db))[OF_TODAY] == (0, 2500)
    assert (job.estimate, job.cost, ended.cost) == (ESTIMATE, 0, 2500)
    assert await charges_of(rt.db) == [(1, "spent", ESTIMATE, 2500)]
    assert (await attempts.of_job(rt.db, job.id))[0].cost == 2500


async def test_a_job_without_room_is_refused(rt: Runtime) -> None:
    """It leaves nothing; room that others give back can be used."""
    await _limit(rt, 2 * ESTIMATE - 1)
    first = await submit(rt, a_request())

    with pytest.raises(BudgetExceeded, match=r"whole service, 0\.005999 USD per day, has no room"):
        await submit(rt, a_request())

    assert (await spend_of(rt.db))[OF_TODAY] == (ESTIMATE, 0)
    await cancel(rt, first.id, tenant_id="default")
    assert (await spend_of(rt.db))[OF_TODAY] == (0, 0)
    await submit(rt, a_request())
    assert await charges_of(rt.db) == [
        (1, "released", ESTIMATE, None),
        (1, "reserved", ESTIMATE, None),
    ]


async def test_a_request_over_its_max_cost_is_refused(rt: Runtime) -> None:
    """Before anything is stored or paid for; an unknown price may be any price."""
    unknown = replace(rt, prices=PriceList([]))

    with pytest.raises(BudgetExceeded, match=r"0\.003 USD, more than its max_cost of 0\.002999"):
        await submit(rt, a_request(max_cost=ESTIMATE - 1))
    with pytest.raises(BudgetExceeded, match="is not known"):
        await submit(unknown, a_request(max_cost=10**9))
    accepted = await submit(rt, a_request(max_cost=ESTIMATE))

    assert accepted.max_cost == ESTIMATE
    assert await charges_of(rt.db) == [(1, "reserved", ESTIMATE, None)]


@both_databases
async def test_a_further_attempt_over_the_max_cost_is_not_made(rt: Runtime, clock: Clock) -> None:
    """What earlier attempts have cost counts, whatever the price list expected."""
    job = await submit(rt, a_request(max_cost=2 * ESTIMATE - 600))
    await start(rt, job.id)
    await _conclude(rt, job.id, BADLY, seconds=0.5)
    clock.tick(seconds=30)
    await rt.lease.beat()

    await start(rt, job.id)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert (ended.status, ended.error and ended.error.code) == (Status.FAILED, "max_cost_exceeded")
    assert ended.cost == 2500
    assert await charges_of(rt.db) == [(1, "spent", ESTIMATE, 2500)]


async def test_another_attempt_within_the_max_cost_is_made(rt: Runtime, clock: Clock) -> None:
    """It bounds the sum, not the number of attempts; a retry of the job has the same bound."""
    job = await submit(rt, a_request(max_cost=2 * ESTIMATE, max_attempts=2))
    await start(rt, job.id)
    await _conclude(rt, job.id, BADLY, seconds=0.5)
    clock.tick(seconds=30)
    await rt.lease.beat()
    await start(rt, job.id)
    await _conclude(rt, job.id, BADLY, seconds=0.5)

    again, _ = await retry(rt, job.id, tenant_id="default")

    assert [charge[1] for charge in await charges_of(rt.db)] == ["spent", "spent", "reserved"]
    assert again.max_cost == job.max_cost


@both_databases
async def test_200_parallel_submits_at_the_last_cent_accept_what_fits(rt: Runtime) -> None:
    """In one commit or many, in one process or several."""
    await _limit(rt, 17 * ESTIMATE + 2999, Period.TOTAL)

    results = await asyncio.gather(
        *(submit(rt, a_request()) for _ in range(200)), return_exceptions=True
    )

    accepted = [result for result in results if isinstance(result, Job)]
    refused = [result for result in results if isinstance(result, BudgetExceeded)]
    assert (len(accepted), len(refused)) == (17, 183)
    assert (await spend_of(rt.db))["", "", "total", ""] == (17 * ESTIMATE, 0)


async def test_what_was_not_paid_for_is_released(rt: Runtime, provider: FakeProvider) -> None:
    """The next attempt reserves again, in the commit of its intent."""
    await _limit(rt, ESTIMATE)
    provider.starts = [ProviderUnavailable("later")]
    job = await submit(rt, a_request())

    await start(rt, job.id)
    deferred = await spend_of(rt.db)
    assert isinstance(rt.now, Clock)
    rt.now.step(minutes=5)
    await start(rt, job.id)

    assert deferred[OF_TODAY] == (0, 0)
    assert (await spend_of(rt.db))[OF_TODAY] == (ESTIMATE, 0)
    assert await charges_of(rt.db) == [
        (1, "released", ESTIMATE, None),
        (2, "reserved", ESTIMATE, None),
    ]


@both_databases
async def test_a_further_attempt_waits_for_money(rt: Runtime, provider: FakeProvider) -> None:
    """It says so, and goes on when the budget is raised."""
    await _limit(rt, ESTIMATE + 100)
    provider.outcome = BADLY
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await _conclude(rt, job.id, BADLY, seconds=0.1)
    assert isinstance(rt.now, Clock)

    rt.now.step(minutes=5)
    await start(rt, job.id)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    rt.now.step(minutes=1)
    await _limit(rt, 2 * ESTIMATE)
    await start(rt, job.id)
    going_on = await jobs.get_any_tenant(rt.db, job.id)

    assert (waiting.status, waiting.attempt, waiting.cost) == (Status.PENDING, 1, 2100)
    assert waiting.error is not None
    assert waiting.error.code == "budget_exceeded"
    assert waiting.run_at == rt.now.time
    assert len(provider.started) == 2
    assert (going_on.status, going_on.attempt) == (Status.PROCESSING, 2)
    assert (await spend_of(rt.db))[OF_TODAY] == (ESTIMATE, 2100)
    history = [line.type for line in await events.of_job(rt.db, job.id)]
    assert history.count("out_of_budget") == 1


async def test_a_refused_start_costs_nothing(rt: Runtime, provider: FakeProvider) -> None:
    """The job fails, and its money is free again."""
    await _limit(rt, ESTIMATE)
    provider.starts = [ProviderRejected("no such model")]
    job = await submit(rt, a_request())

    await start(rt, job.id)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert (ended.status, ended.cost) == (Status.FAILED, 0)
    assert (await spend_of(rt.db))[OF_TODAY] == (0, 0)


async def test_what_stays_unknown_counts_as_estimated(rt: Runtime, provider: FakeProvider) -> None:
    """A lost outcome, and an answer that does not say enough."""
    await _limit(rt, 10 * ESTIMATE)
    provider.starts = [OutcomeUnknown("no answer")]
    lost, silent = await submit(rt, a_request()), await submit(rt, a_request())
    await start(rt, lost.id)
    await start(rt, silent.id)
    (attempt,) = await attempts.of_job(rt.db, lost.id)

    held = await spend_of(rt.db)
    await write_off(rt, attempt, UNKNOWN)
    await _conclude(rt, silent.id, seconds=None)

    assert held[OF_TODAY] == (2 * ESTIMATE, 0)
    assert (await spend_of(rt.db))[OF_TODAY] == (0, 2 * ESTIMATE)
    assert (await jobs.get_any_tenant(rt.db, lost.id)).cost == ESTIMATE


async def test_a_late_success_of_a_cancelled_job_is_paid_for(rt: Runtime) -> None:
    """It was paid for, whatever the caller wants by then."""
    await _limit(rt, ESTIMATE)
    job = await submit(rt, a_request())
    await start(rt, job.id)

    await cancel(rt, job.id, tenant_id="default")
    held = await spend_of(rt.db)
    ended = await _conclude(rt, job.id, seconds=4.0)

    assert held[OF_TODAY] == (ESTIMATE, 0)
    assert (ended.status, ended.cost) == (Status.CANCELLED, 6000)
    assert (await spend_of(rt.db))[OF_TODAY] == (0, 6000)  # beyond the limit: it is the truth


async def test_an_unknown_price_is_accepted_and_shown_as_unknown(rt: Runtime) -> None:
    """It counts in no budget; what is not known is not 0."""
    await _limit(rt, 0)
    job = await submit(rt, replace(a_request(), provider="fake"))
    await start(rt, job.id)

    ended = await _conclude(rt, job.id)

    assert (job.estimate, ended.cost) == (None, None)
    assert await charges_of(rt.db) == [(1, "spent", None, None)]
    assert (await spend_of(rt.db)) == {}


@both_databases
async def test_budgets_of_all_scopes_count(rt: Runtime) -> None:
    """Of a key, its tenant and the whole service; each period by itself."""
    key, _ = await create_key(rt, name="one", tenant_id="acme", scopes=[])
    limits = {
        (None, key.id, Period.DAY): ESTIMATE,
        ("acme", None, Period.MONTH): 2 * ESTIMATE,
        (None, None, Period.TOTAL): 3 * ESTIMATE,
    }
    for (tenant_id, key_id, period), limit in limits.items():
        await change_budget(
            rt, tenant_id=tenant_id, key_id=key_id, period=period, limit=Micros(limit)
        )
    with_key = replace(a_request(), tenant_id="acme", key_id=key.id)
    without = replace(a_request(), tenant_id="acme", key_id=None)

    await submit(rt, with_key)
    with pytest.raises(BudgetExceeded, match=f"the key {key.id}"):
        await submit(rt, with_key)
    await submit(rt, without)
    with pytest.raises(BudgetExceeded, match="the tenant acme"):
        await submit(rt, without)
    await submit(rt, a_request())
    with pytest.raises(BudgetExceeded, match="the whole service"):
        await submit(rt, a_request())

    assert await spend_of(rt.db) == {
        ("acme", key.id, "day", DAY): (ESTIMATE, 0),
        ("acme", "", "month", "2026-01"): (2 * ESTIMATE, 0),
        ("", "", "total", ""): (3 * ESTIMATE, 0),
    }
    assert [spent.left for spent in await list_budgets(rt, tenant_id="acme")] == [0, 0]


async def test_a_new_day_has_new_money(rt: Runtime) -> None:
    """A charge belongs to the day of its reservation, also if it ends later."""
    await _limit(rt, ESTIMATE)
    job = await submit(rt, a_request())
    await start(rt, job.id)
    assert isinstance(rt.now, Clock)

    rt.now.step(days=1)
    await submit(rt, a_request())
    await _conclude(rt, job.id)

    assert await spend_of(rt.db) == {
        OF_TODAY: (0, 2500),
        ("", "", "day", "2026-01-02"): (ESTIMATE, 0),
    }


@both_databases
async def test_a_new_budget_counts_what_was_spent_before(rt: Runtime) -> None:
    """A changed one goes on counting; a removed one counts nothing."""
    paid = await submit(rt, a_request())
    await start(rt, paid.id)
    await _conclude(rt, paid.id)
    await submit(rt, a_request())

    await _limit(rt, ESTIMATE + 2500)
    with pytest.raises(BudgetExceeded):
        await submit(rt, a_request())
    await _limit(rt, 2 * ESTIMATE + 2500)
    await submit(rt, a_request())
    counted = await spend_of(rt.db)
    await change_budget(rt, tenant_id=None, key_id=None, period=Period.DAY, limit=None)
    await submit(rt, a_request())

    assert counted[OF_TODAY] == (2 * ESTIMATE, 2500)
    assert await spend_of(rt.db) == {}
    with pytest.raises(NotFound):
        await change_budget(rt, tenant_id=None, key_id=None, period=Period.DAY, limit=None)
    with pytest.raises(NotFound):
        await change_budget(
            rt, tenant_id="nobody", key_id=None, period=Period.DAY, limit=Micros(1)
        )


@both_databases
async def test_budgets_set_during_submits_miss_no_charge(rt: Runtime) -> None:
    """Whatever commits first."""

    async def set_later() -> None:
        await asyncio.sleep(0)
        await _limit(rt, 1000 * ESTIMATE)

    await asyncio.gather(
        *(submit(rt, a_request()) for _ in range(30)),
        set_later(),
        *(submit(rt, a_request()) for _ in range(30)),
    )

    assert (await spend_of(rt.db))[OF_TODAY] == (60 * ESTIMATE, 0)


async def test_a_retry_and_a_free_job(rt: Runtime) -> None:
    """A retry is paid like any job; one that costs nothing needs no room."""
    job = await submit(rt, a_request())
    await cancel(rt, job.id, tenant_id="default")
    await _limit(rt, ESTIMATE - 1)
    free = replace(rt, prices=PriceList([Listed("placeholder", "*", Price(units={}))]))

    with pytest.raises(BudgetExceeded):
        await retry(rt, job.id, tenant_id="default")
    again, created = await retry(free, job.id, tenant_id="default")

    assert created
    assert (again.estimate, again.cost) == (0, 0)


async def test_a_deadline_frees_what_a_waiting_job_holds(rt: Runtime) -> None:
    """A scheduled job holds its money until it ends."""
    await _limit(rt, ESTIMATE)
    later = rt.now() + timedelta(hours=1)
    job = await submit(rt, a_request(run_at=later))
    held = await spend_of(rt.db)

    await cancel(rt, job.id, tenant_id="default")

    assert held[OF_TODAY] == (ESTIMATE, 0)
    assert (await spend_of(rt.db))[OF_TODAY] == (0, 0)


async def test_the_figure_of_the_provider_wins(rt: Runtime) -> None:
    """Over the price list, where its answer has one."""

    class Honest(FakeProvider):
        """A provider that says what a prediction has cost."""

        def cost(self, prediction: Prediction) -> Micros | None:
            """Return its figure."""
            return prediction.metrics.get("price")

    honest = Honest()
    told = replace(rt, providers={"placeholder": honest, "fake": honest})
    job, silent = await submit(told, a_request()), await submit(told, a_request())
    for one, metrics in ((job, {"price": 77}), (silent, {"predict_time": 1})):
        await start(told, one.id)
        (attempt,) = await attempts.of_job(rt.db, one.id)
        assert attempt.prediction_id is not None
        prediction = Prediction(id=attempt.prediction_id, outcome=honest.outcome, metrics=metrics)
        await conclude(told, attempt, prediction)

    assert await charges_of(rt.db) == [
        (1, "spent", ESTIMATE, 77),
        (1, "spent", ESTIMATE, 3000),
    ]
    assert isinstance(honest.outcome, Succeeded | Failed)
