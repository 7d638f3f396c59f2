"""Failover: a job leaves a route when, and only when, it is certain not to be paid for there any more."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import pytest

from backing_services import both_databases
from fakes import BADLY, FOR_GOOD, WELL, Clock, FakeProvider, TakingProvider, a_request
from fleek.domain.attempt import Verdict
from fleek.domain.catalogue import Catalogue, CatalogueModel, CatalogueRoute
from fleek.domain.errors import (
    FleekError,
    InputUnusable,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import Job, Kind, ModelName, Stage, Status
from fleek.domain.prices import Listed, Price, PriceList, Unit
from fleek.domain.routing import RouteOrder
from fleek.engine.cancel import cancel_prediction
from fleek.engine.collect import collect
from fleek.engine.failover import Failover
from fleek.engine.provider_limits import PauseCache
from fleek.engine.queue import pause
from fleek.engine.recover import ProviderRecovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.throttle import OPENS_AFTER, refresh_pauses
from fleek.engine.watch import Watch
from fleek.providers.base import PAYMENT_REQUIRED, RATE_LIMITED, UNAUTHORIZED, UNREACHABLE, Failed
from fleek.store import attempts, events, jobs

MODELS: Final = ("one:a/first", "two:b/second")
ROUTES: Final = [("one", "a/first"), ("two", "b/second")]
REFUSED: Final = ProviderRejected("no such thing")
MINUTE: Final = timedelta(minutes=1)


@pytest.fixture
def one() -> FakeProvider:
    """Return the provider of the first route."""
    return FakeProvider()


@pytest.fixture
def two() -> FakeProvider:
    """Return the provider of the second route."""
    return FakeProvider()


@pytest.fixture
def rt(rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock) -> Runtime:
    """Return a runtime with two providers."""
    settings = rt.settings.model_copy(update={"providers": ("one", "two")})
    providers: Any = {"one": one, "two": two}
    return replace(rt, settings=settings, providers=providers, pauses=PauseCache(clock.steady))


async def job_of(rt: Runtime, job: Job) -> Job:
    """Read a job again."""
    return await jobs.get_any_tenant(rt.db, job.id)


async def started(rt: Runtime, **fields: Any) -> Job:
    """Submit a job with two routes, and start it at the first one."""
    job = await submit(rt, a_request(**{"models": MODELS, **fields}))
    await start(rt, job.id)
    return await job_of(rt, job)


async def watched(rt: Runtime, clock: Clock, **parts: float) -> None:
    """Let time pass, and look at all predictions."""
    clock.tick(**(parts or {"seconds": 1}))
    await Watch(rt, clock=clock.steady).turn()


def place(job: Job) -> tuple[str, str]:
    """Return where a job runs."""
    return (job.provider, job.model)


async def test_a_route_over_the_max_cost_is_left(rt: Runtime, one: FakeProvider) -> None:
    """A cheaper one is used, and the dear one is never asked."""
    prices = [
        Listed(provider, "*", Price(units={Unit.PREDICTION: Decimal(usd)}))
        for provider, usd in (("one", "0.5"), ("two", "0.1"))
    ]
    rt = replace(rt, prices=PriceList(prices))
    job = await started(rt, max_cost=200_000)

    await start(rt, job.id)

    assert one.started == []
    job = await job_of(rt, job)
    assert (place(job), job.stage) == (ROUTES[1], Stage.WAITING)
    assert job.routing is not None
    assert [tried.code for tried in job.routing.tried] == ["max_cost_exceeded"]


@both_databases
async def test_a_refused_job_goes_on_at_its_next_route(
    rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock
) -> None:
    """Nothing was paid for; the history has both, and the refused one is never asked again."""
    one.starts = [REFUSED]
    job = await started(rt)
    moved = place(job), job.status, job.attempt

    await start(rt, job.id)
    await watched(rt, clock)
    await collect(rt, job.id)

    job = await job_of(rt, job)
    assert moved == (ROUTES[1], Status.PENDING, 0)
    assert (place(job), job.status) == (ROUTES[1], Status.COMPLETED)
    assert (len(one.started), len(two.created)) == (1, 1)
    assert job.routing is not None
    assert [(tried.route, tried.code, tried.closed) for tried in job.routing.tried] == [
        (0, "provider_rejected", True)
    ]
    tried = [
        (attempt.provider, attempt.verdict) for attempt in await attempts.of_job(rt.db, job.id)
    ]
    assert tried == [("one", Verdict.NOT_CREATED), ("two", Verdict.SUCCEEDED)]
    (line,) = [line for line in await events.of_job(rt.db, job.id) if line.type == "rerouted"]
    assert line.data["code"] == "provider_rejected"
    assert (line.data["provider"], line.data["model"]) == ROUTES[1]


async def test_a_job_that_all_refuse_fails(
    rt: Runtime, one: FakeProvider, two: FakeProvider
) -> None:
    """With the last reason."""
    one.starts, two.starts = [REFUSED], [ProviderRejected("nor this", code="other")]
    job = await started(rt)

    await start(rt, job.id)

    job = await job_of(rt, job)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "other"


@pytest.mark.parametrize(
    ("error", "leaves"),
    [
        (ProviderUnavailable("no credit", code=PAYMENT_REQUIRED), True),
        (ProviderUnavailable("no such token", code=UNAUTHORIZED), True),
        (ProviderUnavailable("slow down", code=RATE_LIMITED, retry_after=MINUTE), True),
        (ProviderUnavailable("a bit", code=RATE_LIMITED, retry_after=MINUTE / 6), False),
        (ProviderUnavailable("away", code=UNREACHABLE), False),
        (ProviderRejected("shame", code="content_flagged"), False),
        (OutcomeUnknown("no answer"), False),
    ],
    ids=lambda value: str(value) if isinstance(value, FleekError) else "",
)
async def test_what_makes_a_job_leave_at_once(
    rt: Runtime, one: FakeProvider, *, error: FleekError, leaves: bool
) -> None:
    """An account that takes no jobs, and one that is at its limit for longer than a job waits."""
    one.starts = [error]

    job = await started(rt)

    assert place(job) == ROUTES[leaves]
    assert len(one.started) == 1


async def test_an_unknown_outcome_is_reconciled_first(
    rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock
) -> None:
    """However the account fares meanwhile: the prediction may be there, and it is."""
    one.reconcile_by = "find"
    one.starts = [OutcomeUnknown("no answer")]
    job = await started(rt)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    one.created[f"p-{attempt.id}"] = attempt  # type: ignore[index]  # it was created after all
    one.starts = [ProviderUnavailable("no credit", code=PAYMENT_REQUIRED)]
    await started(rt)  # pauses the account
    await Failover(rt).turn()
    unknown = await job_of(rt, job)

    await ProviderRecovery(rt, "one", clock=clock.steady).reconcile_turn()

    job = await job_of(rt, job)
    assert (unknown.stage, place(unknown)) == (Stage.UNKNOWN, ROUTES[0])
    assert (job.stage, place(job)) == (Stage.WAITING, ROUTES[0])
    assert len(two.created) == 0


async def test_an_outcome_that_stays_unknown_is_not_paid_for_again(
    rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock
) -> None:
    """It may have been paid for, so the job ends."""
    one.reconcile_by = "none"
    one.starts = [OutcomeUnknown("no answer")]
    job = await started(rt)

    await ProviderRecovery(rt, "one", clock=clock.steady).reconcile_turn()

    job = await job_of(rt, job)
    assert (job.status, place(job)) == (Status.FAILED, ROUTES[0])
    assert job.error is not None
    assert job.error.code == "provider_outcome_unknown"
    assert two.started == []


@pytest.mark.parametrize(
    ("outcome", "closed"),
    [(BADLY, False), (FOR_GOOD, True), (Failed("empty_output", "nothing", retryable=False), True)],
    ids=["passing", "for good", "empty"],
)
async def test_a_failed_prediction_is_followed_by_one_elsewhere(
    rt: Runtime, one: FakeProvider, clock: Clock, *, outcome: Failed, closed: bool
) -> None:
    """It has ended, so there is never more than one."""
    one.outcome = outcome
    job = await started(rt)

    await watched(rt, clock)

    job = await job_of(rt, job)
    assert (place(job), job.status) == (ROUTES[1], Status.PENDING)
    assert (job.attempt, job.retries, job.run_at) == (1, 1, clock())
    assert job.routing is not None
    assert job.routing.tried[0].closed is closed


@pytest.mark.parametrize(
    ("outcome", "fields"),
    [
        (Failed("content_flagged", "shame", retryable=False), {}),
        (Failed("prediction_gone", "it may have succeeded", retryable=False), {}),
        (BADLY, {"max_attempts": 1}),
    ],
    ids=["shared", "gone", "no attempt left"],
)
async def test_a_failure_that_others_may_share_ends_the_job(
    rt: Runtime, one: FakeProvider, clock: Clock, outcome: Failed, fields: dict[str, Any]
) -> None:
    """So does the last attempt."""
    one.outcome = outcome
    job = await started(rt, **fields)

    await watched(rt, clock)

    job = await job_of(rt, job)
    assert (place(job), job.status) == (ROUTES[0], Status.FAILED)


async def test_a_job_returns_to_a_route_after_a_pause(
    rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock
) -> None:
    """Both had bad luck, so they are tried in turn, like one alone would be."""
    one.outcome = two.outcome = BADLY
    job = await started(rt)
    places = []
    for _ in range(3):
        await watched(rt, clock)
        job = await job_of(rt, job)
        places.append(job.provider)
        clock.tick(minutes=2)
        await rt.lease.beat()
        await start(rt, job.id)

    await watched(rt, clock)

    job = await job_of(rt, job)
    assert places == ["two", "one", "two"]
    assert (job.status, job.attempt) == (Status.FAILED, 4)
    assert (len(one.created), len(two.created)) == (2, 2)


async def test_a_hung_prediction_is_left_when_it_has_ended(
    rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock
) -> None:
    """A cancel that was sent proves nothing."""
    one.outcome = None
    job = await started(rt)
    watch = Watch(rt, clock=clock.steady)
    await watch.turn()
    clock.tick(seconds=rt.settings.attempt_timeout.total_seconds() + 60)
    await watch.turn()
    await rt.cancels.tasks.finish(seconds=5)
    await Failover(rt).turn()
    hung = await job_of(rt, job)
    one.outcome = Failed("prediction_cancelled", "stopped", retryable=False)

    clock.tick(seconds=60)
    await watch.turn()

    job = await job_of(rt, job)
    assert one.cancelled != []
    assert (hung.stage, place(hung)) == (Stage.WAITING, ROUTES[0])
    assert (job.status, place(job)) == (Status.PENDING, ROUTES[1])
    assert job.error is not None
    assert job.error.code == "attempt_timeout"
    assert two.started == []


async def test_a_cancelled_prediction_that_has_succeeded_is_the_result(
    rt: Runtime, one: FakeProvider, two: FakeProvider, clock: Clock
) -> None:
    """It is paid for."""
    one.outcome = None
    job = await started(rt)
    watch = Watch(rt, clock=clock.steady)
    await watch.turn()
    clock.tick(seconds=rt.settings.attempt_timeout.total_seconds() + 60)
    await watch.turn()
    await rt.cancels.tasks.finish(seconds=5)
    one.outcome, one.cancel_confirms = WELL, True
    (attempt,) = await attempts.of_job(rt.db, job.id)

    await cancel_prediction(rt, attempt)
    await collect(rt, job.id)

    job = await job_of(rt, job)
    assert attempt.cancel_owed
    assert (job.status, place(job)) == (Status.COMPLETED, ROUTES[0])
    assert two.started == []


async def open_circuit(rt: Runtime, one: FakeProvider, clock: Clock) -> None:
    """Let starts of the first route fail until its circuit opens."""
    for _ in range(OPENS_AFTER):
        one.starts = [ProviderUnavailable("away", code=UNREACHABLE)]
        job = await submit(rt, a_request(model=ModelName("a/first"), provider="one"))
        clock.tick(seconds=1)
        await start(rt, job.id)


@both_databases
async def test_a_job_does_not_wait_for_an_open_circuit(
    rt: Runtime, one: FakeProvider, clock: Clock
) -> None:
    """Others that have no other route do."""
    job = await submit(rt, a_request(models=MODELS))
    alone = await submit(rt, a_request(models=MODELS[:1]))
    await open_circuit(rt, one, clock)

    await Failover(rt).turn()

    job, alone = await job_of(rt, job), await job_of(rt, alone)
    assert (place(job), job.run_at, job.attempt) == (ROUTES[1], clock(), 0)
    assert job.error is not None
    assert job.error.code == UNREACHABLE
    assert place(alone) == ROUTES[0]


async def test_a_job_does_not_wait_long_for_a_provider_at_its_limit(
    rt: Runtime, clock: Clock
) -> None:
    """FAILOVER_AFTER_SECONDS decides; there are no tokens for it, or others use all places."""
    job = await submit(rt, a_request(models=MODELS))
    failover = Failover(rt)
    rt.pauses.exhaust("one")
    await failover.turn()
    early = await job_of(rt, job)
    clock.tick(seconds=31)
    await failover.turn()
    forgotten = await job_of(rt, job)
    rt.pauses.exhaust("one")

    await failover.turn()

    assert [place(early), place(forgotten)] == ROUTES[:1] * 2
    assert place(await job_of(rt, job)) == ROUTES[1]


@pytest.mark.parametrize("closed", ["paused", "held", "exhausted"])
async def test_a_job_stays_if_no_other_route_is_open(
    rt: Runtime, one: FakeProvider, two: FakeProvider, closed: str
) -> None:
    """It would only wait elsewhere."""
    unpaid = ProviderUnavailable("no credit", code=PAYMENT_REQUIRED)
    if closed == "paused":
        two.starts = [unpaid]
        await start(rt, (await submit(rt, a_request(model=MODELS[1][4:], provider="two"))).id)
    elif closed == "held":
        await pause(rt, provider="two", model=None)
        await refresh_pauses(rt)
    else:
        rt.pauses.exhaust("two")
    one.starts = [unpaid]

    job = await started(rt)
    await Failover(rt).turn()

    job = await job_of(rt, job)
    assert (place(job), job.status) == (ROUTES[0], Status.PENDING)


async def test_a_job_that_an_operator_has_paused_waits(rt: Runtime) -> None:
    """A pause is not an outage."""
    job = await submit(rt, a_request(models=MODELS))
    await pause(rt, provider="one", model=None)
    await refresh_pauses(rt)

    await Failover(rt).turn()

    assert place(await job_of(rt, job)) == ROUTES[0]


async def test_jobs_of_a_removed_provider_go_on_elsewhere(rt: Runtime, two: FakeProvider) -> None:
    """They would wait for ever."""
    job = await submit(rt, a_request(models=MODELS))
    later: Any = replace(rt, providers={"two": two})

    await Failover(later).turn()

    job = await job_of(rt, job)
    assert place(job) == ROUTES[1]
    assert job.error is not None
    assert job.error.code == "provider_not_configured"


async def test_all_waiting_jobs_go_on_elsewhere(
    rt: Runtime, one: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, over any number that cannot."""
    monkeypatch.setattr("fleek.engine.failover.PAGE", 3)
    stuck = [await submit(rt, a_request(models=MODELS[:1])) for _ in range(7)]
    free = [await submit(rt, a_request(models=MODELS)) for _ in range(4)]
    one.starts = [ProviderUnavailable("no credit", code=PAYMENT_REQUIRED)]
    await start(rt, stuck[0].id)
    failover = Failover(rt)

    for _ in range(5):
        await failover.turn()

    assert {place(await job_of(rt, job)) for job in free} == {ROUTES[1]}
    assert {place(await job_of(rt, job)) for job in stuck} == {ROUTES[0]}


