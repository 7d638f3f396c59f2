"""Helpers for tests of the Cog provider, with a receiver of the server's callbacks."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import samples
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.providers.base import Prediction, Provider
from fleek.providers.cog import CogProvider

SECONDS: Final = 60  # limit of every wait here

Opened = Callable[..., AbstractAsyncContextManager[CogProvider]]
"""Open a provider with these settings."""


@dataclass
class Mailbox:
    """Receive callbacks on loopback."""

    url: str = ""
    callbacks: asyncio.Queue[tuple[str, Mapping[str, str], bytes]] = field(
        default_factory=asyncio.Queue
    )

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer 200."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (one.partition(": ") for one in lines)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await self.callbacks.put((first.split()[1], headers, body))


def a_job(prompt: str, *, model: str = "cog/model", retries: int = 0, **given: Any) -> Job:
    """Return a job with these parameters."""
    name = ModelName(model)
    return samples.a_job(provider="cog", model=name, prompt=prompt, input=given, retries=retries)


async def ended(provider: Provider, prediction_id: PredictionId) -> Prediction:
    """Return the prediction once it has ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            seen = (await provider.poll([prediction_id])).get(prediction_id)
            if seen is not None and seen.outcome is not None:
                return seen
            await asyncio.sleep(0.01)
