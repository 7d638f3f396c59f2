"""What tests of the Cog provider ask for, and somebody to take the server's callbacks."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fleek.domain.attempt import Attempt
from fleek.domain.job import AttemptId, Job, JobId, ModelName, PredictionId, WorkerId
from fleek.providers.base import Prediction, Provider
from fleek.providers.cog import CogProvider

SECONDS: Final = 20  # the longest that anything here may take

Opened = Callable[..., AbstractAsyncContextManager[CogProvider]]
"""Opens a provider with these settings."""


@dataclass
class Mailbox:
    """Takes callbacks on loopback."""

    url: str = ""
    letters: asyncio.Queue[tuple[str, Mapping[str, str], bytes]] = field(
        default_factory=asyncio.Queue
    )

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer that all is well."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (one.partition(": ") for one in lines)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await self.letters.put((first.split()[1], headers, body))


def a_job(prompt: str, *, model: str = "cog/model", retries: int = 0, **given: Any) -> Job:
    """Return a job with these parameters."""
    now = datetime.now(UTC)
    return Job(
        id=JobId(uuid.uuid4()),
        tenant_id="default",
        provider="cog",
        model=ModelName(model),
        prompt=prompt,
        input=given,
        metadata={},
        priority=5,
        max_attempts=4,
        run_at=now,
        deadline=now + timedelta(days=1),
        created_at=now,
        updated_at=now,
        retries=retries,
    )


def an_attempt(job: Job) -> Attempt:
    """Return an intent to run this job's prediction, written now."""
    return Attempt(
        id=AttemptId(uuid.uuid4()),
        job_id=job.id,
        n=1,
        provider=job.provider,
        model=job.model,
        nonce=uuid.uuid4().hex,
        request_hash="0" * 64,
        submitted_at=datetime.now(UTC),
        timeout=timedelta(hours=1),
        worker_id=WorkerId(uuid.uuid4()),
    )


async def ended(provider: Provider, prediction_id: PredictionId) -> Prediction:
    """Return the prediction once it has ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            seen = (await provider.poll([prediction_id])).get(prediction_id)
            if seen is not None and seen.outcome is not None:
                return seen
            await asyncio.sleep(0.01)
