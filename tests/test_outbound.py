"""The guard before addresses that others name: what it refuses, and that nothing gets past it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import httpx2
import pytest

from fleek.outbound import (
    AllowedHost,
    GuardedTransport,
    Policy,
    UnsafeAddress,
    matches,
    open_client,
    open_stream,
    parse,
    public,
    resolve,
)
from listening import listening, port_of
from service import PATIENCE

ANY = Policy(ports=frozenset({80, 443}))
PUBLIC = "93.184.216.34"

BAD_URLS = [
    *("http://127.0.0.1", "https://127.0.0.1", "https://localhost", "https://localhost."),
    *("https://[::1]", "https://0/", "https://0.0.0.0"),
    *("https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://017700000001/"),
    *("https://127.1/", "https://127.0.0.1./", "https://1.1.1.1/", "https://0x7f000001/"),
    *("https://①②⑦.⓪.⓪.①/", "https://%31%32%37.0.0.1/", "https://a.0x/"),
    *("https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/"),
    "https://[0:0:0:0:0:ffff:169.254.169.254]/",
    *("https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::]/", "https://[::127.0.0.1]/"),
    *("https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/", "https://[fec0::1]/"),
    *("https://169.254.169.254/latest/meta-data/", "https://100.100.100.200/"),
    *("https://redis/", "https://postgres:443/", "https://metadata/"),
    *("https://good.com\\@127.0.0.1/", "https://user:pw@example.com/", "https://@example.com@x/"),
    *("https://good.com#@127.0.0.1/", "https://1.1.1.1 &@2.2.2.2# @3.3.3.3/"),
    *("file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "dict://example.com/"),
    *("jar:https://example.com!/", "data:text/html,x", "javascript:alert(1)", "//example.com/"),
    *("https:127.0.0.1", "https:///h", "https://", "", "example.com", "http://example.com/"),
    *("https://example.com:0/", "https://example.com:22/", "https://example.com:6379/"),
    *("https://example.com:99999/", "https://example.com:x/"),
    *("https://exa\r\nmple.com/", "https://example.com/\tx", "https://example.com/\0"),
    *("https://example.com%0d%0a/", "https://example.com/" + "x" * 3000),
    *("https://ex\u0430mple.com/", "https://xn--.com/", "https://-a.com/", "https://a..com/"),
    *("https://.example.com/", "https://example.com./", "https://" + "a" * 64 + ".com/"),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_may_lead_inside_is_refused(url: str) -> None:
    """By its form alone, before anybody is asked where it leads."""
    with pytest.raises(UnsafeAddress):
        parse(url, ANY)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://EXAMPLE.com/x.png?a=b%20c",
        "https://a-b_c.example.co.uk:443/",
        "https://xn--bcher-kva.example/",
        "https://example.com:80/",
    ],
)
def test_an_ordinary_address_passes(url: str) -> None:
    """With its query, in any case, on a port that is listed."""
    assert parse(url, ANY) == httpx2.URL(url)


def test_the_refusal_does_not_repeat_the_address() -> None:
    """It may hold a secret, and the message is shown."""
    with pytest.raises(UnsafeAddress) as caught:
        parse("https://user:secret@example.com/", ANY)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "pattern", "fitting"),
    [
        ("example.com", "example.com", True),
        ("a.example.com", "example.com", False),
        ("a.example.com", "*.example.com", True),
        ("a.b.example.com", "*.example.com", True),
        ("example.com", "*.example.com", True),
        ("notexample.com", "*.example.com", False),
        ("example.com.evil", "*.example.com", False),
    ],
)
def test_patterns(*, host: str, pattern: str, fitting: bool) -> None:
    """A star stands for any number of names, and for none."""
    assert matches(host, pattern) is fitting


@pytest.mark.parametrize(
    "ip",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.5", "172.16.0.1", "192.168.1.1"),  # noqa: S104 - no server listens there
        *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
        *("198.18.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1", "168.63.129.16"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "192.88.99.1", "100::1"),
        "5f00::1",
    ],
)
def test_these_are_not_public(ip: str) -> None:
    """Here, there, or in disguise."""
    assert not public(ip)


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "1.1.1.1", PUBLIC, "2606:4700::1111", "2a00:1450:4001:81b::200e"]
)
def test_these_are_public(ip: str) -> None:
    """In both families."""
    assert public(ip)


class Names:
    """A resolver with answers of its own, which counts the questions."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Give the next answer; the last one for ever."""
        self.asked.append((host, port))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class Inner(httpx2.AsyncBaseTransport):
    """Stands in for the network: remembers what would have been dialled."""

    def __init__(self, *, refusing: Sequence[str] = ()) -> None:
        self.dialled: list[str] = []
        self.requests: list[httpx2.Request] = []
        self._refusing = refusing

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer 200, or refuse the connection."""
        self.dialled.append(request.url.host)
        if request.url.host in self._refusing:
            raise httpx2.ConnectError("refused")
        self.requests.append(request)
        return httpx2.Response(200, text="hello")


@asynccontextmanager
async def run_logged(
    names: Names, inner: httpx2.AsyncBaseTransport
) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client whose network is `inner`."""
    transport = GuardedTransport(ANY, resolve=names, inner=inner)
    async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    "answer",
    [["10.0.0.5"], [PUBLIC, "10.0.0.5"], ["10.0.0.5", PUBLIC], ["2606:4700::1111", "::1"]],
)
async def test_a_name_with_a_private_address_is_refused(answer: list[str]) -> None:
    """One is enough: which of them would be dialled is chance."""
    inner = Inner()

    async with run_logged(Names(answer), inner) as client:
        with pytest.raises(UnsafeAddress):
            await client.get("https://example.com/")

    assert inner.dialled == []


