"""Event streams of the synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

import time
from collections.abc import Iterator

from fleek.client._sync.connection import Connection
from fleek.client.errors import ClientError
from fleek.client.events import Event, EventParser
from fleek.client.retry_policy import RetryPolicy, WaitDeadline


def follow(
    connection: Connection, path: str, retry_policy: RetryPolicy, *, after: str | None
) -> Iterator[Event]:
    """Yield the events of a stream until it has no more, whatever cuts it off meanwhile."""
    parser = EventParser(after)
    deadline = WaitDeadline(retry_policy, None)
    while not parser.done:
        try:
            for chunk in connection.stream(path, last_event_id=parser.last):
                deadline.answered()
                yield from parser.feed(chunk)
        except ClientError as error:
            deadline.tolerate(error)
        parser.reconnected()
        if not parser.done:
            time.sleep(deadline.pause(None))
