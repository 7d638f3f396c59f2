"""The bytes of an output: out of its data URI, or from where the server has uploaded it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import httpx2

from fleek.domain.errors import (
    OutputBroken,
    OutputGone,
    OutputUnsafe,
    ProviderError,
    ProviderUnavailable,
)
from fleek.domain.media import Output
from fleek.outbound import Named, Policy, UnsafeAddress, open_client, open_stream, port_of
from fleek.providers.cog.outputs import data_uri

MOST_BYTES: Final = 2 * 1024**3  # of one output
MOST_SECONDS: Final = 3600.0
SILENT_SECONDS: Final = 30.0


class Fetch:
    """Reads outputs; addresses are called through the guarded client."""

    def __init__(self, client: httpx2.AsyncClient, policy: Policy) -> None:
        self._client = client
        self._policy = policy

    @classmethod
    @asynccontextmanager
    async def open(cls, upload_url: str | None) -> AsyncGenerator[Self]:
        """Open one that may call public hosts, and the host of `upload_url` even if private."""
        named: tuple[Named, ...] = ()
        if upload_url is not None:
            url = httpx2.URL(upload_url)
            named = (Named(url.host, port_of(url), plain=url.scheme == "http"),)
        policy = Policy(named=named)
        timeout = httpx2.Timeout(SILENT_SECONDS, connect=5.0)
        async with open_client(policy, timeout=timeout) as client:
            yield cls(client, policy)

    async def stream(self, output: Output) -> AsyncIterator[bytes]:
        """Stream one output's bytes; raises as `Provider.read`."""
        uri = output.uri or ""
        if uri[:5].lower() == "data:":
            for part in data_uri(uri):
                yield part
                await asyncio.sleep(0)  # others get their turn
            return
        size = 0
        try:
            async with (
                asyncio.timeout(MOST_SECONDS),
                open_stream(self._client, uri, self._policy) as response,
            ):
                _check(response.status_code)
                async for part in response.aiter_raw():
                    size += len(part)
                    if size > MOST_BYTES:
                        raise OutputUnsafe("the output is too large")
                    yield part
        except UnsafeAddress as error:
            raise OutputUnsafe(f"the output: {error}") from error
        except (httpx2.HTTPError, TimeoutError) as error:
            raise _broken(size, error) from error


def _check(status: int) -> None:
    if status == 200:
        return
    if status in {408, 429} or status >= 500:
        raise ProviderUnavailable(f"the output's host answers with {status}")
    raise OutputGone(f"the output's host answers with {status}")


def _broken(size: int, error: Exception) -> ProviderError:
    name = type(error).__name__
    if size:
        return OutputBroken(f"the output ended early: {name}")
    return ProviderUnavailable(f"the output's host does not answer: {name}")
