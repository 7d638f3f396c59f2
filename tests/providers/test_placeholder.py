"""The placeholder as a provider: how it starts predictions and reports them."""

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
    """A clock that moves only by hand."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        """Return the time."""
        return self.time

    def move(self, seconds: float) -> None:
        """Move the clock forward, or back."""
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at noon."""
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


async def test_a_new_prediction_has_an_eta(clock: Clock) -> None:
    """The engine does not poll before it."""
    provider = a_provider(clock, delay=(1, 2))

    started = await provider.start(a_job(), an_attempt())

    assert started.outcome is None
    assert started.eta is not None
    assert timedelta(seconds=1) <= started.eta <= timedelta(seconds=2)


async def test_without_delay_a_prediction_ends_at_once(clock: Clock) -> None:
    """Providers may return the result with the creation; the engine binds it as usual."""
    provider = a_provider(clock, delay=(0, 0))

    started = await provider.start(a_job(), an_attempt())

    assert isinstance(started.outcome, Succeeded)


async def test_a_prediction_succeeds_after_its_delay(clock: Clock) -> None:
    """Its state depends on the clock alone."""
    provider = a_provider(clock)
    started = await provider.start(a_job(), an_attempt())
    assert started.eta is not None

    clock.move(started.eta.total_seconds() + 0.001)
    seen = (await provider.poll([started.id]))[started.id]

    assert isinstance(seen.outcome, Succeeded)
    assert 1 <= seen.metrics["predict_time"] <= 2


async def test_progress_rises(clock: Clock) -> None:
    """A progress bar must not move backwards."""
    provider = a_provider(clock, delay=(2, 2))
    started = await provider.start(a_job(), an_attempt())
    values = []

    for _ in range(25):
        values.append((await provider.poll([started.id]))[started.id].progress or 0.0)
        clock.move(0.1)

    assert values == sorted(values)
    assert (values[0], values[10], values[-1]) == (0.0, 0.5, 1.0)


async def test_small_clock_differences_are_tolerated(clock: Clock) -> None:
    """Progress stays between 0 and 1 and the wait is bounded."""
    provider = a_provider(clock, delay=(1, 2))
    started = await provider.start(a_job(), an_attempt())

    clock.move(-5)
    seen = (await provider.poll([started.id]))[started.id]

    assert seen.progress == 0
    assert seen.eta is not None
    assert seen.eta <= timedelta(seconds=2)


async def test_a_clock_set_back_does_not_delay_a_prediction(clock: Clock) -> None:
    """The elapsed time is unknown; the prediction ends now, not in an hour."""
    provider = a_provider(clock, delay=(1, 2))
    started = await provider.start(a_job(), an_attempt())

    clock.move(-3600)
    seen = (await provider.poll([started.id]))[started.id]

    assert seen.outcome is not None


async def test_without_delay_an_intent_from_the_future_ends_at_once(clock: Clock) -> None:
    """The intent's time comes from the database's clock, which may be ahead."""
    later = an_attempt(submitted_at=NOON + timedelta(seconds=3))

    started = await a_provider(clock, delay=(0, 0)).start(a_job(), later)

    assert isinstance(started.outcome, Succeeded)


async def test_an_attempt_has_the_same_prediction_in_every_process(clock: Clock) -> None:
    """An unknown outcome is reconciled by starting the attempt again."""
    first = await a_provider(clock).start(a_job(), an_attempt())
    second = await a_provider(clock).start(a_job(), an_attempt())

    assert first == second


async def test_a_time_rounded_to_milliseconds_keeps_the_prediction(clock: Clock) -> None:
    """The intent is read from the database before it is started again."""
    fine = NOON + timedelta(microseconds=123_456)
    cut = NOON + timedelta(milliseconds=123)
    provider = a_provider(clock)

    first = await provider.start(a_job(), an_attempt(submitted_at=fine))
    second = await provider.start(a_job(), an_attempt(submitted_at=cut))

    assert first.id == second.id


async def test_any_process_can_poll_every_prediction(clock: Clock) -> None:
    """The id contains all state."""
    provider = a_provider(clock, failure_rate=0.5)
    ids = [(await provider.start(a_job(), an_attempt(n))).id for n in range(50)]
    clock.move(1.5)

    assert await a_provider(clock, failure_rate=0.5).poll(ids) == await provider.poll(ids)


async def test_failures_have_their_rate_and_are_retryable(clock: Clock) -> None:
    """Users test their retries with them."""
    provider = a_provider(clock, failure_rate=0.3)
    ids = [(await provider.start(a_job(), an_attempt(n))).id for n in range(2000)]
    clock.move(5)

    outcomes = [seen.outcome for seen in (await provider.poll(ids)).values()]

    failures = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert len(failures) == pytest.approx(600, abs=80)
    assert {(one.code, one.retryable) for one in failures} == {("prediction_failed", True)}


