"""Common mistakes are answered with a suggestion."""

from collections.abc import Mapping
from typing import Final

import httpx2
import pytest

from fleek.api.suggestions import MODEL_PARAMETERS
from fleek.providers.base import SupportsModels
from fleek.providers.placeholder import connect
from fleek.schemas import JobCreate

JOB: Final = "0198f000-0000-7000-8000-000000000000"

FIELDS: Final[Mapping[str, tuple[str, str | None]]] = {
    "promptt": ('did you mean "prompt"?', "/prompt"),
    "Prompt": ('did you mean "prompt"?', "/prompt"),
    "modelName": ('did you mean "model_name"?', "/model_name"),
    "max-attempts": ('did you mean "max_attempts"?', "/max_attempts"),
    "timeout": ('did you mean "deadline_seconds"?', "/deadline_seconds"),
    "width": ('it belongs into "parameters"', "/parameters/width"),
    "num_images": ('it belongs into "parameters"', "/parameters/num_images"),
    "input": ("Replicate's form", "/parameters"),
    "version": ("Replicate's form", "/model_name"),
    "zebra": ("is not a field", None),
    "p" * 5000: ("is not a field", None),
}


async def test_an_unknown_field_gets_a_suggestion(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """As text in the detail, and as a pointer for programs."""
    for name in FIELDS:
        for route in ["/api/v1/generate", "/generate"]:
            with subtests.test(name=str(name)[:40], route=str(route)[:40]):
                detail, pointer = FIELDS[name]

                answer = await client.post(route, json={"prompt": "x", name: 1})

                (error,) = answer.json()["errors"]
                assert answer.status_code == 422
                assert error["code"] == "extra_forbidden"
                assert detail in error["detail"]
                assert error["suggestion"] == pointer
                assert detail in answer.json()["detail"]


async def test_a_misspelt_prompt_is_no_missing_one(client: httpx2.AsyncClient) -> None:
    """A model may need no prompt, but a name that is only misspelt is reported."""
    answer = await client.post("/api/v1/generate", json={"promptt": "x"})

    problem = answer.json()
    assert problem["detail"] == 'promptt: is not a field; did you mean "prompt"?'
    assert [error["pointer"] for error in problem["errors"]] == ["/promptt"]


async def test_the_number_of_suggestions_is_limited(
    client: httpx2.AsyncClient,
) -> None:
    """The work must not grow with the request."""
    names = {f"prompt{number}": 1 for number in range(1000)}

    answer = await client.post("/api/v1/generate", json={"prompt": "x", **names})

    errors = answer.json()["errors"]
    assert len(errors) == 20
    assert sum(error["suggestion"] is not None for error in errors) == 5


async def test_an_unknown_parameter_of_a_model_gets_a_suggestion(
    client: httpx2.AsyncClient,
) -> None:
    """From the names in the model's schema."""
    body = {"prompt": "x", "provider": "placeholder", "parameters": {"wdth": 64, "zebra": 1}}

    answer = await client.post("/api/v1/generate", json=body)

    first, second = answer.json()["errors"]
    assert first["detail"] == 'is not a parameter of this model; did you mean "width"?'
    assert (first["pointer"], first["suggestion"]) == ("/parameters/wdth", "/parameters/width")
    assert second["suggestion"] is None


QUERIES: Final[Mapping[str, tuple[str, str | None]]] = {
    "GET /api/v1/jobs?limi=1": ("did you mean limit?", "/limit"),
    "GET /api/v1/jobs?page=2": ("did you mean offset?", "/offset"),
    f"POST /api/v1/jobs/{JOB}/retry?agn=true": ("did you mean again?", "/again"),
    "POST /api/v1/generate?priority=9": ("it is a field of the body", None),
    "GET /api/v1/jobs?zebra=1": ("there is no such query parameter", None),
    f"GET /api/v1/jobs?{'l' * 500}=1": ("there is no such query parameter", None),
}


async def test_an_unknown_query_parameter_gets_a_suggestion(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """An ignored one would silently return another list."""
    for request_line in QUERIES:
        with subtests.test(request_line=str(request_line)[:40]):
            detail, pointer = QUERIES[request_line]
            method, target = request_line.split(" ")

            answer = await client.request(method, target, json={"prompt": "x"})

            (error,) = answer.json()["errors"]
            assert answer.status_code == 422
            assert detail in error["detail"]
            assert (error["location"], error["suggestion"]) == ("query", pointer)


async def test_a_header_of_another_service_gets_a_suggestion(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Its sender relies on its effect, and ignoring it could cost money."""
    for header, detail, pointer in [
        ("X-Idempotency-Key", "did you mean Idempotency-Key?", "/Idempotency-Key"),
        ("Cancel-After", "deadline_seconds", None),
    ]:
        with subtests.test(
            header=str(header)[:40], detail=str(detail)[:40], pointer=str(pointer)[:40]
        ):
            answer = await client.post(
                "/api/v1/generate", json={"prompt": "x"}, headers={header: "5m"}
            )

            (error,) = answer.json()["errors"]
            assert answer.status_code == 422
            assert detail in error["detail"]
            assert (error["location"], error["suggestion"]) == ("header", pointer)


PATHS: Final = {
    "/api/v1/job": "/api/v1/jobs",
    "/jobs": "/api/v1/jobs",
    "/v1/generate": "/api/v1/generate",
    "/api/generate": "/api/v1/generate",
    f"/api/v1/job/{JOB}": "/api/v1/jobs/{job_id}",
    f"/api/v1/jobs/{JOB}/cance": "/api/v1/jobs/{job_id}/cancel",
    "/helth": "/health",
    "/v1/predictions": "/api/v1/generate",
    f"/v1/predictions/{JOB}": "/api/v1/jobs/{job_id}",
    "/v1/images/generations": "/api/v1/generate",
    "/wp-login.php": None,
    "/" + "jobs" * 500: None,
}


async def test_an_unknown_path_gets_the_nearest_route(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """The path itself is not repeated."""
    for path in PATHS:
        with subtests.test(path=str(path)[:40]):
            answer = await client.post(path)

            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (404, "not_found")
            assert [error["suggestion"] for error in problem["errors"]] == (
                [PATHS[path]] if PATHS[path] else []
            )
            assert PATHS[path] is None or PATHS[path] in problem["detail"]


async def test_a_trailing_slash_is_ignored(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Without a redirect, which some clients follow with another method or not at all."""
    for path in ["/health/", "/api/v1/jobs/", "/api/v1/jobs/?limit=1", "/docs/", "/metrics/"]:
        with subtests.test(path=str(path)[:40]):
            answer = await client.get(path)

            assert answer.status_code == 200
            assert (
                await client.post("/api/v1/generate/", json={"prompt": "x"})
            ).status_code == 201


async def test_a_slash_alone_is_the_start_page(client: httpx2.AsyncClient) -> None:
    """It is no trailing slash, and two slashes at the end are an error."""
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/health//")).status_code == 404


def test_no_advice_names_an_existing_field() -> None:
    """It would never be shown."""
    assert MODEL_PARAMETERS.isdisjoint(JobCreate.model_fields)


async def test_parameters_of_built_in_models_are_known() -> None:
    """One of them beside the prompt gets its right place as suggestion."""
    async with connect() as provider:
        assert isinstance(provider, SupportsModels)
        models = await provider.models()

    names = {name for model in models for name in (model.schema or {}).get("properties", {})}
    assert names <= MODEL_PARAMETERS | {"prompt"}
