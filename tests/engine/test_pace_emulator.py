"""The pace against an account that counts: an emulated Replicate that refuses what is too much."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes import a_request
from fleek import registry
from fleek.bootstrap import open_runtime
from fleek.domain.job import Status
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.settings import Settings
from fleek.store import jobs
from fleek.worker import work


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an account that sells 1,200 predictions a minute and takes 6,000 other calls."""
    plan = Plan(
        queue_seconds=0, predict_seconds=0.05, creates_per_minute=1200, others_per_minute=6000
    )
    async with serve(plan) as emulator:
        yield emulator
