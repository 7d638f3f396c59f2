"""A provider whose processes run a program without a voice."""

import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import samples
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job
from fleek.providers.local.processes import Processes
from fleek.providers.local.provider import MODEL, LocalProvider

PROGRAM: Final = Path(__file__).with_name("speaker.py")


@pytest.fixture
async def processes() -> AsyncGenerator[Processes]:
    """Yield a pool of at most one process, which speaks as a text tells it to."""
    pool = Processes(1, seconds=60, program=(sys.executable, "-I", "-S", str(PROGRAM)))
    yield pool
    await pool.close()


@pytest.fixture
async def provider(processes: Processes) -> AsyncGenerator[LocalProvider]:
    """Yield a provider with this pool."""
    provider = LocalProvider(processes, limit=1)
    yield provider
    await provider.close()


def a_job(text: str, **parameters: Any) -> Job:
    """Return a job for the local voice."""
    return samples.a_job(provider="local", model=MODEL, prompt=text, input=parameters)


def an_attempt(job: Job) -> Attempt:
    """Return an intent to start this job's run, written now."""
    return samples.an_attempt(job, submitted_at=datetime.now(UTC))
