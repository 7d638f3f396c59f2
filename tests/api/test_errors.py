"""Errors: one form for all of them, without internal details."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fleek.api.errors import STATUS, status_of
from fleek.app import create_app
from fleek.domain import errors
from fleek.domain.errors import FleekError, TooMany
from fleek.engine.runtime import Runtime

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

SECRET = "postgresql://user:secret@db/x SELECT * FROM jobs"
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


def every(kind: type[FleekError]) -> list[type[FleekError]]:
    """Return a class and all its subclasses."""
    return [kind, *(one for sub in kind.__subclasses__() for one in every(sub))]


HOMES = {errors.__name__}
OURS = [kind for kind in every(FleekError) if kind.__module__ in HOMES]


class Failing:
    """A database whose every use raises this error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Any:
        raise self._error


def error_of(kind: type[FleekError]) -> FleekError:
    """Return an error of this kind with a message that must not be published."""
    if issubclass(kind, TooMany):
        return kind(SECRET, retry_after=timedelta(seconds=7))
    return kind(SECRET)


async def test_every_error_has_its_status_and_code(
    rt: Runtime, client_of: ClientOf, subtests: pytest.Subtests
) -> None:
    """One table decides, by the nearest base class."""
    for kind in OURS:
        with subtests.test(kind=str(kind)[:40]):
            db: Any = Failing(error_of(kind))

            async with client_of(replace(rt, db=db)) as client:
                answer = await client.get("/api/v1/jobs")

            problem = answer.json()
            assert answer.status_code == status_of(kind) == problem["status"]
            assert answer.headers["content-type"] == "application/problem+json"
            assert set(problem) == MEMBERS
            assert problem["code"] == kind.code
            assert problem["type"] == f"urn:fleek:problem:{kind.code}"
            assert problem["request_id"] == answer.headers["x-request-id"]


async def test_messages_of_libraries_are_not_published(
    rt: Runtime, client_of: ClientOf, subtests: pytest.Subtests
) -> None:
    """They may contain addresses, statements and internal names."""
    for kind in [one for one in OURS if status_of(one) >= 500]:
        with subtests.test(kind=str(kind)[:40]):
            db: Any = Failing(error_of(kind))

            async with client_of(replace(rt, db=db)) as client:
                answer = await client.get("/api/v1/jobs")

            assert "secret" not in answer.text
            assert "SELECT" not in answer.text


async def test_temporary_errors_have_a_retry_after(
    rt: Runtime, client_of: ClientOf, subtests: pytest.Subtests
) -> None:
    """Clients that know the delay do not all retry at once."""
    for kind, seconds in [
        (errors.DatabaseUnavailable, "2"),
        (errors.StorageError, "2"),
        (TooMany, "7"),
    ]:
        with subtests.test(kind=str(kind)[:40], seconds=str(seconds)[:40]):
            db: Any = Failing(error_of(kind))

            async with client_of(replace(rt, db=db)) as client:
                answer = await client.get("/api/v1/jobs")

            assert answer.headers["retry-after"] == seconds


async def test_an_internal_error_reveals_no_message(rt: Runtime, client_of: ClientOf) -> None:
    """The traceback belongs in the log."""
    db: Any = Failing(ZeroDivisionError(SECRET))

    async with client_of(replace(rt, db=db)) as client:
        answer = await client.get("/api/v1/jobs", headers={"X-Request-ID": "mine"})

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == "mine"
    assert "secret" not in answer.text


async def test_an_internal_error_is_raised_to_the_server(rt: Runtime) -> None:
    """The server logs its traceback."""
    db: Any = Failing(ZeroDivisionError("down the stack"))
    transport = httpx2.ASGITransport(create_app(replace(rt, db=db)))

    async with httpx2.AsyncClient(transport=transport, base_url="http://fleek.test") as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/api/v1/jobs")


