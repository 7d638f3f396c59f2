"""A running emulator, and a client for it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve

MODEL = "black-forest-labs/flux-schnell"


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an emulator that is quick and has no faults by default."""
    async with serve(Plan(queue_seconds=0, predict_seconds=0)) as emulator:
        yield emulator


@pytest.fixture
async def api(emulator: Emulator) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a token that follows no redirects."""
    headers = {"authorization": "Bearer r8_test"}
    async with httpx2.AsyncClient(
        base_url=emulator.base_url,
        headers=headers,
        trust_env=False,
        timeout=60,
        verify=False,  # plain http: no certificates are loaded
    ) as client:
        yield client


Create = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def create(api: httpx2.AsyncClient) -> Create:
    """Return a function that creates a prediction with a prompt, and optionally more fields."""

    async def post(prompt: str = "a cat", *, prefer: str = "", **fields: Any) -> httpx2.Response:
        body = {"version": MODEL, "input": {"prompt": prompt}} | fields
        return await api.post("/v1/predictions", json=body, headers={"prefer": prefer})

    return post
