"""The dispatcher's port: how a job id reaches a worker."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

from fleek.domain.job import JobId

Task = Literal["start", "collect"]
"""What a worker is asked to do with a job: the engine's verb."""

Handler = Callable[[JobId], Awaitable[None]]
"""Does a task for one job. Never raises for the job's sake."""


class Dispatcher(Protocol):
    """Carries job ids from `enqueue` to a handler.

    It carries a nudge, not the truth: the job's row says whether to run. So a dispatcher
    may lose an id (`admit` nudges again) or deliver it twice (only one claim wins).
    """

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Ask for this task to be done soon. Never blocks the event loop.

        Raises:
            DispatcherUnavailable: Could not be sent; the caller nudges again later.
        """
        ...

    async def consume(self, handlers: Mapping[Task, Handler], *, concurrency: int) -> None:
        """Handle ids as they come, until cancelled.

        At most `concurrency` handlers run at once, and at most half of them (at least one)
        collect. When it is cancelled, no new handler begins and those that run are cancelled
        and awaited before it returns.
        """
        ...

    async def check(self) -> None:
        """Prove that an id could be sent now.

        Raises:
            DispatcherUnavailable: It could not, with the reason.
        """
        ...
