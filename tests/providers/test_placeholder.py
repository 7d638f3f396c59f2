"""The placeholder as a provider: what it sells, and what it says about it later."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import samples
from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    ConfigurationError,
    OutputUnsafe,
    ProviderRejected,
)
from fleek.domain.job import AttemptId, Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.providers.base import Failed, Succeeded
from fleek.providers.placeholder import PlaceholderProvider, PlaceholderSettings, connect
from fleek.providers.placeholder.provider import CHUNK_BYTES

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.time

    def move(self, seconds: float) -> None:
        """Let time pass, or turn it back."""
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at noon."""
    return Clock()


def a_provider(
    clock: Clock, *, delay: tuple[float, float] = (1, 2), failure_rate: float = 0
) -> PlaceholderProvider:
    """Return a placeholder with this clock and these settings."""
    low, high = (timedelta(seconds=seconds) for seconds in delay)
    settings = PlaceholderSettings(delay_min=low, delay_max=high, failure_rate=failure_rate)
    return PlaceholderProvider(settings, now=clock)


def a_job(parameters: Mapping[str, Any] | None = None, *, model: str = "any/model") -> Job:
    """Return a job with these parameters."""
    name = ModelName(model)
    return samples.a_job(provider="placeholder", model=name, input=parameters or {})


def an_attempt(number: int = 1, *, submitted_at: datetime = NOON) -> Attempt:
    """Return the attempt with this number, intended at noon."""
    attempt_id = AttemptId(uuid.UUID(int=number))
    return samples.an_attempt(a_job(), id=attempt_id, submitted_at=submitted_at)


async def test_it_runs_for_a_while_and_says_how_long(clock: Clock) -> None:
    """The engine looks first when the provider says that it is worth while."""
    provider = a_provider(clock, delay=(1, 2))

    bought = await provider.start(a_job(), an_attempt())

    assert bought.outcome is None
    assert bought.eta is not None
    assert timedelta(seconds=1) <= bought.eta <= timedelta(seconds=2)


async def test_without_delay_it_has_ended_at_once(clock: Clock) -> None:
    """A provider may answer at once; the engine binds it like any other."""
    provider = a_provider(clock, delay=(0, 0))

    bought = await provider.start(a_job(), an_attempt())

    assert isinstance(bought.outcome, Succeeded)


async def test_it_ends_when_its_time_has_come(clock: Clock) -> None:
    """The answer depends on the clock alone."""
    provider = a_provider(clock)
    bought = await provider.start(a_job(), an_attempt())
    assert bought.eta is not None

    clock.move(bought.eta.total_seconds() + 0.001)
    seen = (await provider.poll([bought.id]))[bought.id]

    assert isinstance(seen.outcome, Succeeded)
    assert 1 <= seen.metrics["predict_time"] <= 2


async def test_progress_rises(clock: Clock) -> None:
    """A bar that goes back tells nothing."""
    provider = a_provider(clock, delay=(2, 2))
    bought = await provider.start(a_job(), an_attempt())
    told = []

    for _ in range(25):
        told.append((await provider.poll([bought.id]))[bought.id].progress or 0.0)
        clock.move(0.1)

    assert told == sorted(told)
    assert (told[0], told[10], told[-1]) == (0.0, 0.5, 1.0)


async def test_clocks_that_differ_a_little_do_no_harm(clock: Clock) -> None:
    """Workers' clocks do; progress stays between 0 and 1 and the wait bounded."""
    provider = a_provider(clock, delay=(1, 2))
    bought = await provider.start(a_job(), an_attempt())

    clock.move(-5)
    seen = (await provider.poll([bought.id]))[bought.id]

    assert seen.progress == 0
    assert seen.eta is not None
    assert seen.eta <= timedelta(seconds=2)


async def test_a_clock_that_was_turned_back_keeps_no_job_waiting(clock: Clock) -> None:
    """Nobody knows how long the prediction has run; it ends now, not in an hour."""
    provider = a_provider(clock, delay=(1, 2))
    bought = await provider.start(a_job(), an_attempt())

    clock.move(-3600)
    seen = (await provider.poll([bought.id]))[bought.id]

    assert seen.outcome is not None


