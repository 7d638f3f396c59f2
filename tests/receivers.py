"""Receivers of webhooks on loopback, with scripted responses and a record of requests."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from listening import listening
from service_process import PATIENCE

OK = b"HTTP/1.1 204 No Content\r\n\r\n"

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


def status(code: int, **headers: str) -> bytes:
    """Return a response without a body; an underscore in a header's name is a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {code} X", "content-length: 0", *lines, "", ""]).encode()


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Return the id of the message."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)

    @property
    def type(self) -> str:
        """Return the type of the event."""
        return str(self.event["type"])


@dataclass
class Receiver:
    """Answer each request with the next response; the last one is repeated."""

    answers: list[bytes | Script]
    url: str = ""
    received: list[Received] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            answer = self.answers[min(len(self.received), len(self.answers) - 1)]
            async with self._arrived:
                self.received.append(Received(headers, body))
                self._arrived.notify_all()
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)

    async def wait_for(self, number: int) -> None:
        """Wait until this many requests have arrived."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= number)

    @property
    def types(self) -> list[str]:
        """Return the types of all events, in their order."""
        return [received.type for received in self.received]


@asynccontextmanager
async def receiving(*answers: bytes | Script) -> AsyncGenerator[Receiver]:
    """Run a receiver; without responses it accepts everything."""
    receiver = Receiver(list(answers) or [OK])
    async with listening(receiver.visit) as base:
        receiver.url = f"{base}/hook?token=t"
        yield receiver