async def test_a_file_that_a_provider_does_not_take_is_offered_to_the_next(
    rt: Runtime,
) -> None:
    """The inputs are the same, whatever each calls them."""

    class Refusing(TakingProvider):
        async def upload(self, file: Any) -> str:  # noqa: ARG002 - the port
            raise InputUnusable("no webp", code="input_unsupported")

    providers: Any = {"one": Refusing(), "two": TakingProvider()}
    both = replace(rt, providers=providers)
    picture = "data:image/png;base64,iVBORw0KGgo="
    job = await submit(both, a_request(models=MODELS, parameters={"image": picture}))
    await start(both, job.id)
    moved = await job_of(rt, job)

    await start(both, job.id)

    assert (place(moved), moved.status) == (ROUTES[1], Status.PENDING)
    assert (await job_of(rt, job)).stage is Stage.WAITING
    assert len(providers["two"].created) == 1


async def test_inputs_are_handed_over_again_after_a_change_of_routes(rt: Runtime) -> None:
    """What one provider was given means nothing to the next."""

    class Leaving(TakingProvider):
        async def upload(self, file: Any) -> str:
            await Failover(replace(both, providers={"two": two})).turn()
            return await super().upload(file)

    one, two = Leaving(), TakingProvider()
    providers: Any = {"one": one, "two": two}
    both = replace(rt, providers=providers)
    picture = "data:image/png;base64,iVBORw0KGgo="
    job = await submit(both, a_request(models=MODELS, parameters={"image": picture}))

    await start(both, job.id)
    moved = await job_of(rt, job)
    await start(both, job.id)

    assert (place(moved), moved.status, moved.attempt) == (ROUTES[1], Status.PENDING, 0)
    assert (len(one.started), len(two.created)) == (0, 1)


