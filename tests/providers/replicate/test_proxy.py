"""Calls to the API through a proxy, as in company networks."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
from yarl import URL

import samples
from authorities import trusted
from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import ModelName
from fleek.emulator.server import Emulator
from fleek.environment import read
from fleek.outbound.addresses import proxy_address
from fleek.outbound.client import NotSent
from fleek.providers.http import authorization, open_api
from fleek.providers.replicate import ReplicateSettings, open_provider
from fleek.settings import Proxies
from listening import listening, port_of
from service_process import PATIENCE

FLUX: Final = ModelName("black-forest-labs/flux-schnell")


@dataclass
class Proxy:
    """A proxy that tunnels to the requested host, and records its requests."""

    refusal: bytes | None = None
    requests: list[str] = field(default_factory=list)
    address: str = ""

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        if self.refusal is not None:
            writer.write(self.refusal)
            return
        method, target, _ = head.split(" ", 2)
        plain = method != "CONNECT"
        host = URL(target).raw_authority if plain else target
        name, _, port = host.rpartition(":")
        there, away = await asyncio.open_connection(name, int(port))
        if plain:
            away.write(head.encode())
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pass(reader, away), _pass(there, writer))
        finally:
            away.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def proxying(refusal: bytes | None = None) -> AsyncGenerator[Proxy]:
    """Run a proxy on loopback."""
    proxy = Proxy(refusal)
    async with listening(proxy.visit) as url:
        proxy.address = url
        yield proxy


async def test_calls_go_through_the_proxy(emulator: Emulator) -> None:
    """It gets the credentials of its address, not the token."""
    async with proxying() as proxy:
        address = proxy.address.replace("http://", "http://me:p%40@")
        settings = ReplicateSettings(
            replicate_api_token="r8_test",
            replicate_base_url=emulator.base_url,
            replicate_proxy=address,
        )
        async with open_provider(settings) as provider:
            schema = await provider.schema(FLUX)

    assert schema is not None
    assert len(proxy.requests) == 1
    given = base64.b64encode(b"me:p@").decode()
    assert f"proxy-authorization: basic {given}".lower() in proxy.requests[0].lower()


async def test_https_is_tunnelled() -> None:
    """The proxy sees the host, but neither the path nor the token."""

    async def unreadable(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)  # the first byte of TLS

    async with proxying() as proxy, listening(unreadable) as there:
        api = open_api(
            f"https://127.0.0.1:{port_of(there)}",
            headers=authorization("r8_C4n4ry"),
            read=PATIENCE,
            tls=trusted(),
            proxy=proxy.address,
        )
        with pytest.raises(NotSent):
            await api.get("/v1/secret")
        await api.close()

    assert len(proxy.requests) == 1
    assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{port_of(there)} ")
    assert "C4n4ry" not in proxy.requests[0]
    assert "/v1/secret" not in proxy.requests[0]


async def test_a_refusing_proxy_creates_no_prediction() -> None:
    """Nothing was sent: the job waits, and its error names the proxy."""
    job = samples.a_job(model=FLUX)
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    async with proxying(refusal) as proxy:
        settings = ReplicateSettings(
            replicate_api_token="r8_test",
            replicate_base_url="https://api.replicate.test/v1",
            replicate_proxy=proxy.address,
        )
        async with open_provider(settings) as provider:
            with pytest.raises(ProviderUnavailable, match="proxy refuses: 407") as caught:
                await provider.start(job, samples.an_attempt(job))

    assert caught.value.code == "provider_unreachable"


async def test_proxy_variables_of_the_environment_are_not_used(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could send the token to an unintended host."""
    async with proxying() as proxy:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        settings = ReplicateSettings(
            replicate_api_token="r8_test",
            replicate_base_url=emulator.base_url,
        )
        async with open_provider(settings) as provider:
            assert await provider.schema(FLUX) is not None

    assert proxy.requests == []


def test_ignored_proxy_variables_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fleek doctor` warns about them."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")

    assert read(Proxies).ignored() == "HTTPS_PROXY"


@pytest.mark.parametrize(
    "value", ["", "proxy:3128", "socks5://proxy", "http://", "http://a:b", "x"]
)
def test_an_invalid_proxy_address_is_refused(value: str) -> None:
    """At the start."""
    with pytest.raises(ValueError, match="must be an address"):
        proxy_address(value)
