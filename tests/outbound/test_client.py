"""The HTTP client for other hosts: refused addresses, and what is known after a failure."""

import asyncio
import resource
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fleek.domain.host_errors import exhaustion
from fleek.outbound.addresses import AllowedHost, Policy, UnsafeAddress
from fleek.outbound.client import Client, NotSent, Response, ResponseLost
from fleek.outbound.connections import MAX_HEADER, Connections
from listening import Visit, listening, port_of
from outbound.test_addresses import ANY, BAD_URLS, PUBLIC
from service_process import PATIENCE

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nset-cookie: a=b\r\n\r\nhello"


class Resolver:
    """A resolver with fixed answers, which records its calls."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the next answer; the last one is repeated."""
        self.asked.append((host, port))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class Host:
    """A host on this machine that sends these answers in turn, one per request."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the caller leaves, or an answer is empty."""
        self.connections += 1
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            self.requests.append(head + await reader.readexactly(size))
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
            if not answer:
                return
            writer.write(answer)
            await writer.drain()

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        return port_of(self.url)


@asynccontextmanager
async def hosting(*answers: bytes) -> AsyncGenerator[Host]:
    """Run a host with these answers."""
    host = Host(*answers)
    async with listening(host.visit) as host.url:
        yield host


@asynccontextmanager
async def calling(
    policy: Policy, read: float = PATIENCE, **options: Any
) -> AsyncGenerator[Client]:
    """Open a client; `options` configure its connections."""
    client = Client(policy, Connections(policy, **options), read=read)
    try:
        yield client
    finally:
        await client.close()


def near(url: str) -> Policy:
    """Return a policy that allows one port of this machine, as operators may configure it."""
    return Policy(patterns=(), named=(AllowedHost.of(url),))


async def body_of(response: Response) -> bytes:
    """Read the whole body."""
    return b"".join([chunk async for chunk in response.body])


async def asked(client: Client, url: str, method: str = "GET", content: bytes = b"") -> bytes:
    """Send a request and return the body of the response."""
    async with client.open(method, url, content) as response:
        return await body_of(response)


async def followed(url: str) -> bytes:
    """Return the body after all redirects."""
    async with calling(near(url)) as client, client.follow(f"{url}/x") as response:
        return await body_of(response)


# Addresses


@pytest.mark.parametrize(
    "answer",
    [["10.0.0.5"], [PUBLIC, "10.0.0.5"], ["10.0.0.5", PUBLIC], ["2606:4700::1111", "::1"]],
)
async def test_a_name_with_a_private_address_is_refused(answer: list[str]) -> None:
    """One is enough: any of them could be dialled."""
    async with calling(ANY, resolve=Resolver(answer)) as client:
        with pytest.raises(UnsafeAddress):
            await asked(client, "https://example.com/")


async def test_a_name_is_resolved_once_per_connection() -> None:
    """A second lookup could return another address."""
    names = Resolver(["127.0.0.1"], ["127.0.0.9"])
    async with hosting(OK) as host:
        url = f"http://files.test:{host.port}"
        async with calling(near(url), resolve=names) as client:
            for _ in range(2):
                assert await asked(client, f"{url}/x?y=z") == b"hello"

    assert names.asked == [("files.test", host.port)]
    assert host.connections == 1
    assert host.requests[0].startswith(b"GET /x?y=z HTTP/1.1\r\n")
    assert f"\r\nhost: files.test:{host.port}\r\n".encode() in host.requests[0].lower()


async def test_the_certificate_is_verified_by_name() -> None:
    """The resolver supplies only the address to dial."""
    named: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate: it ends there
    context.sni_callback = lambda _, name, __: named.append(name)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    url = f"https://files.test:{server.sockets[0].getsockname()[1]}"
    async with server, calling(near(url), resolve=Resolver(["127.0.0.1"])) as client:
        with pytest.raises(NotSent):
            await asked(client, f"{url}/x")

    assert named == ["files.test"]


async def test_the_next_address_is_tried_after_a_refused_connection() -> None:
    """Many hosts have an address that is not reachable from here."""
    async with hosting(OK) as host:
        url = f"http://files.test:{host.port}"
        names = Resolver(["127.0.0.2", "127.0.0.1"])
        async with calling(near(url), resolve=names) as client:
            assert await asked(client, url) == b"hello"


async def _no_such_host(_host: str, _port: int) -> Sequence[str]:
    raise OSError("no such host")


async def _hanging(_host: str, _port: int) -> Sequence[str]:
    await asyncio.Event().wait()
    return [PUBLIC]


@pytest.mark.parametrize(
    "resolve", [Resolver([]), Resolver(["127.0.0.2"]), _no_such_host, _hanging]
)
async def test_an_unreachable_host_is_a_retryable_failure(resolve: Any) -> None:
    """Unlike an unsafe address it may be retried, and nothing was sent."""
    url = "http://files.test:1"
    async with calling(near(url), resolve=resolve, resolve_seconds=0.01) as client:
        with pytest.raises(NotSent):
            await asked(client, url)


