"""Event streams of the asynchronous client; the synchronous one is made from this folder."""

import asyncio
from collections.abc import AsyncIterator

from fleek.client._async.connection import AsyncConnection
from fleek.client.errors import ClientError
from fleek.client.events import Event, EventParser
from fleek.client.retry_policy import RetryPolicy, WaitDeadline


async def follow(
    connection: AsyncConnection, path: str, retry_policy: RetryPolicy, *, after: str | None
) -> AsyncIterator[Event]:
    """Yield the events of a stream until it has no more, whatever cuts it off meanwhile."""
    parser = EventParser(after)
    deadline = WaitDeadline(retry_policy, None)
    while not parser.done:
        try:
            async for chunk in connection.stream(path, last_event_id=parser.last):
                deadline.answered()
                for event in parser.feed(chunk):
                    yield event
        except ClientError as error:
            deadline.tolerate(error)
        parser.reconnected()
        if not parser.done:
            await asyncio.sleep(deadline.pause(None))
