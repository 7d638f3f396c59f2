"""Connections have deadlines and a limit; the service answers despite misbehaving callers."""

import asyncio
from datetime import timedelta

import pytest

from fleek.front.connections import FREE_BYTES
from in_process_service import LAST, LIVE, PATIENCE, Caller, Served, Serving

HEAD = b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CONTINUE = 100
SOON = timedelta(seconds=0.3)
NEVER = timedelta(hours=1)
CROWD = 300


async def crowd_of(service: Served, data: bytes, number: int = CROWD) -> list[Caller]:
    """Open this many connections, and send the same data on each."""
    return [await service.call(data) for _ in range(number)]


def hang_up(crowd: list[Caller]) -> None:
    """Close all connections."""
    for caller in crowd:
        caller.close()


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"", []),
        (b"\r\n\r\n", []),
        (b"GET /liv", [408]),
        (LIVE, [408]),
        (LIVE + b"X-A: " + b"a" * 20_000, [408]),
    ],
    ids=["silent", "empty lines", "half a line", "half a head", "half a long head"],
)
async def test_an_incomplete_request_head_times_out(
    serving: Serving, data: bytes, statuses: list[int]
) -> None:
    """Other callers are served meanwhile."""
    async with serving(request_header_seconds=SOON, keep_alive_seconds=SOON) as service:
        crowd = await crowd_of(service, data)
        other = await service.exchange(LIVE + LAST)

        found = await asyncio.gather(*(caller.read() for caller in crowd))
        hang_up(crowd)

    assert other.statuses == [200]
    assert [answer.statuses for answer in found] == [statuses] * CROWD


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["length", "expect", "chunks"],
)
async def test_an_incomplete_body_times_out(serving: Serving, data: bytes) -> None:
    """Memory is not held forever. On a busy machine that may be before the body is asked for."""
    async with serving(request_body_seconds=SOON) as service:
        answer = await service.exchange(data)

    assert [status for status in answer.statuses if status != CONTINUE] == [408]
    assert answer.code == "request_timeout"


async def test_a_body_is_asked_for(serving: Serving) -> None:
    """Some clients, such as curl, wait for that before they send a large one."""
    request = HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n[]"

    async with serving() as service:
        answer = await service.exchange(request)

    assert answer.statuses == [CONTINUE, 422]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_trickle_does_not_extend_the_deadline(serving: Serving) -> None:
    """Single bytes do not keep a connection open."""
    async with serving(request_header_seconds=SOON) as service:
        caller = await service.call(LIVE + b"X-A: ")
        answered = asyncio.create_task(caller.read())
        while not answered.done():
            await caller.send(b"a")
            await asyncio.sleep(0.01)
        caller.close()

    assert answered.result().statuses == [408]


async def test_an_idle_connection_is_closed(serving: Serving) -> None:
    """The time counts from its last response."""
    async with serving(keep_alive_seconds=SOON, request_header_seconds=NEVER) as service:
        answer = await service.exchange(LIVE + b"\r\n")

    assert answer.statuses == [200]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_slow_readers_are_disconnected(serving: Serving) -> None:
    """The unsent responses are discarded."""
    page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serving(response_stall_seconds=SOON, keep_alive_seconds=NEVER) as service:
        caller = await service.call(page * 32)
        sending = asyncio.create_task(caller.send(page * 100_000))  # more than any buffer takes

        await sending
        caller.close()

    assert not sending.cancelled()


async def test_silent_connections_are_closed_first(serving: Serving) -> None:
    """They block neither new callers nor one whose requests are complete."""
    async with serving(max_connections=20, request_header_seconds=NEVER) as service:
        regular = await service.call(LIVE + b"\r\n")
        await regular.read(until=b"}")
        crowd = await crowd_of(service, LIVE)
        other = await service.exchange(LIVE + LAST)
        await regular.send(LIVE + LAST)
        again = await regular.read()
        hang_up([*crowd, regular])

    assert other.statuses == [200]
    assert again.statuses == [200]


async def test_connections_per_peer_are_limited(serving: Serving) -> None:
    """A trusted proxy is exempt, because it forwards for many."""
    async with serving(forwarded_allow_ips=(), max_connections_per_peer=2) as service:
        crowd = await crowd_of(service, LIVE, 2)
        refused = await service.exchange(b"")
        hang_up(crowd)
    async with serving(
        forwarded_allow_ips=("127.0.0.0/8",), max_connections_per_peer=2
    ) as service:
        crowd = await crowd_of(service, LIVE, 2)
        served = await service.exchange(LIVE + LAST)
        hang_up(crowd)

    assert (refused.statuses, refused.code) == ([503], "server_busy")
    assert b"retry-after: " in refused.data
    assert served.statuses == [200]


async def test_request_bodies_have_a_memory_budget(serving: Serving) -> None:
    """Beyond it large bodies are refused, and small ones are not."""
    half = 100_000
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (2 * half)
    body = b'{"prompt":"x"}'
    budget = 5 * (half - FREE_BYTES)
    async with serving(max_held_body_bytes=budget, request_body_seconds=NEVER) as service:
        held = await crowd_of(service, head + b" " * half, 12)
        answers = [asyncio.create_task(caller.read()) for caller in held]
        async with asyncio.timeout(PATIENCE):
            while sum(answer.done() for answer in answers) < 7:
                await asyncio.sleep(0.01)
        ordinary = await service.exchange(
            HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        refused = [answer.result() for answer in answers if answer.done()]
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        hang_up(held)
        large = HEAD + b"Content-Length: %d\r\n" % (half + 14) + LAST + body + b" " * half
        async with asyncio.timeout(PATIENCE):
            while (await service.exchange(large)).statuses != [201]:  # until the others are closed
                pass

    assert len(refused) == 7
    assert {(*answer.statuses, answer.code) for answer in refused} == {(503, "server_busy")}
    assert ordinary.statuses == [201]
