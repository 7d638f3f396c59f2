"""Lists of the synchronous client, page by page."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from fleek.client import wire
from fleek.client.wire import ModelT

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection

PAGE: Final = 100  # items per request


def paged(
    connection: "Connection",
    path: str,
    kind: type[ModelT],
    filters: Mapping[str, Any],
    *,
    limit: int | None,
) -> Iterator[ModelT]:
    """Yield at most `limit` items of a list; pages are requested when needed."""
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        given = {"limit": size, **filters, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        answer = connection.ask("GET", path, params=params)
        page = wire.parse_list(kind, answer.value)[:size]
        yield from page
        left = None if left is None else left - len(page)
        if answer.next_cursor in {None, cursor}:  # an empty page may be followed by others
            return
        cursor = answer.next_cursor
