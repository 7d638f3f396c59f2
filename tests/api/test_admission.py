"""Admission control: under overload, writes are refused at once instead of slowing all down."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fleek.api.admission import FEWEST, IN_TIME, TICKET, Admission, Limit, WriteLimits
from fleek.store.batcher import arrived_at

LIMIT = 60  # seconds; no test waits for time to pass


class ManualClock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


class Server:
    """Holds writes until the gate opens; reads are answered at once."""

    def __init__(self, *, first: int) -> None:
        self.gate = asyncio.Event()
        self.arrivals: list[float | None] = []  # of the writes
        self.clock = ManualClock()
        self.limit = Limit(first=first, clock=self.clock)
        self.app = Admission(
            Starlette(
                routes=[
                    Route("/write", self.write, methods=["POST", "DELETE"]),
                    Route("/webhooks/one", self.write, methods=["POST"]),
                    Route("/read", self.read),
                ]
            ),
            limits=WriteLimits(self.limit, Limit(first=first, clock=self.clock)),
        )

    async def write(self, request: Request) -> Response:
        """Read the whole body, and hold the response."""
        await request.body()
        self.arrivals.append(arrived_at.get())
        await self.gate.wait()
        return PlainTextResponse("done")

    async def read(self, _request: Request) -> Response:
        """Respond at once."""
        return PlainTextResponse("here")

    def caller(self) -> httpx2.AsyncClient:
        """Return a client."""
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://fleek")

    async def until_under_way(self, number: int) -> None:
        """Wait until a number of writes are in progress."""
        async with asyncio.timeout(LIMIT):
            while self.limit.under_way != number:
                await asyncio.sleep(0)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_writes_beyond_the_limit_are_refused_and_reads_are_not(method: str) -> None:
    """The refusal comes at once, with a time for the next try."""
    server = Server(first=3)
    async with server.caller() as caller:
        taken = [asyncio.create_task(caller.request(method, "/write")) for _ in range(3)]
        await server.until_under_way(3)

        refused = await caller.request(method, "/write")
        read = await caller.get("/read")
        server.gate.set()

        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        assert read.status_code == 200
        assert [one.status_code for one in await asyncio.gather(*taken)] == [200] * 3
        assert (await caller.request(method, "/write")).status_code == 200
    assert server.limit.under_way == 0


async def test_callbacks_and_callers_do_not_take_each_other_s_room() -> None:
    """A hundred predictions that end at once must not keep anybody from submitting jobs."""
    server = Server(first=1)
    async with server.caller() as caller:
        callback = asyncio.create_task(caller.post("/webhooks/one"))
        async with asyncio.timeout(LIMIT):
            while not server.arrivals:
                await asyncio.sleep(0)
        written = asyncio.create_task(caller.post("/write"))
        await server.until_under_way(1)

        refused = [(await caller.post(path)).status_code for path in ("/write", "/webhooks/one")]
        server.gate.set()

        assert refused == [503, 503]
        assert [(await one).status_code for one in (callback, written)] == [200, 200]


async def test_a_slow_sender_occupies_no_place() -> None:
    """A few hundred of them would block all other callers."""
    server, begun, sent = Server(first=1), asyncio.Event(), asyncio.Event()
    server.gate.set()

    async def slowly() -> AsyncGenerator[bytes]:
        yield b"{"
        begun.set()
        await sent.wait()
        yield b"}"

    async with server.caller() as caller:
        slow = asyncio.create_task(caller.post("/write", content=slowly()))
        async with asyncio.timeout(LIMIT):
            await begun.wait()

        quick = await caller.post("/write")
        sent.set()

        assert quick.status_code == 200
        assert (await slow).status_code == 200


async def test_a_ticket_counts_until_its_write_has_started() -> None:
    """All requests of one turn of the loop are admitted or refused before any of them starts."""
    server = Server(first=2)
    limit = server.limit
    tickets = [limit.ticket(), limit.ticket()]
    assert limit.ticket() is None

    for ticket in tickets:
        assert ticket is not None
        ticket.close()
        ticket.close()

    assert limit.expected == 0
    assert limit.admits()


async def test_a_write_with_a_ticket_is_not_refused_again() -> None:
    """Even if the limit has decreased since; from then on it counts as in progress."""
    server = Server(first=1)
    ticket = server.limit.ticket()
    assert ticket is not None
    limited = server.app

    async def ticketed(scope: Any, receive: Any, send: Any) -> None:
        await limited({**scope, TICKET: ticket}, receive, send)

    server.app = ticketed  # type: ignore[assignment]  # an application, too
    server.limit.most = 0
    async with server.caller() as caller:
        asked = asyncio.create_task(caller.post("/write"))
        await server.until_under_way(1)
        expected = server.limit.expected
        server.gate.set()

        assert (await asked).status_code == 200
    assert expected == 0
    assert server.arrivals == [ticket.arrived_at]


def test_the_limit_follows_the_durations() -> None:
    """It decreases once per overload, and increases only when it was reached."""
    clock = ManualClock()
    limit = Limit(first=100, clock=clock)

    for _ in range(50):
        limit.ended(2 * IN_TIME)
    assert limit.most == pytest.approx(70)
    for _ in range(50):
        limit.ended(IN_TIME / 2)
    assert limit.most == pytest.approx(70)
    limit.under_way = 70
    for _ in range(50):
        assert not limit.admits()
        limit.ended(IN_TIME / 2)
        limit.under_way = int(limit.most)
    assert limit.most > 100
    for seconds in range(100):
        clock.seconds = seconds
        limit.ended(2 * IN_TIME)
    assert limit.most == FEWEST
