"""Models of the catalogue over HTTP: listed, searched, and named in requests."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest

from fakes import FakeProvider
from fleek.catalogue import read_catalogue
from fleek.domain.errors import NotFound, ProviderRejected, ProviderUnavailable
from fleek.domain.job import JobId, ModelName
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.providers.base import Schema
from fleek.providers.placeholder import PlaceholderProvider, PlaceholderSettings

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "num_images": {"type": "integer", "maximum": 4},
        "image_size": {"type": "object"},
        "seed": {"type": "integer"},
    },
    "additionalProperties": False,
}


@pytest.fixture
def replicate() -> FakeProvider:
    """Return a provider that takes any parameters, and has no list of them."""
    return FakeProvider(default_model=ModelName("some/default"))


@pytest.fixture
def fal() -> FakeProvider:
    """Return a provider that takes few parameters."""
    return FakeProvider(parameters=SCHEMA)


@pytest.fixture
async def both(
    rt: Runtime, client_of: ClientOf, replicate: FakeProvider, fal: FakeProvider
) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of a service with two providers; the first one is the default."""
    settings = rt.settings.model_copy(update={"providers": ("replicate", "fal")})
    catalogue = read_catalogue(None, ["quick=flux-schnell", "mine=fal:some/model"])
    changed = replace(
        rt,
        settings=settings,
        providers={"replicate": replicate, "fal": fal},
        catalogue=catalogue,
    )
    async with client_of(changed) as client:
        yield client


async def generate(client: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    """Send a request that creates a job."""
    return await client.post("/api/v1/generate", json={"prompt": "A cat", **body})


async def test_the_catalogue_is_listed_behind_the_providers_own_models(
    both: httpx2.AsyncClient,
) -> None:
    """With where each model can run, and what has not been verified."""
    listed = (await both.get("/api/v1/models")).json()

    assert [one["name"] for one in listed[:2]] == ["some/default", "fake/model"]
    schnell = next(one for one in listed if one["name"] == "flux-schnell")
    assert (schnell["kind"], schnell["provider"], schnell["available"]) == (
        "image",
        "replicate",
        True,
    )
    assert schnell["aliases"] == ["flux-1-schnell"]
    assert schnell["routes"][1] == {
        "provider": "fal",
        "model": "fal-ai/flux/schnell",
        "configured": True,
        "unverified": True,
        "parameters": ["height", "num_outputs", "output_format", "seed", "width"],
        "price": {"megapixel": "0.003"},
    }
    assert schnell["price"] == {"output": "0.003"}
    assert set(schnell["parameters"]["properties"]) >= {"aspect_ratio", "width", "seed"}
    speech = next(one for one in listed if one["name"] == "tts-1")
    assert (speech["available"], speech["routes"][0]["configured"]) == (False, False)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("q=FLUX+schnell", "flux-schnell"),
        ("q=kokoro-82m", "kokoro"),
        ("kind=audio&provider=fal&q=elevenlabs", "elevenlabs-turbo-2.5"),
        ("available=false", "gpt-image-2.5-flare"),
        ("q=nothing-like-that", None),
    ],
)
async def test_models_are_searched(
    both: httpx2.AsyncClient, query: str, first: str | None
) -> None:
    """By words, kind, provider and whether they can be used here."""
    answer = await both.get(f"/api/v1/models?{query}")

    names = [one["name"] for one in answer.json()]
    assert (names[0] if names else None) == first
    assert answer.headers["x-total-count"] == str(len(names))


async def test_models_have_pages(both: httpx2.AsyncClient) -> None:
    """Each names the next one."""
    total = (await both.get("/api/v1/models?kind=video&available=true")).json()

    names, path = [], "/api/v1/models?kind=video&available=true&limit=5"
    while path:
        answer = await both.get(path)
        names += [one["name"] for one in answer.json()]
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("<")

    assert len(names) > 5
    assert names == [one["name"] for one in total]


async def test_a_model_is_found_by_its_name_or_alias(both: httpx2.AsyncClient) -> None:
    """Of the catalogue, else of a provider."""
    found = [
        (await both.get(f"/api/v1/models/{name}")).json()["name"]
        for name in ("flux-schnell", "quick", "flux-1-schnell", "gpt-image", "no-slash")
    ]
    missing = await both.get("/api/v1/models/no%20name")

    assert found == ["flux-schnell"] * 3 + ["gpt-image-2.5-flare", "no-slash"]
    assert missing.status_code == 404


@pytest.mark.parametrize("name", ["flux-schnell", "quick"])
async def test_a_name_of_the_catalogue_runs_at_its_first_route(
    both: httpx2.AsyncClient, name: str
) -> None:
    """With the parameters as the provider names them; the request itself is shown, too."""
    asked = {"num_outputs": 2, "output_format": "jpeg"}

    job = (await generate(both, model=name, parameters=asked)).json()

    assert (job["provider"], job["model_name"]) == ("replicate", "black-forest-labs/flux-schnell")
    assert job["parameters"] == {"num_outputs": 2, "output_format": "jpg"}
    assert job["route"]["requested"] == [name]
    assert job["route"]["requested_parameters"] == asked


