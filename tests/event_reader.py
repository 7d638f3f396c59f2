"""A client that reads event streams like a browser, over its own connection."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """One event."""

    type: str
    id: str | None
    data: dict[str, Any]


class EventReader:
    """An open response; the end of the block disconnects."""

    def __init__(self, port: int, path: str, *, last: str | None = None, **headers: str) -> None:
        self._port = port
        given = {"Host": "localhost", **headers} | (
            {} if last is None else {"Last-Event-ID": last}
        )
        fields = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self._request = f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.comments = 0
        self.text = b""  # the part of the body that was read
        self._rest = b""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            self._writer.write(self._request)
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readuntil(b"\r\n\r\n")
        except BaseException:
            await self._close()
            raise
        status, *fields = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in fields)
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        self._writer.close()
        with suppress(OSError):  # the server ended before
            await self._writer.wait_closed()

    async def next(self) -> Received | None:
        """Return the next event; None: the response has ended properly.

        Raises:
            IncompleteReadError: The connection was cut off.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                while b"\n\n" not in self._rest:
                    if not (chunk := await self._chunk()):
                        return None
                    self._rest += chunk
                block, _, self._rest = self._rest.partition(b"\n\n")
                if (found := self._parsed(block.decode())) is not None:
                    return found

    async def until(self, event_type: str) -> list[Received]:
        """Return all events up to the first of a type."""
        found: list[Received] = []
        while not found or found[-1].type != event_type:
            one = await self.next()
            assert one is not None, found
            found.append(one)
        return found

    async def rest(self) -> list[Received]:
        """Return all events until the end."""
        found = []
        while (one := await self.next()) is not None:
            found.append(one)
        return found

    async def body(self) -> Any:
        """Return the JSON of a response that is not a stream."""
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self._reader.readexactly(int(self.headers["content-length"])))

    async def _chunk(self) -> bytes:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        data = (await self._reader.readexactly(size + 2))[:-2]
        self.text += data
        return data

    def _parsed(self, block: str) -> Received | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments += 1
            fields[name] = value.removeprefix(" ")
        if "data" not in fields:
            return None
        return Received(fields["event"], fields.get("id"), json.loads(fields["data"]))
