"""Lists of the asynchronous client, page by page."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from fleek.client import wire
from fleek.client.wire import ModelT

if TYPE_CHECKING:
    from fleek.client._async.connection import AsyncConnection

PAGE: Final = 100  # items per request


async def paged(
    connection: "AsyncConnection",
    path: str,
    kind: type[ModelT],
    filters: Mapping[str, Any],
    *,
    limit: int | None,
) -> AsyncIterator[ModelT]:
    """Yield at most `limit` items of a list; pages are requested when needed."""
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        given = {"limit": size, **filters, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        answer = await connection.ask("GET", path, params=params)
        page = wire.parse_list(kind, answer.value)[:size]
        for item in page:
            yield item
        left = None if left is None else left - len(page)
        if answer.next_cursor in {None, cursor}:  # an empty page may be followed by others
            return
        cursor = answer.next_cursor
