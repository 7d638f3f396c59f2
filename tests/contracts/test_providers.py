"""The contract of every provider, wherever its models run.

Settings of a provider, or a server for it on loopback, belong in `PREPARATIONS`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from jsonschema_rs import Draft202012Validator

import samples
from cogserver import CogServer, cog_server
from comfyworkflows import workflow_folder
from fleek.bootstrap import open_provider
from fleek.domain.attempt import Attempt
from fleek.domain.errors import CallbackRejected, NotFound
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.emulator.plan import Plan
from fleek.emulator.server import serve
from fleek.providers.base import (
    Failed,
    Prediction,
    Provider,
    Succeeded,
    SupportsCallbacks,
    SupportsFind,
    SupportsModels,
    SupportsOversizedCallbacks,
    SupportsRecall,
    SupportsServerTime,
    budget_of,
    provider_misfits,
)
from fleek.registry import providers
from lamp_host import KEY, lamp_host
from plugins import install_guide, install_lamp

SECONDS = 60  # the longest duration of a prediction

Preparation = Callable[
    [pytest.FixtureRequest, pytest.MonkeyPatch], AbstractAsyncContextManager[None]
]


@pytest.fixture(scope="session")
def cog(_full_suite: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CogServer]:
    """Return a running Cog server that accepts many predictions."""
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


def _openai(model: str) -> Preparation:
    @asynccontextmanager
    async def prepare(
        _request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncGenerator[None]:
        async with serve(Plan(queue_seconds=0, predict_seconds=0.01)) as emulator:
            monkeypatch.setenv("OPENAI_API_KEY", "sk-contract")
            monkeypatch.setenv("OPENAI_BASE_URL", emulator.openai_url)
            monkeypatch.setenv("OPENAI_MODELS", model)
            monkeypatch.setenv("OPENAI_VOICE", "alloy")
            yield

    return prepare


@asynccontextmanager
async def _comfyui(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    folder: Path = request.getfixturevalue("tmp_path")
    async with serve(Plan(queue_seconds=0, predict_seconds=0.01)) as emulator:
        monkeypatch.setenv("COMFYUI_URL", emulator.comfyui_url)
        monkeypatch.setenv("COMFYUI_WORKFLOWS", str(workflow_folder(folder)))
        yield


@asynccontextmanager
async def _fal(
    _request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    async with serve(Plan(queue_seconds=0, predict_seconds=0.01)) as emulator:
        monkeypatch.setenv("FAL_KEY", "id:contract")
        monkeypatch.setenv("FAL_QUEUE_URL", emulator.fal_url)
        monkeypatch.setenv("FAL_JWKS_URL", emulator.fal_jwks_url)
        monkeypatch.setenv("FAL_REST_URL", emulator.fal_url)
        monkeypatch.setenv("FAL_CDN_URL", emulator.fal_url)
        yield


@asynccontextmanager
async def _echo(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    folder: Path = request.getfixturevalue("tmp_path")
    install_guide(folder)
    monkeypatch.syspath_prepend(folder)
    yield


@asynccontextmanager
async def _lamp(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    folder: Path = request.getfixturevalue("tmp_path")
    install_lamp(folder)
    monkeypatch.syspath_prepend(folder)
    async with lamp_host() as (address, _):
        monkeypatch.setenv("LAMP_KEY", KEY)
        monkeypatch.setenv("LAMP_URL", address)
        yield


@asynccontextmanager
async def _nothing(
    _request: pytest.FixtureRequest, _monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[None]:
    yield


PREPARATIONS: Final[Mapping[str, Preparation]] = {
    "cog": _cog,
    "comfyui": _comfyui,
    "echo": _echo,
    "fal": _fal,
    "lamp": _lamp,
    "openai": _openai("image:gpt-image-2.5-flare"),
    "openai speech": _openai("speech:tts-1"),
    "openai video": _openai("video:sora-2"),
    "placeholder": _placeholder,
    "replicate": _replicate,
}
"""Settings of a provider of this name before it is opened; others need none. The rest of
a name distinguishes kinds of models.
"""


@pytest.fixture(params=sorted({*providers(), *PREPARATIONS}))
async def provider(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncGenerator[Provider]:
    """Return each registered provider and those of the how-to guide, open."""
    monkeypatch.chdir(tmp_path)  # a developer's own .env is not read
    async with AsyncExitStack() as stack:
        prepared = PREPARATIONS.get(request.param, _nothing)(request, monkeypatch)
        await stack.enter_async_context(prepared)
        yield await stack.enter_async_context(open_provider(request.param.split()[0]))


def a_job(model: ModelName) -> Job:
    """Return a job for this model, without parameters."""
    return samples.a_job(provider="any", model=model, input={})


def an_attempt(job: Job) -> Attempt:
    """Return a new intent for this job."""
    return samples.an_attempt(job, submitted_at=datetime.now(UTC))


async def ended(provider: Provider, prediction_id: PredictionId) -> Prediction:
    """Return the prediction once it has ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            seen = (await provider.poll([prediction_id])).get(prediction_id)
            if seen is not None and seen.outcome is not None:
                return seen


