"""Event streams of the synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from fleek.client.errors import ClientError
from fleek.client.events import EventParser, Reader
from fleek.client.retry_policy import RetryPolicy, WaitDeadline

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection

T = TypeVar("T")
Notify = Callable[[bool], None]


def follow(
    connection: "Connection",
    path: str,
    retry_policy: RetryPolicy,
    read: Reader[T],
    *,
    after: str | None,
    on_connection: Notify | None = None,
) -> Iterator[T]:
    """Yield the events of a stream until it has no more, whatever cuts it off meanwhile."""
    parser = EventParser(after, read)
    deadline = WaitDeadline(retry_policy, None)
    notify = on_connection or _ignore
    while not parser.done:
        connected = False
        try:
            for chunk in connection.stream(path, last_event_id=parser.last):
                deadline.answered()
                if not connected:
                    connected = True
                    notify(True)  # noqa: FBT003 - the one thing that it says
                yield from parser.feed(chunk)
        except ClientError as error:
            deadline.tolerate(error)
        parser.reconnected()
        if not parser.done:
            notify(False)  # noqa: FBT003 - see above
            time.sleep(deadline.pause(None))


def _ignore(_: bool) -> None:  # noqa: FBT001 - a `Notify`
    """Ignore the state of the connection."""
