"""The open event streams of one process: how many there may be, and who may keep one."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from fleek.api.peers import Peers
from fleek.domain.access import Caller
from fleek.domain.errors import TooManyStreams
from fleek.engine.access import is_current
from fleek.engine.loops import Bell, run_logged
from fleek.engine.runtime import Runtime
from fleek.engine.tenants import find_tenant

MOST_PER_KEY: Final = 20
MOST_PER_PEER: Final = 50
LONGEST_SECONDS: Final = 3600.0  # then the caller opens another
CHECK_SECONDS: Final = 0.5  # between two checks of the keys, which must end within a second


class Stream:
    """An open stream. Its bell rings when there may be something new, and when it is closed."""

    def __init__(self, caller: Caller, peer: str) -> None:
        self.caller = caller
        self.peer = peer
        self.bell = Bell()
        self.closed = False  # whether it must end now

    def close(self) -> None:
        """Let it end: nothing is sent any more."""
        self.closed = True
        self.bell.notify()


class Streams:
    """All open streams of one process."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._proxies = Peers(rt.settings.forwarded_allow_ips)  # without a limit per peer
        self._open: set[Stream] = set()
        self._keys: Counter[str] = Counter()
        self._peers: Counter[str] = Counter()
        self._checking: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self, caller: Caller, client: tuple[str, int] | None) -> Iterator[Stream]:
        """Count a stream for as long as the block runs.

        Raises:
            TooManyStreams: There are too many: of this key, of this address or in all.
        """
        stream = Stream(caller, client[0] if client else "")
        self._check_room(stream)
        self._count(stream, 1)
        ending = asyncio.get_running_loop().call_later(LONGEST_SECONDS, stream.close)
        self._start()
        try:
            yield stream
        finally:
            ending.cancel()
            self._count(stream, -1)

    def close(self) -> None:
        """End all of them: the process stops."""
        self._closing = True
        for stream in self._open:
            stream.close()

    def _check_room(self, stream: Stream) -> None:
        if self._closing:
            raise TooManyStreams("this process is stopping: open the stream again")
        if len(self._open) >= self._rt.settings.max_streams:
            raise TooManyStreams("this process has too many event streams")
        key = stream.caller.key_id
        if key is not None and self._keys[key] >= MOST_PER_KEY:
            raise TooManyStreams(f"a key may have {MOST_PER_KEY} event streams")
        if self._peers[stream.peer] >= MOST_PER_PEER and stream.peer not in self._proxies:
            raise TooManyStreams(f"an address may have {MOST_PER_PEER} event streams")

    def _count(self, stream: Stream, step: int) -> None:
        (self._open.add if step > 0 else self._open.discard)(stream)
        for counter, name in ((self._keys, stream.caller.key_id), (self._peers, stream.peer)):
            if name is not None:
                counter[name] += step
                if not counter[name]:
                    del counter[name]

    def _start(self) -> None:
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_while_open())

    async def _check_while_open(self) -> None:
        """Close the streams of keys that have been revoked or have expired, or whose tenant is disabled.

        And those without a key, once callers need one.
        """
        try:
            while self._open and not self._closing:
                for caller in {stream.caller for stream in self._open}:
                    current = await run_logged(
                        self._rt, "events", partial(self._may_follow, caller)
                    )
                    if current is False:  # None: it cannot be found out now
                        self._close_of(caller)
                await asyncio.sleep(CHECK_SECONDS)
        finally:
            self._checking = None

    async def _may_follow(self, caller: Caller) -> bool:
        tenant = await find_tenant(self._rt, caller.tenant_id)
        enabled = tenant is None or tenant.enabled
        return enabled and (caller.by_address or await is_current(self._rt, caller))

    def _close_of(self, caller: Caller) -> None:
        for stream in self._open:
            if stream.caller == caller:
                stream.close()
