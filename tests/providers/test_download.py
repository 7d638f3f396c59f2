"""The bytes of an output; faults of hosts are in Replicate's tests."""

import asyncio
import base64

import pytest

from fleek.domain.errors import OutputBroken, OutputInterrupted, ProviderUnavailable
from fleek.domain.media import Output
from fleek.domain.text import PIECE
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import Client
from fleek.providers.download import Limits, read_output
from listening import listening


async def test_a_large_data_uri_is_decoded_in_parts() -> None:
    """A server may embed a film in its response; decoding it at once would block the loop."""
    content = bytes(range(256)) * 8192
    output = Output(uri="data:video/mp4;base64," + base64.b64encode(content).decode())

    parts = [part async for part in read_output(Client(Policy()), output, Limits())]

    assert b"".join(parts) == content
    assert max(map(len, parts)) <= 2 * PIECE


async def test_an_endless_response_head_is_aborted() -> None:
    """Each byte arrives in time, because the host repeats interim responses."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.01)

    async with listening(visit) as url:
        client = Client(Policy(named=(AllowedHost.of(url),)))
        with pytest.raises(ProviderUnavailable):
            async for _ in read_output(client, Output(uri=f"{url}/a.png"), Limits(head=0.2)):
                pass
        await client.close()


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\x89PNG\r\n\x1a\n", OutputBroken),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\x89PNG\r\n\x1a\n", OutputInterrupted),
    ],
    ids=["more than announced", "less than announced"],
)
async def test_a_wrong_content_length_fails(response: bytes, error: type[OutputBroken]) -> None:
    """A longer body is a permanent error; a shorter one is retried."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)

    async with listening(visit) as url:
        client = Client(Policy(named=(AllowedHost.of(url),)))
        with pytest.raises(error) as caught:
            async for _ in read_output(client, Output(uri=f"{url}/a.png"), Limits()):
                pass
        await client.close()

    assert caught.type is error
