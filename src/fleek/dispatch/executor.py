"""Blocking calls to a broker's library, with a time limit."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.text import without_credentials

ANSWER_SECONDS: Final = 1.5  # to connect to a broker, and for its answer
CALL_SECONDS: Final = 1.8  # for a whole call; health gives up after two


class Caller:
    """A thread for blocking calls, one at a time."""

    def __init__(self, name: str, *errors: type[Exception]) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._errors = errors  # those that the library raises if the broker is away

    async def call(self, blocking: Callable[..., None], *arguments: Any) -> None:
        """Run a blocking call and wait for it.

        Raises:
            DispatcherUnavailable: It failed, or takes too long; then its end is not awaited.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await loop.run_in_executor(self._thread, blocking, *arguments)
        except TimeoutError as error:
            raise DispatcherUnavailable("the broker does not answer") from error
        except self._errors as error:
            words = without_credentials(str(error))
            raise DispatcherUnavailable(f"the broker cannot be reached: {words}") from error

    def close(self) -> None:
        """Wait for the running call."""
        self._thread.shutdown(cancel_futures=True)
