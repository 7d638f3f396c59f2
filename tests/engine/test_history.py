"""Jobs of a restored database: what was created after the backup is adopted, not created again."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import pytest

from fakes import BADLY, WELL, Clock, FakeProvider, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.job import Job, PredictionId, Stage, Status
from fleek.engine.reconcile import LOOKS
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.providers.base import History, Prediction
from fleek.store import attempts, jobs
from fleek.store.restores import mark_restored
from recovering import Recovering

LOST: Final = PredictionId("p-lost")
OTHER: Final = PredictionId("p-other")
MODELS: Final = ("one:a/first", "two:b/second")
NOTHING: Final = History(complete=True)


@dataclass
class HistoricProvider(FakeProvider):
    """A provider that tells what was created after the backup."""

    reconcile_by: Literal["repeat", "find", "none"] = "find"
    told: History = NOTHING
    asked: list[datetime] = field(default_factory=list)

    async def history(
        self, job: Job, attempt: Attempt, *, since: datetime, now: datetime
    ) -> History:
        """Return what the test has set."""
        assert job.id == attempt.job_id
        assert since <= now
        self.asked.append(since)
        return self.told


@pytest.fixture
def provider() -> HistoricProvider:
    """Return the provider of these tests."""
    return HistoricProvider()


async def a_restored_job(rt: Runtime, **fields: Any) -> Job:
    """Submit a job, restore the database, and start the job."""
    job = await submit(rt, a_request(**fields))
    await mark_restored(rt.db, now=rt.now())
    await start(rt, job.id)
    return await job_of(rt, job)


async def job_of(rt: Runtime, job: Job) -> Job:
    """Read a job again."""
    return await jobs.get_any_tenant(rt.db, job.id)


async def looked(rt: Runtime, clock: Clock, number: int = 1) -> None:
    """Let the leader look, at intervals that count."""
    recovery = Recovering(rt)
    for _ in range(number):
        await recovery.turn()
        clock.tick(seconds=rt.settings.reconcile_seconds.total_seconds() / (LOOKS - 1))
        await rt.lease.beat()


async def test_a_restored_job_is_started_when_nothing_was_found(
    rt: Runtime, provider: HistoricProvider, clock: Clock
) -> None:
    """Only after as many looks as for any lost prediction, and without another search afterwards."""
    job = await a_restored_job(rt)
    assert (job.stage, provider.started) == (Stage.UNKNOWN, [])

    await looked(rt, clock, LOOKS - 1)
    assert (await job_of(rt, job)).stage is Stage.UNKNOWN
    await looked(rt, clock)
    clock.tick(minutes=2)
    await start(rt, job.id)

    again = await job_of(rt, job)
    assert (again.stage, again.attempt, again.search_since) == (Stage.WAITING, 1, None)
    assert len(provider.started) == 1
    assert len(provider.asked) == LOOKS


@pytest.mark.parametrize("kind", ["own", "alike"])
async def test_a_lost_prediction_of_a_restored_job_is_adopted(
    rt: Runtime, provider: HistoricProvider, clock: Clock, kind: Any
) -> None:
    """It is paid for. The one with a result is preferred."""
    failed, well = Prediction(id=OTHER, outcome=BADLY), Prediction(id=LOST, outcome=WELL)
    found: dict[str, Any] = {kind: (failed, well)}
    provider.told = replace(NOTHING, **found)
    job = await a_restored_job(rt)

    await looked(rt, clock)

    adopted = await job_of(rt, job)
    assert (adopted.stage, adopted.prediction_id) == (Stage.COLLECTING, LOST)
    assert provider.started == []


async def test_each_of_two_equal_jobs_gets_its_own_prediction(
    rt: Runtime, provider: HistoricProvider, clock: Clock
) -> None:
    """One prediction is never the result of two jobs."""
    lost = tuple(Prediction(id=each, outcome=WELL) for each in (LOST, OTHER))
    provider.told = History(complete=True, alike=lost)
    first, second = await submit(rt, a_request()), await submit(rt, a_request())
    await mark_restored(rt.db, now=rt.now())
    for job in (first, second):
        await start(rt, job.id)

    await looked(rt, clock, LOOKS)

    adopted = {(await job_of(rt, job)).prediction_id for job in (first, second)}
    assert adopted == {LOST, OTHER}
    assert provider.started == []


async def test_a_failed_lost_prediction_leads_to_another_search(
    rt: Runtime, provider: HistoricProvider, clock: Clock
) -> None:
    """The lost service may have started the job again after the failure."""
    provider.told = History(complete=True, own=(Prediction(id=OTHER, outcome=BADLY),))
    job = await a_restored_job(rt)
    await looked(rt, clock)
    assert (await job_of(rt, job)).status is Status.PENDING

    provider.told = History(
        complete=True,
        own=(Prediction(id=OTHER, outcome=BADLY), Prediction(id=LOST, outcome=WELL)),
    )
    clock.tick(minutes=2)
    await start(rt, job.id)
    await looked(rt, clock)

    assert (await job_of(rt, job)).prediction_id == LOST
    assert provider.started == []


@pytest.mark.parametrize(
    "told", [History(complete=True, unreadable=(LOST,)), History(complete=True, blind=True)]
)
async def test_a_restored_job_is_not_started_where_nothing_can_be_known(
    rt: Runtime, provider: HistoricProvider, clock: Clock, told: History
) -> None:
    """Its owner decides, who knows what another prediction costs."""
    provider.told = told
    job = await a_restored_job(rt)

    await looked(rt, clock)

    failed = await job_of(rt, job)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "provider_outcome_unknown")
    assert provider.started == []
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.LOST


async def test_an_incomplete_search_does_not_count(
    rt: Runtime, provider: HistoricProvider, clock: Clock
) -> None:
    """What was not seen may be the prediction of this job."""
    provider.told = History(complete=False)
    job = await a_restored_job(rt)

    await looked(rt, clock, 2 * LOOKS)

    assert (await job_of(rt, job)).stage is Stage.UNKNOWN


async def test_a_provider_without_a_history_is_paid_for_no_restored_job(rt: Runtime) -> None:
    """It cannot be asked, so the job ends at once."""
    plain: Any = FakeProvider(reconcile_by="none")
    rt = replace(rt, providers={"placeholder": plain})

    job = await a_restored_job(rt)

    assert job.error is not None
    assert (job.status, job.error.code) == (Status.FAILED, "provider_outcome_unknown")
    assert plain.started == []


async def test_a_provider_that_repeats_starts_is_not_searched(rt: Runtime) -> None:
    """Its predictions run on the operator's own machine."""
    own: Any = HistoricProvider(reconcile_by="repeat")
    rt = replace(rt, providers={"placeholder": own})

    job = await a_restored_job(rt)

    assert (job.stage, own.asked) == (Stage.WAITING, [])


