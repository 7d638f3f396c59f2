"""A reader of a tenant's event stream that resumes it after each interruption."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from event_reader import EventReader

PATH: Final = "/api/v1/events"
BROKEN: Final = (OSError, asyncio.IncompleteReadError, ValueError, AssertionError)
"""The process was killed, stopped or frozen, or answered with an error."""

PAUSE_SECONDS: Final = 0.2
LEAVES_AFTER: Final = 50  # events, to resume without an interruption, too


@dataclass(frozen=True, slots=True)
class Followed:
    """One received event; ``reset`` is one, too, without a job."""

    type: str
    job_id: UUID | None = None
    seq: int = 0


class Follower:
    """A thread that reads the stream until it is stopped."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self.events: list[Followed] = []
        self.resumed = 0
        self.ready = threading.Event()  # from then on no event may be missing
        self._port = port
        self._headers = headers
        self._last: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        following = asyncio.create_task(self._follow())
        while not self._over.is_set():
            await asyncio.sleep(PAUSE_SECONDS)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            with suppress(*BROKEN):
                await self._read()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self) -> None:
        async with EventReader(self._port, PATH, last=self._last, **self._headers) as stream:
            if stream.status != 200:
                return
            read = 0
            while read < LEAVES_AFTER and (event := await stream.next()) is not None:
                self._last = event.id or self._last
                if event.type == "hello":
                    self.resumed += self.ready.is_set()
                    self.ready.set()
                elif event.type == "reset":
                    self.events.append(Followed("reset"))
                elif "seq" in event.data:
                    read += 1
                    job_id, seq = UUID(event.data["id"]), event.data["seq"]
                    self.events.append(Followed(event.type, job_id, seq))
