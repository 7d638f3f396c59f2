"""A line on stderr when a server is slow, so that silence has a reason."""

from threading import Timer
from typing import TYPE_CHECKING, Any, Final

from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOTICE_SECONDS: Final = 3.0  # without a response, until the line is written


class SlowNotice:
    """Says once that the server has not responded; `hooks` are those of a client."""

    def __init__(self, screen: Screen, url: str, *, after: float = NOTICE_SECONDS) -> None:
        """Say so after `after` seconds."""
        self._text = f"fleek: {url} is slow to respond; waiting (see --timeout)"
        self._screen = screen
        self._after = after
        self._timer: Timer | None = None
        self.hooks: Mapping[str, list[Callable[..., Any]]] = {
            "request": [self._sent],
            "response": [self._answered],
        }

    def _sent(self, _: Any) -> None:
        if self._timer is None:  # else a retry: the time since the first attempt counts
            self._timer = Timer(self._after, self._say)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """Say nothing any more."""
        self._answered(None)

    def _answered(self, _: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _say(self) -> None:
        self._screen.note(self._text)
