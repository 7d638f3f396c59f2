"""Behind a real proxy that strips a prefix, all links stay within it."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest

from api.conftest import PNG
from examples import ROOT
from fleek.client import AsyncClient
from fleek.domain.job import Status
from fleek.engine.runtime import Runtime
from fleek.providers.base import MAX_ANSWER_BYTES
from in_process_service import serving_on

Make = Callable[..., Awaitable[Any]]

PREFIX: Final = "/fleek"
FORWARDED: Final = (
    b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: other.example\r\nX-Forwarded-Prefix: /other\r\n"
)
NOT_READ: Final = (f"{PREFIX}/static/vendor/", f"{PREFIX}/openapi.json")  # contains an example job
OUTSIDE: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ACCEPT: Final = {"accept": "text/html,application/json"}  # events as a list, which ends
LINK: Final = re.compile(r'(?:href|src)="([^"#]+)"|"(https?://[^"{}\s]+)"|<(https?://[^>{}]+)>')


@dataclass
class Proxy:
    """Forwards one request per connection without the prefix; `outside` are those without it."""

    port: int = 0
    target: int = 0
    outside: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The service's address for its callers."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, rest = head.split(b" ", 2)
            if target == PREFIX.encode():  # the server of the description
                target += b"/"
            if not target.startswith(PREFIX.encode() + b"/"):
                self.outside.append(target.decode())
                writer.write(OUTSIDE)
                return
            line, _, fields = rest.partition(b"\r\n")
            fields = re.sub(rb"(?im)^connection:.*\r\n", b"", fields)
            begun = b" ".join((method, target[len(PREFIX) :], line)) + b"\r\n" + FORWARDED
            await self._exchange(begun + b"Connection: close\r\n" + fields, reader, writer)
        finally:
            writer.close()

    async def _exchange(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self.target)
        requests.write(head)
        sending = asyncio.create_task(_pass_on(reader, requests))
        try:
            await _pass_on(answers, writer)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            requests.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def proxying(rt: Runtime) -> AsyncGenerator[Proxy]:
    """Serve behind a proxy on a free port."""
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        async with serving_on(rt, public_url=proxy.url) as served:
            proxy.target = served.port
            yield proxy


def links(answer: httpx2.Response) -> Iterator[str]:
    """Yield every address in a response, resolved like in a browser."""
    addresses = answer.headers.get("link", "")
    if "javascript" not in answer.headers.get("content-type", ""):
        addresses += answer.text
    for found in LINK.finditer(addresses):
        yield urljoin(str(answer.url), next(filter(None, found.groups())))
    if location := answer.headers.get("location"):
        yield urljoin(str(answer.url), location)


async def follow(http: httpx2.AsyncClient, begin: list[httpx2.Response]) -> dict[str, int]:
    """Request everything that can be reached, and return the statuses by address."""
    origin = "http://127.0.0.1"
    ahead = [link for answer in begin for link in links(answer)]
    seen: dict[str, int] = {}
    while ahead:
        url = ahead.pop()
        if url in seen or not url.startswith(origin):
            continue
        answer = await http.get(url, headers=ACCEPT)
        seen[url] = answer.status_code
        if not urlsplit(url).path.startswith(NOT_READ):
            ahead += links(answer)
    return seen


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_all_links_lead_through_the_proxy(rt: Runtime, make: Make, complete: Make) -> None:
    """In pages, documents and headers; POST routes and missing files respond with their errors."""
    done, failed = await complete(), await make(Status.FAILED)
    await make()

    async with proxying(rt) as proxy, httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        begin = [
            await http.get(f"{proxy.url}/", headers=ACCEPT),
            await http.get(f"{proxy.url}/", headers={"accept": "application/json"}),
            await http.get(f"{proxy.url}/info"),
            await http.get(f"{proxy.url}/api/v1/jobs?limit=1"),
            await http.get(f"{proxy.url}/api/v1/jobs/{done.id}"),
            await http.get(f"{proxy.url}/api/v1/jobs/{failed.id}"),
            await http.post(f"{proxy.url}/api/v1/generate", json={"prompt": "x"}),
            await http.post(f"{proxy.url}/generate", json={"prompt": "x"}),
        ]
        seen = await follow(http, begin)

    assert [answer.status_code for answer in begin] == [200] * 6 + [201, 200]
    assert proxy.outside == []
    paths = {urlsplit(url).path.removeprefix(PREFIX): status for url, status in seen.items()}
    assert paths[f"/media/{done.id}.png"] == 200
    assert {"/docs", "/redoc", "/openapi.json", "/static/style/tokens.css", "/readyz"} <= set(
        paths
    )
    strange = {path: status for path, status in paths.items() if status not in {200, 405, 409}}
    assert strange == {}


async def test_a_page_of_the_service_may_send_changes(rt: Runtime) -> None:
    """Its origin is the proxy's, unlike that of any other page."""
    async with proxying(rt) as proxy, httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        ours = f"http://127.0.0.1:{proxy.port}"
        for page, status in ((ours, 201), ("http://other.example", 403)):
            answer = await http.post(
                f"{proxy.url}/api/v1/generate", json={"prompt": "x"}, headers={"origin": page}
            )
            assert answer.status_code == status


async def test_the_python_client_works_through_a_proxy(
    rt: Runtime, complete: Make, tmp_path: Any
) -> None:
    """With the public address as its base."""
    done = await complete()

    async with proxying(rt) as proxy, AsyncClient(proxy.url) as client:
        status = await client.status(done.id)
        file = await client.download(done.id, tmp_path)
        health = await client.health()

    assert status.result_url == f"{proxy.url}/media/{done.id}.png"
    assert file.read_bytes() == PNG
    assert health["service"] == "fleek-media-service"
    assert proxy.outside == []


def test_the_documented_proxy_accepts_large_callbacks() -> None:
    """A callback refused by the proxy is a lost result that was paid for."""
    page = (ROOT / "docs/how-to/behind-a-proxy.md").read_text(encoding="utf-8")

    size = re.search(r"client_max_body_size (\d+)m;", page)

    assert size is not None
    assert int(size[1]) * 1_048_576 >= MAX_ANSWER_BYTES