async def test_without_delay_even_an_intent_from_the_future_has_ended(clock: Clock) -> None:
    """The intent's time may come from the database's clock, which may be ahead of ours."""
    later = an_attempt(submitted_at=NOON + timedelta(seconds=3))

    bought = await a_provider(clock, delay=(0, 0)).start(a_job(), later)

    assert isinstance(bought.outcome, Succeeded)


async def test_the_same_attempt_is_the_same_prediction_in_every_process(clock: Clock) -> None:
    """That is what lets an unknown outcome be settled by starting again."""
    first = await a_provider(clock).start(a_job(), an_attempt())
    second = await a_provider(clock).start(a_job(), an_attempt())

    assert first == second


async def test_a_store_that_cuts_the_time_to_milliseconds_does_no_harm(clock: Clock) -> None:
    """The intent is read back from the database before it is started again."""
    fine = NOON + timedelta(microseconds=123_456)
    cut = NOON + timedelta(milliseconds=123)
    provider = a_provider(clock)

    first = await provider.start(a_job(), an_attempt(submitted_at=fine))
    second = await provider.start(a_job(), an_attempt(submitted_at=cut))

    assert first.id == second.id


async def test_any_process_answers_for_every_prediction(clock: Clock) -> None:
    """Whatever must be remembered is in the id."""
    seller = a_provider(clock, failure_rate=0.5)
    ids = [(await seller.start(a_job(), an_attempt(n))).id for n in range(50)]
    clock.move(1.5)

    assert await a_provider(clock, failure_rate=0.5).poll(ids) == await seller.poll(ids)


async def test_failures_come_at_their_rate_and_may_be_tried_again(clock: Clock) -> None:
    """Whoever tries retries with it must get what was asked for."""
    provider = a_provider(clock, failure_rate=0.3)
    ids = [(await provider.start(a_job(), an_attempt(n))).id for n in range(2000)]
    clock.move(5)

    outcomes = [seen.outcome for seen in (await provider.poll(ids)).values()]

    failures = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert len(failures) == pytest.approx(600, abs=80)
    assert {(one.code, one.retryable) for one in failures} == {("prediction_failed", True)}


@pytest.mark.parametrize(("rate", "kind"), [(0, Succeeded), (1, Failed)])
async def test_never_and_always_are_kept(clock: Clock, rate: float, kind: type[object]) -> None:
    """0 and 1 are promises, not likelihoods."""
    provider = a_provider(clock, delay=(0, 0), failure_rate=rate)

    sold = [await provider.start(a_job(), an_attempt(n)) for n in range(300)]

    assert all(isinstance(one.outcome, kind) for one in sold)


async def test_each_prediction_draws_its_own_delay(clock: Clock) -> None:
    """A queue in which all end at once tries nothing."""
    provider = a_provider(clock, delay=(1, 2))

    etas = {(await provider.start(a_job(), an_attempt(n))).eta for n in range(50)}

    assert len(etas) > 40


async def test_without_a_seed_one_is_drawn_and_told(clock: Clock) -> None:
    """Two jobs differ, and each can be made again."""
    provider = a_provider(clock, delay=(0, 0))

    sold = [await provider.start(a_job(), an_attempt(n)) for n in range(50)]

    assert len({one.metrics["seed"] for one in sold}) == 50


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, 42.0])
async def test_the_callers_seed_is_kept(clock: Clock, seed: float) -> None:
    """JSON schema takes 42.0 for an integer."""
    provider = a_provider(clock, delay=(0, 0))

    bought = await provider.start(a_job({"seed": seed}), an_attempt())

    assert bought.metrics["seed"] == seed


async def test_several_outputs_differ(clock: Clock) -> None:
    """Whoever asks for four wants a choice."""
    provider = a_provider(clock, delay=(0, 0))
    job = a_job({"num_outputs": 4, "width": 32, "height": 32, "seed": 2**32 - 2})
    bought = await provider.start(job, an_attempt())
    assert isinstance(bought.outcome, Succeeded)

    files = [
        b"".join([part async for part in provider.read(job, one)])
        for one in bought.outcome.outputs
    ]

    assert len(set(files)) == 4