async def test_an_unsafe_address_is_not_resolved() -> None:
    """The shared client checks the policy first."""
    names = Resolver([PUBLIC])
    async with calling(ANY, resolve=names) as client:
        for url in BAD_URLS:
            with pytest.raises(UnsafeAddress):
                await asked(client, url)

    assert names.asked == []


async def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name itself."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async with hosting(OK) as host:
        assert await followed(host.url) == b"hello"


# Redirects and cookies


def leading_to(location: str) -> bytes:
    """Return a redirect."""
    return f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


async def test_redirects_are_followed_up_to_a_limit() -> None:
    """Relative ones too, in any language; neither compression nor cookies are requested."""
    async with hosting(leading_to("/\u00fc"), *[leading_to("/y")] * 2, OK) as host:
        content = await followed(host.url)

    assert content == b"hello"
    assert len(host.requests) == 4
    assert host.requests[1].startswith(b"GET /%C3%BC ")
    for request in map(bytes.lower, host.requests):
        assert b"accept-encoding: identity" in request
        assert b"cookie" not in request


@pytest.mark.parametrize(
    "location",
    [
        *("/x", "", "http://127.0.0.1:1/", "http://169.254.169.254/latest/"),
        *("file:///etc/passwd", "https://127.0.0.1/", "http://example.com/", "//10.0.0.1/"),
        "https://user@example.com/",
    ],
)
async def test_an_unsafe_or_endless_redirect_is_refused(location: str) -> None:
    """Each hop is checked like the first address."""
    async with hosting(leading_to(location)) as host:
        with pytest.raises(UnsafeAddress):
            await followed(host.url)

    assert len(host.requests) <= 4


async def test_cookies_are_not_sent_back() -> None:
    """Hosts must not be able to track the service."""
    async with hosting(OK) as host:
        url = f"http://files.test:{host.port}"  # by name: an IP address has no cookies
        async with calling(near(url), resolve=Resolver(["127.0.0.1"])) as client:
            for _ in range(2):
                await asked(client, url)

    assert len(host.requests) == 2
    assert b"cookie" not in host.requests[1].lower()


# What is known after a failure


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("before", [0, 1], ids=["new connection", "kept connection"])
async def test_a_request_is_sent_once(method: str, before: int) -> None:
    """A host that closes the connection may have read it: the library's own retries are off."""
    async with hosting(*[OK] * before, b"") as host, calling(near(host.url)) as client:
        for _ in range(before):
            await asked(client, host.url)
        with pytest.raises(ResponseLost):
            await asked(client, host.url, method, b"{}" if method != "GET" else b"")

    assert len(host.requests) == before + 1


@pytest.mark.parametrize("unread", [b"", OK], ids=["closed", "answers unasked"])
async def test_a_kept_connection_with_unread_data_is_not_reused(unread: bytes) -> None:
    """Closed, or with bytes that look like the next response, before the event loop sees it."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    answered, spoilt = threading.Event(), threading.Event()
    requests: list[bytes] = []

    def serve() -> None:
        with listener:
            first, _ = listener.accept()
            with first:
                requests.append(first.recv(65_536))
                first.sendall(OK)
                assert answered.wait(PATIENCE)
                if unread:
                    first.sendall(unread)
                else:
                    first.shutdown(socket.SHUT_RDWR)
                spoilt.set()
                second, _ = listener.accept()
                with second:
                    requests.append(second.recv(65_536))
                    second.sendall(OK.replace(b"hello", b"again"))

    host = threading.Thread(target=serve)
    host.start()
    async with calling(near(url)) as client:
        await asked(client, url)
        answered.set()
        spoilt.wait(PATIENCE)  # blocks the event loop, so that it sees nothing
        content = await asked(client, url, "POST", b"{}")
    await asyncio.to_thread(host.join)

    assert content == b"again"
    assert len(requests) == 2


async def test_an_unexpected_answer_is_not_taken_for_the_next() -> None:
    """The event loop has read it in the meantime."""
    visits: list[asyncio.StreamWriter] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK if len(visits) == 1 else OK.replace(b"hello", b"again"))
        await reader.read()

    async with listening(visit) as url, calling(near(url)) as client:
        await asked(client, url)
        visits[0].write(OK)
        await visits[0].drain()
        await asyncio.sleep(0.05)  # the outcome is the same if it arrives later
        assert await asked(client, url) == b"again"


def replying(*parts: bytes, reset: bool = False) -> Visit:
    """Return a handler that reads a request, sends this answer and closes the connection."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if reset:
            writer.transport.abort()

    return visit


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


