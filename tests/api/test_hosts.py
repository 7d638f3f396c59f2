"""Accepted host names, and pages that may send changes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from fleek.app import create_app
from fleek.domain.errors import ConfigurationError
from fleek.engine.runtime import Runtime
from fleek.environment import read
from fleek.settings import Settings

SOCKET: Final = ("10.1.2.3", 8000)  # where the service listens
SETTINGS: Final = {
    "public_url": "https://fleek.example/prefix",
    "storage_base_url": "https://media.example",
    "allowed_hosts": ("api.example.com", "*.inner.example", "fd00::7"),
    "cors_origins": ("https://app.example",),
}

OURS: Final = (
    *("127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "[::1]"),
    *("fleek.example", "fleek.example:443", "media.example", "Api.Example.com:1"),
    *("a.inner.example", "a.b.inner.example", "[fd00::7]"),
    *("10.1.2.3", "10.1.2.3:8000", "[::ffff:10.1.2.3]"),  # probes use the address
)
OTHERS: Final = (
    *("evil.example", "localhost.evil.example", "fleek.example.evil.example", "inner.example"),
    *(
        "10.1.2.4",
        "127.1",
        "2130706433",
        "0x7f.1",
        "127.0.0.1.evil.example",
        "[fd00::8]",
        "0.0.0.0",  # noqa: S104 - in a header, not bound
    ),
    *("", " ", "a b", "localhost:port", "localhost:1:2", "x@localhost", "localhost/", "foo/bar?x"),
    *("http://localhost", "localhost,localhost", "[::1", "::1", "[]", "localhost#", "*", "."),
    "a" * 300,
)


async def ask(
    rt: Runtime, headers: list[tuple[bytes, bytes]], method: str = "GET", path: str = "/livez"
) -> tuple[int, bytes]:
    """Send a request with any Host header, and return status and body."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "server": SOCKET,
        "client": ("10.1.2.9", 1),
    }
    settings = rt.settings.model_copy(update=SETTINGS)
    await create_app(replace(rt, settings=settings))(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


async def test_own_host_names_are_accepted(rt: Runtime, subtests: pytest.Subtests) -> None:
    """Loopback, the settings' hosts, and the address of the socket itself."""
    for host in OURS:
        with subtests.test(host=str(host)[:40]):
            status, _ = await ask(rt, [(b"host", host.encode())])

            assert status == 200


async def test_any_other_host_is_refused(rt: Runtime, subtests: pytest.Subtests) -> None:
    """Otherwise any page could read prompts through a name that resolves to this service."""
    for host in OTHERS:
        with subtests.test(host=str(host)[:40]):
            status, body = await ask(rt, [(b"host", host.encode())])

            assert status == 400
            assert b'"code":"unknown_host"' in body
            if host == "evil.example":
                assert b"ALLOWED_HOSTS" in body


async def test_exactly_one_host_is_required(rt: Runtime, subtests: pytest.Subtests) -> None:
    """Two parsers could choose different ones."""
    for hosts in [[], [b"localhost", b"localhost"], [b"localhost", b"evil.example"]]:
        with subtests.test(hosts=str(hosts)[:40]):
            status, body = await ask(rt, [(b"host", host) for host in hosts])

            assert status == 400
            assert b'"code":"unknown_host"' in body


async def test_an_unknown_host_is_refused_before_routing(rt: Runtime) -> None:
    """Responses reveal no paths."""
    found = {
        await ask(rt, [(b"host", b"evil.example")], path=path)
        for path in ("/", "/nothing", "/api/v1/jobs", "/docs")
    }

    assert {status for status, _ in found} == {400}


REFUSED: Final[Mapping[str, Mapping[str, str]]] = {
    "a page elsewhere": {"origin": "https://evil.example"},
    "a page without an origin": {"origin": "null"},
    "no page at all": {"origin": ""},
    "another port of this machine": {"origin": "http://localhost:3000"},
    "our name as a part of theirs": {"origin": "https://fleek.example.evil.example"},
    "an old browser's form": {"sec-fetch-site": "cross-site"},
    "a neighbour's page": {"sec-fetch-site": "same-site"},
    "a password that the browser knows": {
        "origin": "https://evil.example",
        "authorization": "Basic eDp5",
    },
}
ALLOWED: Final[Mapping[str, Mapping[str, str]]] = {
    "no browser": {},
    "the user himself": {"sec-fetch-site": "none"},
    "our own page": {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"},
    "our own page behind a proxy": {
        "origin": "https://fleek.example",
        "sec-fetch-site": "same-origin",
    },
    "a page that is allowed": {"origin": "https://app.example", "sec-fetch-site": "cross-site"},
    "a caller with a key": {"origin": "https://evil.example", "authorization": "Bearer x"},
    "a caller with another key": {"origin": "https://evil.example", "x-api-key": "x"},
}


async def test_foreign_pages_cannot_send_changes(rt: Runtime, subtests: pytest.Subtests) -> None:
    """A form needs no permission to be sent, and `/retry` costs money."""
    for action in ["POST /generate", "POST /api/v1/jobs/x/retry", "DELETE /api/v1/jobs/x"]:
        for headers in REFUSED.values():
            with subtests.test(action=str(action)[:40], headers=str(headers)[:40]):
                method, _, path = action.partition(" ")
                given = [
                    (b"host", b"localhost:8000"),
                    *((name.encode(), value.encode()) for name, value in headers.items()),
                ]

                status, body = await ask(rt, given, method, path)

                assert status == 403
                assert b'"code":"cross_site_request"' in body


@pytest.mark.parametrize("headers", ALLOWED.values(), ids=ALLOWED.keys())
async def test_other_callers_may_send_changes(rt: Runtime, headers: Mapping[str, str]) -> None:
    """Programs, the service's own pages, configured pages and callers with a key."""
    given = [
        (b"host", b"localhost:8000"),
        *((name.encode(), value.encode()) for name, value in headers.items()),
    ]

    status, _ = await ask(
        rt, given, "POST", "/api/v1/jobs/0198f000-0000-7000-8000-000000000001/cancel"
    )

    assert status == 404


async def test_reads_are_left_to_cors(rt: Runtime, subtests: pytest.Subtests) -> None:
    """A browser does not show the response to a foreign page."""
    for headers in REFUSED.values():
        with subtests.test(headers=str(headers)[:40]):
            given = [
                (b"host", b"localhost"),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ]

            status, _ = await ask(rt, given)

            assert status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allowed_hosts", "https://x.example"),
        ("allowed_hosts", "x.example:80"),
        ("allowed_hosts", "*"),
        ("allowed_hosts", "a.*.example"),
        ("forwarded_allow_ips", "proxy"),
        ("public_url", "x.example"),
        ("public_url", "https://user:pw@x.example"),
        ("public_url", "https://x.example/?a=b"),
        ("storage_base_url", "ftp://x.example"),
    ],
)
def test_an_unusable_host_setting_is_refused(name: str, value: str) -> None:
    """At the start, instead of refusing every request."""
    with pytest.raises(ConfigurationError, match=name.upper()):
        read(Settings, **{name: value})