async def test_a_named_provider_chooses_the_route(both: httpx2.AsyncClient) -> None:
    """Parameters are translated for it."""
    asked = {"num_outputs": 2, "width": 64, "height": 32}

    job = (await generate(both, model="flux-schnell", provider="fal", parameters=asked)).json()

    assert (job["provider"], job["model_name"]) == ("fal", "fal-ai/flux/schnell")
    assert job["parameters"] == {"num_images": 2, "image_size": {"width": 64, "height": 32}}


async def test_a_route_that_cannot_express_a_parameter_is_left_out(
    both: httpx2.AsyncClient,
) -> None:
    """The next one can."""
    job = (await generate(both, model="flux-schnell", parameters={"width": 64})).json()

    assert (job["provider"], job["parameters"]) == ("fal", {"image_size": {"width": 64}})


async def test_what_no_route_can_express_is_refused(both: httpx2.AsyncClient) -> None:
    """Unless the caller does not mind: but never a file."""
    asked = {"voice": "Eve", "seed": 7}

    refused = await generate(both, model="flux-schnell", parameters=asked)
    lenient = await generate(both, model="flux-schnell", parameters=asked, strict_parameters=False)
    file = await generate(
        both,
        model="flux-schnell",
        parameters={"mask": "https://example.com/mask.png"},
        strict_parameters=False,
    )

    assert (refused.status_code, refused.json()["code"]) == (422, "parameter_not_supported")
    assert refused.json()["errors"][0]["pointer"] == "/parameters/voice"
    assert lenient.json()["parameters"] == {"seed": 7}
    assert (file.status_code, file.json()["errors"][0]["pointer"]) == (422, "/parameters/mask")


UPSCALE: Final = """
[upscale]
kind = "image"
prompt = "none"
[[upscale.routes]]
provider = "replicate"
model = "our-company/upscale"
parameters = { image = "image" }
[[upscale.routes]]
provider = "fal"
model = "our-company/upscale"
parameters = { image = "image" }
"""
WITHOUT: Schema = {"type": "object", "x-prompt": "optional"}


@pytest.mark.parametrize(
    "named",
    [
        {"model": "flux-schnell"},
        {"model": "quick", "provider": "fal"},
        {"models": ["fal:some/model", "flux-schnell"]},
        {"models": ["fal:some/model", "replicate:some/model"]},
    ],
    ids=["several routes", "one route", "a list", "names of providers"],
)
async def test_a_forgotten_prompt_does_not_choose_the_route_that_needs_none(
    both: httpx2.AsyncClient, replicate: FakeProvider, fal: FakeProvider, named: dict[str, Any]
) -> None:
    """It would pay for a picture of nothing."""
    replicate.parameters, fal.parameters = {"type": "object"}, WITHOUT

    answer = await generate(both, prompt="", **named)

    assert answer.status_code == 422
    assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [
        ("/prompt", "missing")
    ]
    assert (await both.get("/api/v1/jobs")).json() == []


async def test_a_name_of_the_catalogue_needs_a_prompt_whatever_its_routes_say(
    both: httpx2.AsyncClient, replicate: FakeProvider, fal: FakeProvider
) -> None:
    """As its `parameters` say, by which forms and callers go."""
    replicate.parameters = fal.parameters = WITHOUT

    answer = await generate(both, model="flux-schnell", prompt="")

    assert answer.status_code == 422


async def test_a_model_of_the_catalogue_runs_without_a_prompt_if_its_entry_says_so(
    rt: Runtime, client_of: ClientOf, replicate: FakeProvider, fal: FakeProvider, tmp_path: Path
) -> None:
    """Its `parameters` say it, too; but one of its routes that does need one is an error."""
    own = tmp_path / "models.toml"
    own.write_text(UPSCALE)
    replicate.parameters = fal.parameters = WITHOUT
    providers: Any = {"replicate": replicate, "fal": fal}
    async with client_of(
        replace(rt, providers=providers, catalogue=read_catalogue(own))
    ) as client:
        parameters = (await client.get("/api/v1/models/upscale")).json()["parameters"]
        job = (await generate(client, model="upscale", prompt="")).json()
        replicate.parameters = {"type": "object"}
        refused = await generate(client, model="upscale", prompt="")

    assert parameters["x-prompt"] == "none"
    assert (job["provider"], job["model_name"], job["prompt"]) == (
        *("replicate", "our-company/upscale"),
        "",
    )
    assert len(job["route"]["alternatives"]) == 1
    assert refused.json()["errors"][0]["pointer"] == "/prompt"