async def results(provider: Provider, job: Job) -> tuple[Output, ...]:
    """Return the outputs of a prediction for this job."""
    created = await provider.start(job, an_attempt(job))
    outcome = (await ended(provider, created.id)).outcome
    assert isinstance(outcome, Succeeded)
    return outcome.outputs


async def test_starting_again_returns_the_same_prediction_if_declared(provider: Provider) -> None:
    """An unknown outcome is reconciled by repeating only where that cannot create a second one."""
    job = a_job(provider.default_model)
    attempt = an_attempt(job)

    first = await provider.start(job, attempt)
    second = await provider.start(job, attempt)

    assert (second.id == first.id) is (provider.reconcile_by == "repeat")


async def test_two_attempts_are_two_predictions(provider: Provider) -> None:
    """A prediction is bound to one attempt, and a retry must get its own."""
    job = a_job(provider.default_model)

    first = await provider.start(job, an_attempt(job))
    second = await provider.start(job, an_attempt(job))

    assert first.id != second.id


async def test_a_prediction_ends(provider: Provider) -> None:
    """Polling alone must finish every job."""
    job = a_job(provider.default_model)

    created = await provider.start(job, an_attempt(job))

    assert isinstance((await ended(provider, created.id)).outcome, Succeeded)


async def test_poll_returns_many_predictions_at_once(provider: Provider) -> None:
    """The engine polls in batches, and finds results by id."""
    job = a_job(provider.default_model)
    created = {(await provider.start(job, an_attempt(job))).id for _ in range(20)}

    seen = await provider.poll(sorted(created))

    assert {key: one.id for key, one in seen.items()} == {key: key for key in created}


async def test_a_provider_implements_the_port(provider: Provider) -> None:
    """Every required member, and every capability completely or not at all."""
    assert provider_misfits(provider) == []


async def test_the_budget_is_positive(provider: Provider) -> None:
    """A limit of zero would stop every job."""
    limits = asdict(budget_of(provider)).values()

    assert [limit for limit in limits if limit is not None and limit <= 0] == []


async def test_a_lost_prediction_is_found_if_declared(provider: Provider) -> None:
    """The search returns the prediction, or lists it among those for the same request."""
    job = a_job(provider.default_model)
    attempt = an_attempt(job)
    started = await provider.start(job, attempt)

    if not isinstance(provider, SupportsFind):
        assert provider.reconcile_by != "find"
        return
    found = await provider.find(job, attempt, now=datetime.now(UTC))
    seen = [found.prediction] if found.prediction else found.candidates
    if found.wiped:
        assert seen == ()
        return
    other = replace(a_job(provider.default_model), prompt="Nobody asked for this")
    missing = await provider.find(other, an_attempt(other), now=datetime.now(UTC))

    assert [prediction.id for prediction in seen] == [started.id]
    assert (missing.prediction, missing.candidates) == (None, ())


