"""Overload is refused before any other work for a request."""

import asyncio
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from fleek.domain.job import Status
from fleek.store import listing
from in_process_service import LAST, PATIENCE, Served, Serving

HEAD: Final = (
    b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 14\r\n"
)
BODY: Final = b'\r\n{"prompt":"x"}'
POST: Final = HEAD + LAST[:-2] + BODY
LIST: Final = b"GET /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n"


async def refusals(service: Served) -> float:
    """Return how many requests were refused because of overload."""
    registry = service.rt.metrics.registry
    found = registry.get_sample_value("fleek_http_refusals_total", {"code": "overloaded"})
    return found or 0.0


def handled(lines: list[Any]) -> list[int]:
    """Return the statuses of the requests that the application has answered."""
    return [line["status"] for line in lines if line["event"] == "request_handled"]


async def logged(lines: list[Any]) -> None:
    """Wait until a request has been logged, which follows its answer."""
    async with asyncio.timeout(PATIENCE):
        while not handled(lines):
            await asyncio.sleep(0.01)


async def test_a_refused_write_does_not_reach_the_application(serving: Serving) -> None:
    """It has neither a task nor a log line: refusals are counted. Reads are answered meanwhile."""
    async with serving() as service:
        before = await refusals(service)
        service.writes.most = 0
        with capture_logs() as lines:
            refused = await service.exchange(POST)
            read = await service.exchange(LIST + LAST)
            await logged(lines)
        counted = await refusals(service) - before

    assert (refused.statuses, refused.code) == ([503], "overloaded")
    assert b"retry-after: 2\r\n" in refused.data
    assert b"connection: close\r\n" in refused.data
    assert read.statuses == [200]
    assert handled(lines) == [200]
    assert counted == 1


async def test_callbacks_are_refused_by_a_limit_of_their_own(serving: Serving) -> None:
    """Before the application sees them, as what callers write."""
    callback = b"POST /webhooks/replicate/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
    async with serving() as service:
        service.limits.callbacks.most = 0
        refused = await service.exchange(callback + b"\r\n")
        accepted = await service.exchange(POST + LAST)

    assert (refused.statuses, refused.code) == ([503], "overloaded")
    assert accepted.statuses[0] != 503


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (b"/openai/v1/images/generations", b'{"error":{"message":"The request would take more'),
        (
            b"/replicate/v1/predictions?a=b",
            b'{"title":"Service Unavailable","detail":"The request',
        ),
        (b"/fal-queue/owner/app", b'{"detail":"The request would take more'),
        (b"/%66al/owner/app", b'{"detail":"The request would take more'),
    ],
)
async def test_an_overload_response_has_the_form_of_the_service(
    serving: Serving, path: bytes, words: bytes
) -> None:
    """Its clients read the reason, and try again later."""
    async with serving() as service:
        service.writes.most = 0
        refused = await service.exchange(POST.replace(b"/api/v1/generate", path))

    assert refused.statuses == [503]
    assert words in refused.data
    assert b"content-type: application/json\r\n" in refused.data
    assert b"retry-after: 2\r\n" in refused.data
    assert b"connection: close\r\n" in refused.data


async def test_a_malformed_request_has_the_form_of_the_service(serving: Serving) -> None:
    """Once its address is known; what is wrong with the request is in its form, too."""
    async with serving() as service:
        head = b"GET /openai/v1/models HTTP/1.1\r\nHost: localhost\r\n"
        folded = await service.exchange(head + b"X-A: b\r\n c\r\n\r\n")
        crowded = await service.exchange(head + b"X-A: a\r\n" * 200 + b"\r\n")
        idle = await service.exchange(head + b"\r\nrubbish\r\n\r\n")

    assert (folded.statuses, crowded.statuses) == ([400], [431])
    for answer in (folded, crowded):
        assert b'\r\n\r\n{"error":{"message":' in answer.data
        assert b"x-should-retry: false\r\n" in answer.data
    assert idle.statuses == [200]


async def test_a_write_is_refused_before_its_body_arrives(serving: Serving) -> None:
    """A caller that sends the body afterwards can still read the refusal."""
    async with serving() as service:
        service.writes.most = 0
        caller = await service.call(HEAD + b"\r\n")
        refused = await caller.read(until=b"}")
        await caller.send(BODY)
        caller.close()

    assert refused.statuses == [503]


async def test_an_overload_response_has_cors_headers(serving: Serving) -> None:
    """Pages of allowed sites can read it."""
    async with serving(cors_origins=("https://page.example",)) as service:
        service.writes.most = 0
        origin = b"Origin: https://page.example\r\n"
        refused = await service.exchange(HEAD + origin + LAST[:-2] + BODY)

    assert (refused.statuses, refused.code) == ([503], "overloaded")
    assert b"access-control-allow-origin: https://page.example\r\n" in refused.data


@pytest.mark.parametrize("host", [b"localhost", b"evil.example"])
async def test_an_answered_write_frees_its_place(serving: Serving, host: bytes) -> None:
    """Whether the application or a layer before it has answered."""
    async with serving() as service:
        service.writes.most = 1
        answers = [
            await service.exchange(POST.replace(b"localhost", host)),
            await service.exchange(POST),
        ]
        expected = service.writes.expected

    assert [answer.statuses for answer in answers] == [
        [201 if host == b"localhost" else 400],
        [201],
    ]
    assert expected == 0


async def test_pipelined_writes_take_one_place(serving: Serving) -> None:
    """A few callers that pipeline behind a waiting request would shut out all others."""
    async with serving() as service:
        service.writes.most = 1
        waits = HEAD + b"Prefer: wait=60\r\n" + BODY
        caller = await service.call(waits + (HEAD + BODY) * 5)
        async with asyncio.timeout(PATIENCE):
            while not len(service.hub):
                await asyncio.sleep(0.01)
        other = await service.exchange(POST)
        caller.close()
        found = (await listing.page(service.rt.db, tenant_id="default", limit=10)).views

    assert other.statuses == [201]
    assert {view.job.status for view in found} == {Status.PENDING}
