"""An emulated ComfyUI server on loopback, and a provider that uses it."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import samples
from comfyworkflows import workflow_folder
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, ModelName
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.outbound.connections import Connections, tls_context
from fleek.providers.comfyui.provider import ComfyUIProvider
from fleek.providers.comfyui.workflows import read_folder
from fleek.providers.http import open_api


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run a fast emulator without faults; tests add them."""
    async with serve(Plan(queue_seconds=0, predict_seconds=0)) as emulator:
        yield emulator


class Ticks:
    """Monotonic seconds that pass only by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the seconds that have passed."""
        return self.seconds


@pytest.fixture
def ticks() -> Ticks:
    """Return a clock that stands still until it is moved."""
    return Ticks()


@pytest.fixture
async def provider(
    emulator: Emulator, ticks: Ticks, tmp_path: Path
) -> AsyncGenerator[ComfyUIProvider]:
    """Yield a provider with the templates of `comfyworkflows`."""
    url, tls = emulator.comfyui_url, tls_context()
    policy = Policy(patterns=(), named=(AllowedHost.of(url),))
    api, content = open_api(url, tls=tls), Client(policy, Connections(policy, tls=tls))
    workflows = read_folder(workflow_folder(tmp_path))
    yield ComfyUIProvider(api, content, base_url=url, workflows=workflows, clock=ticks)
    await api.close()
    await content.close()


def a_job(prompt: str = "a cat", model: str = "a-txt2img", **parameters: Any) -> Job:
    """Return a job for a template."""
    return samples.a_job(
        provider="comfyui", model=ModelName(model), prompt=prompt, input=parameters
    )


def an_attempt(job: Job, **fields: Any) -> Attempt:
    """Return an intent to start this job's run, written now."""
    return samples.an_attempt(job, **{"submitted_at": datetime.now(UTC), **fields})
