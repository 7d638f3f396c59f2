"""What every provider promises, wherever its models run.

A provider that needs a setting, or somebody to talk to on loopback, gets it in `PREPARATIONS`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from jsonschema_rs import Draft202012Validator

import samples
from cogserver import CogServer, cog_server
from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.emulator.plan import Plan
from fleek.emulator.server import serve
from fleek.providers.base import Prediction, Provider, Succeeded
from fleek.registry import load, providers

SECONDS = 60  # the longest that any prediction here may run

Preparation = Callable[
    [pytest.FixtureRequest, pytest.MonkeyPatch], AbstractAsyncContextManager[None]
]


@pytest.fixture(scope="session")
def cog(_full_suite: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """Return a running Cog server with room for many predictions."""
    with cog_server(tmp_path_factory.mktemp("cog"), slots=32) as server:
        yield server


@asynccontextmanager
async def _cog(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    server: CogServer = request.getfixturevalue("cog")
    monkeypatch.setenv("COG_URL", server.url)
    yield


@asynccontextmanager
async def _placeholder(
    _request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    monkeypatch.setenv("REPLICATE_MOCK_DELAY_MIN", "0")
    monkeypatch.setenv("REPLICATE_MOCK_DELAY_MAX", "0.01")
    monkeypatch.setenv("REPLICATE_MOCK_FAILURE_RATE", "0")
    yield


@asynccontextmanager
async def _replicate(
    _request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    async with serve(Plan(queue_seconds=0, predict_seconds=0.01)) as emulator:
        monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_contract")
        monkeypatch.setenv("REPLICATE_BASE_URL", emulator.api_url)
        yield


@asynccontextmanager
async def _nothing(
    _request: pytest.FixtureRequest, _monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    yield


PREPARATIONS: Final[Mapping[str, Preparation]] = {
    "cog": _cog,
    "placeholder": _placeholder,
    "replicate": _replicate,
}
"""What to set before a provider of this name is opened; others are opened as they are."""


@pytest.fixture(params=sorted(providers()))
async def provider(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncGenerator[Provider]:
    """Each registered provider, open."""
    monkeypatch.chdir(tmp_path)  # a developer's own .env is not read
    connect = load(providers(), request.param, setting="PROVIDER")
    prepared = PREPARATIONS.get(request.param, _nothing)(request, monkeypatch)
    async with prepared, connect() as opened:
        yield opened


def a_job(model: ModelName) -> Job:
    """Return a job for this model, without parameters."""
    return samples.a_job(provider="any", model=model, input={})


def an_attempt(job: Job) -> Attempt:
    """Return an intent to buy this job's prediction, written now."""
    return samples.an_attempt(job, submitted_at=datetime.now(UTC))


async def ended(provider: Provider, prediction_id: PredictionId) -> Prediction:
    """Return the prediction once it has ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            seen = (await provider.poll([prediction_id])).get(prediction_id)
            if seen is not None and seen.outcome is not None:
                return seen


async def results(provider: Provider, job: Job) -> tuple[Output, ...]:
    """Return the outputs of a prediction that is bought for this job."""
    bought = await provider.start(job, an_attempt(job))
    outcome = (await ended(provider, bought.id)).outcome
    assert isinstance(outcome, Succeeded)
    return outcome.outputs


async def test_starting_again_is_the_same_purchase_just_if_it_says_so(provider: Provider) -> None:
    """An unknown outcome is settled by starting again only where that cannot buy twice."""
    job = a_job(provider.default_model)
    attempt = an_attempt(job)

    first = await provider.start(job, attempt)
    second = await provider.start(job, attempt)

    assert (second.id == first.id) is (provider.settles == "repeat")


async def test_two_attempts_are_two_purchases(provider: Provider) -> None:
    """A prediction is bound to one attempt; a retry must get its own."""
    job = a_job(provider.default_model)

    first = await provider.start(job, an_attempt(job))
    second = await provider.start(job, an_attempt(job))

    assert first.id != second.id


async def test_a_bought_prediction_ends(provider: Provider) -> None:
    """Polling alone must finish every job."""
    job = a_job(provider.default_model)

    bought = await provider.start(job, an_attempt(job))

    assert isinstance((await ended(provider, bought.id)).outcome, Succeeded)


async def test_poll_answers_for_many_at_once(provider: Provider) -> None:
    """The engine asks in batches; answers are found by id."""
    job = a_job(provider.default_model)
    bought = {(await provider.start(job, an_attempt(job))).id for _ in range(20)}

    seen = await provider.poll(sorted(bought))

    assert {key: one.id for key, one in seen.items()} == {key: key for key in bought}


async def test_unknown_predictions_are_left_out(provider: Provider) -> None:
    """One that cannot be seen must not be taken for ended."""
    strange = [PredictionId(text) for text in ("", "nobody's", "\0", "ph-", "😀" * 50)]

    assert await provider.poll(strange) == {}


async def test_every_output_can_be_read_and_is_not_empty(provider: Provider) -> None:
    """An address is only worth storing if bytes come from it."""
    job = a_job(provider.default_model)
    outputs = await results(provider, job)

    sizes = [sum([len(part) async for part in provider.read(job, one)]) for one in outputs]

    assert outputs
    assert all(sizes)


async def test_an_output_can_be_read_again_after_it_was_stored_with_the_attempt(
    provider: Provider,
) -> None:
    """The one who collects may die half-way; the next reads the row and starts over."""
    job = a_job(provider.default_model)
    output = (await results(provider, job))[0]

    first = b"".join([part async for part in provider.read(job, output)])
    stored = Output.from_json(output.to_json())
    second = b"".join([part async for part in provider.read(job, stored)])

    assert first == second


async def test_cancel_is_accepted_before_and_after_the_end(provider: Provider) -> None:
    """The engine asks on until the prediction has ended, and may be late."""
    job = a_job(provider.default_model)
    bought = await provider.start(job, an_attempt(job))

    await provider.cancel(bought.id)
    seen = await ended(provider, bought.id)
    await provider.cancel(bought.id)

    assert seen.outcome is not None


async def test_the_default_model_is_offered(provider: Provider) -> None:
    """Requests that name no model get one that can be looked up."""
    offered = await provider.models()

    assert provider.default_model in [model.name for model in offered]


async def test_every_schema_is_a_schema(provider: Provider) -> None:
    """Parameters are checked against it before anything is stored."""
    offered = await provider.models()

    schemas = [await provider.schema(model.name) for model in offered]

    assert [Draft202012Validator(dict(schema)) for schema in schemas if schema is not None]


@pytest.mark.parametrize(
    "name", ["", "a b", "/", "owner/", "a/b/c", "a/b:", "../x", "ü/b", "a/b\n"]
)
async def test_a_malformed_name_is_no_model(provider: Provider, name: str) -> None:
    """A name that nobody can have must not reach a host, or be sold."""
    with pytest.raises(NotFound):
        await provider.schema(ModelName(name))