async def test_the_name_is_looked_up_exactly_once() -> None:
    """Who answers differently the second time is never asked a second time."""
    names, inner = Names([PUBLIC], ["127.0.0.1"]), Inner()

    async with run_logged(names, inner) as client:
        await client.get("https://example.com/")

    assert names.asked == [("example.com", 443)]
    assert inner.dialled == [PUBLIC]


async def test_the_name_stays_in_host_and_certificate() -> None:
    """Only the address that is dialled is ours."""
    inner = Inner()

    async with run_logged(Names(["2606:4700::1111"]), inner) as client:
        await client.get("https://example.com:443/x?y=z")

    (request,) = inner.requests
    assert request.headers["host"] == "example.com"
    assert request.extensions["sni_hostname"] == "example.com"
    assert request.url.raw_path == b"/x?y=z"


async def test_the_next_address_is_tried_if_one_takes_no_connection() -> None:
    """Half of the internet has an address that does not work from here."""
    inner = Inner(refusing=["2606:4700::1111"])

    async with run_logged(Names(["2606:4700::1111", PUBLIC]), inner) as client:
        response = await client.get("https://example.com/")

    assert response.text == "hello"
    assert inner.dialled == ["2606:4700::1111", PUBLIC]


@pytest.mark.parametrize("answer", [[], ["2606:4700::1111"]], ids=["no address", "refused"])
async def test_nobody_there_is_an_ordinary_failure(answer: list[str]) -> None:
    """It may be tried again, other than an unsafe address."""
    async with run_logged(Names(answer), Inner(refusing=answer)) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("https://example.com/")


async def test_a_name_that_cannot_be_found_is_an_ordinary_failure() -> None:
    """The resolver's own error does not get out."""

    async def broken(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such host")

    transport = GuardedTransport(ANY, resolve=broken, inner=Inner())

    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("https://example.com/")


async def test_a_resolver_that_hangs_is_given_up() -> None:
    """Whoever owns the name decides how long it takes."""

    async def hanging(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    transport = GuardedTransport(ANY, resolve=hanging, inner=Inner(), patience=0.01)

    async with httpx2.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx2.ConnectTimeout):
            await client.get("https://example.com/")


@pytest.mark.parametrize("url", BAD_URLS[:20])
async def test_the_client_itself_refuses_what_was_not_parsed(url: str) -> None:
    """Nobody can forget to ask."""
    names, inner = Names([PUBLIC]), Inner()

    async with run_logged(names, inner) as client:
        with pytest.raises((UnsafeAddress, httpx2.HTTPError, httpx2.InvalidURL)):
            await client.get(url)

    assert inner.dialled == []
    assert names.asked == []


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Run a server that gives these answers in turn; gives its port and what it heard."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answers[min(len(heard), len(answers)) - 1])
        await writer.drain()
        writer.close()

    async with listening(answer) as url:
        yield port_of(url), heard


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nset-cookie: a=b\r\n\r\nhello"


def leading_to(location: str) -> bytes:
    """Return an answer that redirects."""
    return f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


def near(port: int) -> Policy:
    """Return a policy that allows one port of this machine, as an operator may."""
    return Policy(patterns=(), named=(AllowedHost("127.0.0.1", port, plain=True),))


async def fetched(port: int) -> bytes:
    """Return what the server gives at last."""
    policy = near(port)
    async with (
        open_client(policy, timeout=httpx2.Timeout(PATIENCE)) as client,
        open_stream(client, f"http://127.0.0.1:{port}/x", policy) as response,
    ):
        return await response.aread()


async def test_the_guard_is_really_in_the_way() -> None:
    """A canary: the client that everybody uses dials nothing that its policy forbids."""
    async with serving(OK) as (port, heard):
        url = f"http://127.0.0.1:{port}/x"
        async with open_client(ANY, timeout=httpx2.Timeout(PATIENCE)) as client:
            with pytest.raises(UnsafeAddress):
                await client.get(url)

    assert heard == []


async def test_a_host_that_the_operator_named_may_be_private() -> None:
    """Compression is not asked for, and cookies are not kept."""
    async with serving(OK) as (port, heard):
        content = await fetched(port)

    assert content == b"hello"
    assert b"accept-encoding: identity" in heard[0].lower()
    assert b"cookie" not in heard[0].lower()


async def test_redirects_are_followed_up_to_a_limit() -> None:
    """Relative ones too."""
    async with serving(*[leading_to("/y")] * 3, OK) as (port, heard):
        content = await fetched(port)

    assert content == b"hello"
    assert len(heard) == 4


@pytest.mark.parametrize(
    "location",
    [
        "/x",
        "",
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/",
        "file:///etc/passwd",
        "https://127.0.0.1/",
        "http://example.com/",
        "//10.0.0.1/",
        "https://user@example.com/",
    ],
)
async def test_a_redirect_elsewhere_or_without_end_is_refused(location: str) -> None:
    """Each hop is checked as if it were the first."""
    async with serving(leading_to(location)) as (port, heard):
        with pytest.raises(UnsafeAddress):
            await fetched(port)

    assert len(heard) <= 4


async def test_cookies_of_one_answer_do_not_go_with_the_next_request() -> None:
    """Hosts must not be able to follow us around."""
    async with serving(OK) as (port, heard):
        policy = near(port)
        async with open_client(policy, timeout=httpx2.Timeout(PATIENCE)) as client:
            for _ in range(2):
                async with open_stream(client, f"http://127.0.0.1:{port}/x", policy) as response:
                    await response.aread()

    assert len(heard) == 2
    assert b"cookie" not in heard[1].lower()


async def test_the_systems_resolver_gives_each_address_once() -> None:
    """An address in figures is its own."""
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look up the name itself."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async with serving(OK) as (port, _):
        assert await fetched(port) == b"hello"