async def test_a_forged_callback_is_rejected(provider: Provider) -> None:
    """Anyone can send requests to the callback address."""
    if isinstance(provider, SupportsCallbacks):
        with pytest.raises(CallbackRejected):
            await provider.callback({"content-type": "application/json"}, b'{"id": "forged"}')


async def test_an_oversized_callback_ends_its_prediction(provider: Provider) -> None:
    """Its outcome cannot be polled, so the callback has to be one."""
    if isinstance(provider, SupportsOversizedCallbacks):
        ended_by_size = provider.overlong(PredictionId("0" * 32))

        assert ended_by_size.id == "0" * 32
        assert isinstance(ended_by_size.outcome, Failed)


async def test_an_ended_prediction_can_be_recalled(provider: Provider) -> None:
    """With its result, as long as the provider keeps it."""
    if isinstance(provider, SupportsRecall):
        started = await provider.start(*(job := a_job(provider.default_model), an_attempt(job)))
        before = await ended(provider, started.id)

        again = await provider.recall(started.id)

        assert again is not None
        assert again.outcome == before.outcome


async def test_the_provider_s_time_has_a_zone(provider: Provider) -> None:
    """It is compared with other times."""
    if isinstance(provider, SupportsServerTime):
        await provider.ask_time()

        assert provider.time is not None
        assert provider.time.tzinfo is not None


async def test_unknown_predictions_are_left_out(provider: Provider) -> None:
    """A prediction that cannot be seen must not count as ended."""
    strange = [PredictionId(text) for text in ("", "nobody's", "\0", "ph-", "😀" * 50)]

    assert await provider.poll(strange) == {}


async def test_every_output_can_be_read_and_is_not_empty(provider: Provider) -> None:
    """A stored address is useful only if it can be read."""
    job = a_job(provider.default_model)
    outputs = await results(provider, job)

    sizes = [sum([len(part) async for part in provider.read(job, one)]) for one in outputs]

    assert outputs
    assert all(sizes)


async def test_a_stored_output_can_be_read_again(
    provider: Provider,
) -> None:
    """A collector may crash, and the next one starts again from the row."""
    job = a_job(provider.default_model)
    output = (await results(provider, job))[0]

    first = b"".join([part async for part in provider.read(job, output)])
    stored = Output.from_json(output.to_json())
    second = b"".join([part async for part in provider.read(job, stored)])

    assert first == second


async def test_cancel_is_accepted_before_and_after_the_end(provider: Provider) -> None:
    """The engine repeats it until the prediction has ended, and may be late."""
    job = a_job(provider.default_model)
    created = await provider.start(job, an_attempt(job))

    await provider.cancel(created.id)
    seen = await ended(provider, created.id)
    await provider.cancel(created.id)

    assert seen.outcome is not None


async def test_the_default_model_is_listed(provider: Provider) -> None:
    """Requests without a model get one that can be looked up."""
    if isinstance(provider, SupportsModels):
        listed = await provider.models()

        assert provider.default_model in [model.name for model in listed]


async def test_every_schema_is_valid(provider: Provider) -> None:
    """Parameters are validated against it before anything is stored."""
    names = {provider.default_model}
    if isinstance(provider, SupportsModels):
        names |= {model.name for model in await provider.models()}

    schemas = [await provider.schema(name) for name in names]

    assert [Draft202012Validator(dict(schema)) for schema in schemas if schema is not None]


async def test_a_malformed_name_is_no_model(provider: Provider, subtests: pytest.Subtests) -> None:
    """It must neither reach a host nor start a prediction."""
    for name in ["", "a b", "/", "owner/", "a//b", "a/../b", "a/b:", "../x", "ü/b", "a/b\n"]:
        with subtests.test(name=str(name)[:40]), pytest.raises(NotFound):
            await provider.schema(ModelName(name))