HEAD = b"HTTP/1.1 200 OK\r\n"
LOST: dict[str, tuple[Visit, str]] = {
    "hangs up unread": (_reset, "cut"),
    "hangs up": (replying(), "cut"),
    "reset": (replying(reset=True), "cut"),
    "half a head": (replying(HEAD + b"content-le"), "cut"),
    "no HTTP": (replying(b"SSH-2.0-x\r\n\r\n"), "malformed"),
    "long header": (replying(HEAD + b"a: " + b"x" * (MAX_HEADER + 10) + b"\r\n\r\n"), "malformed"),
    "endless header": (replying(HEAD + b"a: ", *[b"x" * 65_536] * 100), "malformed"),
    "many headers": (replying(HEAD + b"a: b\r\n" * 400 + b"\r\n"), "malformed"),
    "two lengths": (
        replying(HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        "malformed",
    ),
    "cut": (replying(HEAD + b"content-length: 9\r\n\r\nhello"), "cut"),
    "cut by a reset": (replying(HEAD + b"content-length: 9\r\n\r\nhello", reset=True), "cut"),
    "cut chunk": (replying(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhe"), "cut"),
    "no last chunk": (replying(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"), "cut"),
    "bad chunk": (replying(HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n"), "any"),
    "silence": (_silent, "late"),
}


@pytest.mark.parametrize("name", LOST)
async def test_a_failure_after_connecting_may_have_been_received(name: str) -> None:
    """Such a failure is never reported as not sent."""
    visit, how = LOST[name]
    method = "POST" if list(LOST).index(name) % 2 else "GET"  # whatever was asked for
    read = 0.1 if how == "late" else PATIENCE
    async with listening(visit) as url, calling(near(url), read=read) as client:
        with pytest.raises(ResponseLost) as caught:
            await asked(client, url, method, b"{}" if method == "POST" else b"")

    kind = "late" if caught.value.late else "malformed" if caught.value.malformed else "cut"
    assert how in {kind, "any"}


@pytest.mark.parametrize("header", ["a\r\nb: c", "a\nb", "a\0", "\u00e9"])
async def test_an_invalid_header_sends_nothing(header: str) -> None:
    """Such as a token that was pasted with the line below it."""
    async with hosting(OK) as host, calling(near(host.url)) as client:
        with pytest.raises(NotSent, match="authorization") as caught:
            async with client.open("POST", host.url, b"{}", {"authorization": f"Bearer {header}"}):
                pass

    assert header not in str(caught.value)
    assert host.connections == 0


async def _refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")


PROXIES: dict[str, Visit] = {
    "refuses": _refusing,
    "resets": _reset,
    "hangs up": replying(),
    "nonsense": replying(b"nonsense\r\n\r\n"),
    "tunnel to nowhere": replying(HEAD + b"\r\n"),
}


@pytest.mark.parametrize("proxy", PROXIES.values(), ids=PROXIES)
async def test_a_failed_tunnel_sends_nothing(proxy: Visit) -> None:
    """The proxy refuses, closes, answers nonsense, or opens a tunnel to nowhere."""
    url = "https://10.0.0.1:9"
    async with listening(proxy) as at:
        address = at.replace("http://", "http://me:secret@")
        async with calling(near(url), proxy=address) as client:
            with pytest.raises(NotSent) as caught:
                await asked(client, url, "POST", b"{}")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "tls", [None, ssl.create_default_context()], ids=["certificates", "socket"]
)
async def test_exhausted_descriptors_are_not_an_unreachable_host(
    tls: ssl.SSLContext | None,
) -> None:
    """The fault is on this machine."""
    async with hosting(OK) as host, calling(near(host.url), tls=tls) as client:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(NotSent) as caught:
                await asked(client, host.url)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert exhaustion(caught.value) is not None


# Bodies


async def test_a_large_body_is_sent_whole() -> None:
    """A prompt may hold a picture."""
    content = bytes(range(256)) * 10_000
    async with hosting(OK) as host, calling(near(host.url)) as client:
        await asked(client, host.url, "POST", content)

    assert host.requests[0].endswith(content)
    assert host.requests[0].count(b"\r\n\r\n") >= 1


async def test_an_answer_before_the_end_of_the_request_is_read() -> None:
    """The connection still expects the rest of the request and is not reused."""
    visits = 0

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    async with listening(visit) as url, calling(near(url)) as client:
        for _ in range(2):
            assert await asked(client, url, "POST", b"x" * 20_000_000) == b"no"

    assert visits == 2


@pytest.mark.usefixtures("_full_suite")
async def test_a_large_body_is_streamed() -> None:
    """Of 200 MiB only a few are in memory."""
    piece, number = bytes(1_048_576), 200

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + f"content-length: {len(piece) * number}\r\n\r\n".encode())
        for _ in range(number):
            writer.write(piece)
            await writer.drain()

    size = 0
    async with (
        listening(visit) as url,
        calling(near(url)) as client,
        client.follow(f"{url}/film.mp4") as response,
    ):
        tracemalloc.start()
        try:
            async for chunk in response.body:
                size += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert size == len(piece) * number
    assert peak < 8 * 1_048_576