async def test_each_route_has_its_own_parameters(rt: Runtime, one: FakeProvider) -> None:
    """The request hash, by which duplicates are told, follows them."""
    catalogue = Catalogue(
        {
            "art": CatalogueModel(
                name=ModelName("art"),
                kind=Kind.IMAGE,
                description="",
                routes=tuple(
                    CatalogueRoute(
                        provider=provider, model=ModelName("a/b"), parameters={"seed": theirs}
                    )
                    for provider, theirs in (("one", "seed"), ("two", "options.seed"))
                ),
            )
        }
    )
    one.starts = [REFUSED]
    job = await submit(
        replace(rt, catalogue=catalogue), a_request(model="art", parameters={"seed": 7})
    )
    first = job.input

    await start(rt, job.id)

    job = await job_of(rt, job)
    assert (first, job.input) == ({"seed": 7}, {"options": {"seed": 7}})
    assert job.content is None  # no request for the first route is given these files
    assert job.routing is not None
    assert job.routing.request.parameters == {"seed": 7}


def priced(provider: str, usd: str) -> Listed:
    """Return a line of a price list."""
    return Listed(provider, "*", Price(units={Unit.PREDICTION: Decimal(usd)}))


async def test_the_cheapest_route_comes_first(rt: Runtime) -> None:
    """By the price list; routes without a price come last."""
    three: Any = {**rt.providers, "three": FakeProvider()}
    prices = PriceList([priced("two", "0.5"), priced("three", "0.1")])
    models = (*MODELS, "three:c/third")

    job = await submit(
        replace(rt, providers=three, prices=prices),
        a_request(models=models, route=RouteOrder.CHEAPEST),
    )

    assert job.routing is not None
    assert [route.provider for route in job.routing.routes] == ["three", "two", "one"]


async def test_the_fastest_route_comes_first(rt: Runtime, clock: Clock) -> None:
    """By the median of the jobs of the last hour; routes without any come last."""
    three: Any = {**rt.providers, "three": FakeProvider()}
    for provider, model, seconds in (("one", "a/first", 9), ("two", "b/second", 3)):
        job = await submit(rt, a_request(model=ModelName(model), provider=provider))
        await start(rt, job.id)
        await watched(rt, clock, seconds=seconds)
        await collect(rt, job.id)
    models = ("three:c/third", *MODELS)

    job = await submit(
        replace(rt, providers=three), a_request(models=models, route=RouteOrder.FASTEST)
    )

    assert job.routing is not None
    assert [route.provider for route in job.routing.routes] == ["two", "one", "three"]
