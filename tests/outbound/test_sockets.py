"""WebSockets to allowed addresses: no redirects, no other hosts."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest

from backing_services import free_port
from fleek.outbound.addresses import AllowedHost, Policy, UnsafeAddress
from fleek.outbound.client import NotSent, ResponseLost
from fleek.outbound.connections import Connections
from fleek.outbound.sockets import Sockets
from listening import listening

REDIRECT: Final = b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n"


def answering(answer: bytes, requests: list[bytes]) -> AbstractAsyncContextManager[str]:
    """Serve one answer to each request, and keep the first lines of the requests."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(answer)

    return listening(respond)


def sockets(address: str) -> tuple[Sockets, Connections]:
    """Return sockets that may be opened at one address."""
    policy = Policy(patterns=(), named=(AllowedHost.of(address),))
    connections = Connections(policy)
    return Sockets(policy, connections), connections


async def test_a_redirect_is_not_followed() -> None:
    """Its target may be any host."""
    requests: list[bytes] = []
    async with answering(REDIRECT, requests) as address:
        opened, connections = sockets(address)

        with pytest.raises(ResponseLost, match="redirects"):
            async with opened.listen(f"{address}/ws"):
                pass

        await connections.close()
        assert requests == [b"GET /ws HTTP/1.1"]


async def test_a_refusal_is_lost() -> None:
    """A host without WebSockets answers with a page."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", []) as address:
        opened, connections = sockets(address)

        with pytest.raises(ResponseLost):
            async with opened.listen(f"{address}/ws"):
                pass

        await connections.close()


async def test_only_allowed_hosts_are_called() -> None:
    """As with any other request."""
    opened, connections = sockets("http://127.0.0.1:1")

    with pytest.raises(UnsafeAddress):
        async with opened.listen("http://127.0.0.2:1/ws"):
            pass

    await connections.close()


async def test_a_host_that_is_away_was_sent_nothing() -> None:
    """There was no connection."""
    address = f"http://127.0.0.1:{free_port()}"
    opened, connections = sockets(address)

    with pytest.raises(NotSent):
        async with opened.listen(address):
            pass

    await connections.close()
