"""Going through what a query finds, page by page, so that nothing stands before the rest."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

Found = TypeVar("Found")


class Walk:
    """Goes through what a query finds, a page each time, and then begins anew.

    So what cannot be dealt with now holds up nothing that comes after it.
    """

    def __init__(self, page: int) -> None:
        self._rows = page
        self._after: Any = None

    @property
    def more(self) -> bool:
        """Whether there may be another page."""
        return self._after is not None

    async def page(
        self,
        read: Callable[[Any], Awaitable[Sequence[Found]]],
        place: Callable[[Found], Any],
    ) -> Sequence[Found]:
        """Return the next page. `read` takes the place behind which it begins, or None."""
        found = await read(self._after)
        self._after = place(found[-1]) if len(found) == self._rows else None
        return found