@pytest.mark.parametrize(("rate", "kind"), [(0, Succeeded), (1, Failed)])
async def test_failure_rates_0_and_1_are_exact(
    clock: Clock, rate: float, kind: type[object]
) -> None:
    """They mean never and always."""
    provider = a_provider(clock, delay=(0, 0), failure_rate=rate)

    predictions = [await provider.start(a_job(), an_attempt(n)) for n in range(300)]

    assert all(isinstance(one.outcome, kind) for one in predictions)


async def test_each_prediction_has_its_own_delay(clock: Clock) -> None:
    """Predictions that all end at once would test nothing."""
    provider = a_provider(clock, delay=(1, 2))

    etas = {(await provider.start(a_job(), an_attempt(n))).eta for n in range(50)}

    assert len(etas) > 40


async def test_a_missing_seed_is_drawn_and_reported(clock: Clock) -> None:
    """Two jobs differ, and each can be repeated."""
    provider = a_provider(clock, delay=(0, 0))

    predictions = [await provider.start(a_job(), an_attempt(n)) for n in range(50)]

    assert len({one.metrics["seed"] for one in predictions}) == 50


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, 42.0])
async def test_the_callers_seed_is_used(clock: Clock, seed: float) -> None:
    """JSON schema accepts 42.0 as an integer."""
    provider = a_provider(clock, delay=(0, 0))

    started = await provider.start(a_job({"seed": seed}), an_attempt())

    assert started.metrics["seed"] == seed


async def test_several_outputs_differ(clock: Clock) -> None:
    """Callers expect a choice."""
    provider = a_provider(clock, delay=(0, 0))
    job = a_job({"num_outputs": 4, "width": 32, "height": 32, "seed": 2**32 - 2})
    started = await provider.start(job, an_attempt())
    assert isinstance(started.outcome, Succeeded)

    files = [
        b"".join([part async for part in provider.read(job, one)])
        for one in started.outcome.outputs
    ]

    assert len(set(files)) == 4


async def test_outputs_are_read_in_chunks(clock: Clock) -> None:
    """Readers hold one chunk in memory, not the file."""
    provider = a_provider(clock, delay=(0, 0))
    job = a_job({"duration": 4}, model="fleek/placeholder-audio")
    started = await provider.start(job, an_attempt())
    assert isinstance(started.outcome, Succeeded)

    sizes = [len(part) async for part in provider.read(job, started.outcome.outputs[0])]

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
async def test_foreign_outputs_are_refused(clock: Clock, output: Output) -> None:
    """The placeholder never opens an address."""
    provider = a_provider(clock)

    with pytest.raises(OutputUnsafe):
        await anext(provider.read(a_job(), output))


@pytest.mark.parametrize(
    "parameters", [{"width": 15}, {"unknown": 1}, {"num_outputs": 5}, {"seed": -1}, {"steps": "x"}]
)
async def test_invalid_parameters_are_rejected_at_the_start(
    clock: Clock, parameters: Mapping[str, Any]
) -> None:
    """A job may have been accepted while the schema was not available."""
    with pytest.raises(ProviderRejected):
        await a_provider(clock).start(a_job(parameters), an_attempt())


async def test_a_malformed_model_name_is_rejected(clock: Clock) -> None:
    """The error is permanent; another attempt cannot help."""
    with pytest.raises(ProviderRejected):
        await a_provider(clock).start(a_job(model="no model"), an_attempt())


async def test_similar_ids_are_not_answered(clock: Clock) -> None:
    """An id of another provider could match by chance."""
    provider = a_provider(clock)
    right = (await provider.start(a_job(), an_attempt())).id
    wrong = [right.upper(), right + "\n", " " + right, right[:-1] + "5", right + "-" + "f" * 9]

    seen = await provider.poll([right, *map(PredictionId, wrong)])

    assert list(seen) == [right]


async def test_poll_answers_for_thousands_of_predictions(clock: Clock) -> None:
    """The event loop runs other tasks in between."""
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
async def test_an_invalid_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, value: str
) -> None:
    """The operator reads one line that names the setting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(setting, value)

    with pytest.raises(ConfigurationError, match=setting):
        async with connect():
            pass


async def test_settings_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their names are established by similar services."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLICATE_MOCK_DELAY_MIN", "0")
    monkeypatch.setenv("REPLICATE_MOCK_DELAY_MAX", "0")
    monkeypatch.setenv("REPLICATE_MOCK_FAILURE_RATE", "1")

    async with connect() as provider:
        started = await provider.start(a_job(), an_attempt())

    assert isinstance(started.outcome, Failed)
