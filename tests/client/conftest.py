"""A scripted server, and fixtures that run both clients through one interface."""

import asyncio
from collections.abc import Callable, Generator
from inspect import isasyncgen
from typing import Any

import httpx2
import pytest

from fleek import AsyncClient, Client
from fleek.client import RetryPolicy

JOB = "0198f000-0000-7000-8000-000000000001"
QUICK = RetryPolicy(
    backoff_seconds=0.001, poll_seconds=0.001, max_poll_seconds=0.002, outage_seconds=60
)

Update = httpx2.Response | Exception


class FakeServer:
    """Answer each request with the next step of the script."""

    def __init__(self) -> None:
        self.script: list[Update] = []
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer, as `httpx2.MockTransport` requires."""
        self.requests.append(request)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        if not hasattr(step, "_content"):  # a stream; it is read once
            return step
        return httpx2.Response(step.status_code, headers=step.headers, content=step.content)


class Blocking:
    """Call an `AsyncClient`, or a part of it, like a `Client`."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if not callable(member):
            return Blocking(member, self._runner)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = member(*args, **kwargs)
            if isasyncgen(result):
                return self._runner.run(_listed(result))
            return self._runner.run(result)

        return call


async def _listed(items: Any) -> list[Any]:
    return [item async for item in items]


@pytest.fixture
def server() -> FakeServer:
    """Return a server with an empty script."""
    return FakeServer()


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: FakeServer) -> Generator[Client]:
    """Open a client of either kind, with the key ``secret``."""
    options: dict[str, Any] = {
        "api_key": "secret",
        "transport": httpx2.MockTransport(server),
        "retry_policy": QUICK,
    }
    if request.param == "sync":
        with Client("http://fleek.test", **options) as plain:
            yield plain
    else:
        with asyncio.Runner() as runner:
            other = AsyncClient("http://fleek.test", **options)
            yield Blocking(other, runner)  # type: ignore[misc] # stands for a Client
            runner.run(other.aclose())


@pytest.fixture
def a_job() -> Callable[..., dict[str, Any]]:
    """Return a factory of jobs as the API returns them."""

    def make(status: str = "pending", **changes: Any) -> dict[str, Any]:
        here = f"http://fleek.test/api/v1/jobs/{JOB}"
        moment = "2026-01-02T03:04:05Z"
        names = ("progress", "queue_position", "started_at", "completed_at", "purged_at")
        nothing = dict.fromkeys(
            (*names, "error_code", "error_message", "result_url", "file_size", "external_job_id")
        )
        return {
            **nothing,
            "id": JOB,
            "prompt": "a cat",
            "model_name": "fleek/art",
            "status": status,
            "provider": "placeholder",
            "parameters": {},
            "priority": 5,
            "metadata": {},
            "created_at": moment,
            "updated_at": moment,
            "run_at": moment,
            "outputs": [],
            "retry_count": 0,
            "max_attempts": 4,
            "links": {"self": here, "events": here, "cancel": here, "download": here},
            **changes,
        }

    return make


@pytest.fixture
def an_output() -> Callable[..., dict[str, Any]]:
    """Return a factory of outputs as the API returns them."""

    def make(sha256: str, **changes: Any) -> dict[str, Any]:
        url = "http://fleek.test/media/../../evil.sh"
        picture = {"index": 0, "url": url, "content_type": "image/png", "size_bytes": 4}
        return {**picture, "sha256": sha256, **changes}

    return make