async def test_the_placeholder_stands_in_for_a_model_without_a_prompt(
    rt: Runtime, client_of: ClientOf, tmp_path: Path
) -> None:
    """It takes what the entry says: none here, and one for each other name."""
    own = tmp_path / "models.toml"
    own.write_text(UPSCALE)
    settings = rt.settings.model_copy(update={"providers": ("placeholder",)})
    placeholder: Any = PlaceholderProvider(PlaceholderSettings())
    changed = replace(
        rt,
        settings=settings,
        providers={"placeholder": placeholder},
        catalogue=read_catalogue(own),
    )
    async with client_of(changed) as client:
        parameters = (await client.get("/api/v1/models/upscale")).json()["parameters"]
        accepted = await generate(client, model="upscale", prompt="")
        forgotten = [
            (await generate(client, model=name, prompt="")).status_code
            for name in ("flux-schnell", "our-company/upscale", "fleek/placeholder")
        ]

    assert parameters["x-prompt"] == "none"
    assert (accepted.status_code, accepted.json()["provider"]) == (201, "placeholder")
    assert forgotten == [422, 422, 422]


async def test_errors_name_the_parameters_of_the_request(both: httpx2.AsyncClient) -> None:
    """Not by the provider's name of the parameter."""
    answer = await generate(
        both, model="flux-schnell", provider="fal", parameters={"num_outputs": 9}
    )

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/parameters/num_outputs"]


async def test_names_of_providers_work_without_the_catalogue(both: httpx2.AsyncClient) -> None:
    """Any `owner/name`, at the default provider or the one that is named or meant by an alias."""
    plain = (await generate(both, model="any/model", parameters={"odd": 1})).json()
    aliased = (await generate(both, model="mine", parameters={"seed": 1})).json()

    assert (plain["provider"], plain["model_name"]) == ("replicate", "any/model")
    assert (plain["parameters"], plain["route"]["requested"]) == ({"odd": 1}, ["any/model"])
    assert (aliased["provider"], aliased["model_name"]) == ("fal", "some/model")


async def test_a_retry_asks_for_the_same(both: httpx2.AsyncClient) -> None:
    """Its parameters are translated anew."""
    job = (await generate(both, model="quick", parameters={"num_outputs": 2})).json()
    await both.post(f"/api/v1/jobs/{job['id']}/cancel")

    again = (await both.post(f"/api/v1/jobs/{job['id']}/retry")).json()

    assert again["id"] != job["id"]
    assert again["route"] == job["route"]
    assert again["parameters"] == job["parameters"]


async def test_a_model_whose_providers_are_not_configured_is_refused(
    both: httpx2.AsyncClient, replicate: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says where it runs."""

    async def unknown(_: ModelName) -> Schema | None:
        raise NotFound("there is no such model")

    monkeypatch.setattr(replicate, "schema", unknown)

    answer = await generate(both, model="tts-1")

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_model")
    assert "it runs at openai, not configured here" in answer.json()["errors"][0]["detail"]


async def test_a_provider_that_is_away_does_not_hold_up_requests(
    both: httpx2.AsyncClient, fal: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checks the parameters by itself, later."""

    async def away(_: ModelName) -> Schema | None:
        raise ProviderUnavailable("away")

    monkeypatch.setattr(fal, "schema", away)

    answer = await generate(
        both, model="flux-schnell", provider="fal", parameters={"num_outputs": 9}
    )

    assert answer.json()["parameters"] == {"num_images": 9}


async def test_a_job_shows_its_routes(
    both: httpx2.AsyncClient, rt: Runtime, replicate: FakeProvider
) -> None:
    """Where it may go on, and after it has: why it has left, in the job and in its history."""
    models = ["replicate:a/b", "mine"]
    job = (await generate(both, models=models, parameters={"seed": 7})).json()
    before = job["route"]
    replicate.starts = [ProviderRejected("no such thing")]
    providers: Any = {"replicate": replicate, "fal": replicate}
    worker = replace(rt, providers=providers)
    await worker.lease.register()

    await start(worker, JobId(UUID(job["id"])))

    job = (await both.get(f"/api/v1/jobs/{job['id']}")).json()
    history = (await both.get(f"/api/v1/jobs/{job['id']}/history")).json()
    here, there = (
        {"provider": "replicate", "model_name": "a/b"},
        {"provider": "fal", "model_name": "some/model"},
    )
    reason = {"code": "provider_rejected", "reason": "no such thing"}
    assert before == here | {
        "requested": models,
        "requested_parameters": {"seed": 7},
        "alternatives": [there],
        "tried": [],
    }
    assert job["route"] == before | there | {"alternatives": [], "tried": [here | reason]}
    assert job["retrying"]["code"] == "provider_rejected"
    left = history["events"][-1]
    assert left["type"] == "job.retrying"
    assert {name: left[name] for name in (*there, *reason)} == there | reason
