"""Event streams of the asynchronous client; the synchronous one is made from this folder."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar

from fleek.client.errors import ClientError
from fleek.client.events import EventParser, Reader
from fleek.client.retry_policy import RetryPolicy, WaitDeadline

if TYPE_CHECKING:
    from fleek.client._async.connection import AsyncConnection

T = TypeVar("T")
Notify = Callable[[bool], None]


async def follow(
    connection: "AsyncConnection",
    path: str,
    retry_policy: RetryPolicy,
    read: Reader[T],
    *,
    after: str | None,
    on_connection: Notify | None = None,
) -> AsyncIterator[T]:
    """Yield the events of a stream until it has no more, whatever cuts it off meanwhile."""
    parser = EventParser(after, read)
    deadline = WaitDeadline(retry_policy, None)
    notify = on_connection or _ignore
    while not parser.done:
        connected = False
        try:
            async for chunk in connection.stream(path, last_event_id=parser.last):
                deadline.answered()
                if not connected:
                    connected = True
                    notify(True)  # noqa: FBT003 - the one thing that it says
                for event in parser.feed(chunk):
                    yield event
        except ClientError as error:
            deadline.tolerate(error)
        parser.reconnected()
        if not parser.done:
            notify(False)  # noqa: FBT003 - see above
            await asyncio.sleep(deadline.pause(None))


def _ignore(_: bool) -> None:  # noqa: FBT001 - a `Notify`
    """Ignore the state of the connection."""