def test_the_table_contains_error_statuses_only() -> None:
    """A success status in it would hide a failure."""
    assert all(400 <= status < 600 for status in STATUS.values())


async def test_an_unknown_path_is_a_problem_document(client: httpx2.AsyncClient) -> None:
    """Errors of the router have the form of all others."""
    answer = await client.get("/no/such/place")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    assert "place" not in answer.text


async def test_an_unsupported_method_lists_the_supported_ones(
    client: httpx2.AsyncClient,
) -> None:
    """All of them, whichever route they belong to."""
    answer = await client.put("/api/v1/jobs/0198f000-0000-7000-8000-000000000000")

    assert answer.status_code == 405
    assert answer.json()["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH"


FIELDS = {
    "missing": ({}, "/prompt", "missing"),
    "mistyped": ({"prompt": 5}, "/prompt", "string_type"),
    "unknown": ({"prompt": "x", "status": "completed"}, "/status", "extra_forbidden"),
    "deep": ({"prompt": "x", "metadata": 5}, "/metadata", "dict_type"),
    "parameters": ({"prompt": "x", "parameters": "[]"}, "/parameters", "value_error"),
    "made up": ({"prompt": "x", "<canary>": 1}, "", "extra_forbidden"),
    "provider": ({"prompt": "x", "provider": "canary"}, "/provider", "unknown_provider"),
    "whole": ([], "", "model_attributes_type"),
}


async def test_a_refusal_names_the_field_and_not_its_value(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Forms can show it in the right place, and logs contain no values."""
    for body, pointer, code in FIELDS.values():
        with subtests.test(body=str(body)[:40], pointer=str(pointer)[:40], code=str(code)[:40]):
            answer = await client.post("/api/v1/generate", json=body)

            problem = answer.json()
            assert answer.status_code == 422
            assert [(one["pointer"], one["code"]) for one in problem["errors"]] == [
                (pointer, code)
            ]
            assert {one["location"] for one in problem["errors"]} == {"body"}
            assert "canary" not in answer.text


async def test_a_refusal_names_the_part_of_the_request(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Body, path and query may have fields of the same name."""
    for address, location, pointer in [
        ("/api/v1/jobs?limit=canary", "query", "/limit"),
        ("/api/v1/jobs?status_filter=canary", "query", "/status_filter"),
        ("/api/v1/jobs/canary", "path", "/job_id"),
    ]:
        with subtests.test(
            address=str(address)[:40], location=str(location)[:40], pointer=str(pointer)[:40]
        ):
            answer = await client.get(address)

            problem = answer.json()
            assert answer.status_code == 422
            assert [(one["location"], one["pointer"]) for one in problem["errors"]] == [
                (location, pointer)
            ]
            assert "canary" not in answer.text


async def test_a_body_that_ends_early_is_unreadable(rt: Runtime) -> None:
    """The client has disconnected, which is no internal error."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/generate",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app(rt)(scope, receive, send)

    assert sent[0]["status"] == 400


@asynccontextmanager
async def chunks_of(data: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield a body in parts, so that its length is not announced."""

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    yield parts()


async def test_a_body_without_a_length_is_counted(rt: Runtime, client_of: ClientOf) -> None:
    """The limit holds for chunked bodies, too."""
    limited = rt.settings.model_copy(update={"max_body_bytes": 5000})

    async with client_of(replace(rt, settings=limited)) as client, chunks_of(b" " * 6000) as body:
        answer = await client.post(
            "/api/v1/generate", content=body, headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


async def test_a_body_of_exactly_the_limit_is_accepted(rt: Runtime, client_of: ClientOf) -> None:
    """The limit itself is allowed."""
    limited = rt.settings.model_copy(update={"max_body_bytes": 5000})
    body = b'{"prompt": "A cat"}'.ljust(5000)

    async with client_of(replace(rt, settings=limited)) as client:
        answer = await client.post(
            "/api/v1/generate", content=body, headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 201