async def test_all_routes_of_a_restored_job_are_searched(rt: Runtime, clock: Clock) -> None:
    """It may have gone on at its other provider, where it was paid for."""
    one, two = HistoricProvider(), HistoricProvider()
    providers: Any = {"one": one, "two": two}
    settings = rt.settings.model_copy(update={"providers": ("one", "two")})
    rt = replace(rt, settings=settings, providers=providers)
    two.told = History(complete=True, own=(Prediction(id=LOST, outcome=WELL),))
    job = await a_restored_job(rt, models=MODELS)

    await looked(rt, clock)

    failed = await job_of(rt, job)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "provider_outcome_unknown")
    assert one.started == two.started == []


async def test_only_unfinished_jobs_are_marked(rt: Runtime, clock: Clock) -> None:
    """With the time of the backup, never later than now, and once for all restores."""
    job = await submit(rt, a_request())
    clock.tick(hours=1)

    marked = await mark_restored(rt.db, now=rt.now(), taken_at=rt.now() + timedelta(hours=2))
    first = (await job_of(rt, job)).search_since
    clock.tick(hours=1)
    await mark_restored(rt.db, now=rt.now())

    assert marked == 1
    assert first == job.created_at
    assert (await job_of(rt, job)).search_since == first


async def test_a_lost_prediction_is_adopted_at_its_account(rt: Runtime, clock: Clock) -> None:
    """Attempts are made with one account after the other, until it is the right one."""
    first, second = HistoricProvider(), HistoricProvider()
    accounts: Any = {"aaaa": first, "bbbb": second}
    first.accounts = second.accounts = accounts  # type: ignore[attr-defined] # an optional capability
    second.told = History(complete=True, own=(Prediction(id=LOST, outcome=WELL),))
    providers: Any = {"placeholder": first}
    rt = replace(rt, providers=providers)
    job = await a_restored_job(rt)

    for _ in range(2):
        await looked(rt, clock)
        clock.tick(minutes=2)
        await start(rt, job.id)
    await looked(rt, clock)

    made = await attempts.of_job(rt.db, job.id)
    assert (await job_of(rt, job)).prediction_id == LOST
    assert made[-1].account == "bbbb"
    assert first.started == second.started == []