async def test_bytes_come_in_small_parts(clock: Clock) -> None:
    """A reader holds one part in memory, not the file."""
    provider = a_provider(clock, delay=(0, 0))
    job = a_job({"duration": 4}, model="fleek/placeholder-audio")
    bought = await provider.start(job, an_attempt())
    assert isinstance(bought.outcome, Succeeded)

    sizes = [len(part) async for part in provider.read(job, bought.outcome.outputs[0])]

    assert set(sizes[:-1]) == {CHUNK_BYTES}
    assert sum(sizes) > 4 * 2 * 22_050


@pytest.mark.parametrize(
    "output",
    [
        Output(uri="https://example.com/cat.png"),
        Output(uri="placeholder:nobody/0"),
        Output(uri=f"placeholder:ph-{'0' * 32}-1-1/4"),
        Output(uri=f"ph-{'0' * 32}-1-1/0"),
        Output(text="words"),
    ],
    ids=["address", "foreign", "index", "scheme", "text"],
)
async def test_foreign_outputs_are_not_read(clock: Clock, output: Output) -> None:
    """It never opens an address."""
    provider = a_provider(clock)

    with pytest.raises(OutputUnsafe):
        await anext(provider.read(a_job(), output))


@pytest.mark.parametrize(
    "parameters", [{"width": 15}, {"unknown": 1}, {"num_outputs": 5}, {"seed": -1}, {"steps": "x"}]
)
async def test_parameters_that_slipped_through_are_not_sold(
    clock: Clock, parameters: Mapping[str, Any]
) -> None:
    """A job may have been accepted while the schema was out of reach."""
    with pytest.raises(ProviderRejected):
        await a_provider(clock).start(a_job(parameters), an_attempt())


async def test_a_malformed_model_is_not_sold(clock: Clock) -> None:
    """A permanent refusal; another attempt cannot help."""
    with pytest.raises(ProviderRejected):
        await a_provider(clock).start(a_job(model="no model"), an_attempt())


async def test_nearly_right_ids_are_foreign(clock: Clock) -> None:
    """An id of another provider must not be answered for by chance."""
    provider = a_provider(clock)
    right = (await provider.start(a_job(), an_attempt())).id
    wrong = [right.upper(), right + "\n", " " + right, right[:-1] + "5", right + "-" + "f" * 9]

    seen = await provider.poll([right, *map(PredictionId, wrong)])

    assert list(seen) == [right]


async def test_poll_answers_for_more_than_one_turn_of_the_loop(clock: Clock) -> None:
    """Others get the event loop in between; nobody is left out."""
    provider = a_provider(clock)
    ids = [PredictionId(f"ph-{number:032x}-1-1") for number in range(2500)]

    assert list(await provider.poll(ids)) == ids


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("REPLICATE_MOCK_DELAY_MIN", "-1"),
        ("REPLICATE_MOCK_DELAY_MIN", "3"),
        ("REPLICATE_MOCK_DELAY_MAX", "soon"),
        ("REPLICATE_MOCK_DELAY_MAX", "inf"),
        ("REPLICATE_MOCK_DELAY_MAX", "1e9"),
        ("REPLICATE_MOCK_FAILURE_RATE", "1.1"),
        ("REPLICATE_MOCK_FAILURE_RATE", "nan"),
    ],
)
async def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, value: str
) -> None:
    """The operator reads one line and knows what to change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(setting, value)

    with pytest.raises(ConfigurationError, match=setting):
        async with connect():
            pass


async def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The names are those that users of such services know."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLICATE_MOCK_DELAY_MIN", "0")
    monkeypatch.setenv("REPLICATE_MOCK_DELAY_MAX", "0")
    monkeypatch.setenv("REPLICATE_MOCK_FAILURE_RATE", "1")

    async with connect() as provider:
        bought = await provider.start(a_job(), an_attempt())

    assert isinstance(bought.outcome, Failed)
