"""The dispatcher's port: how a job id reaches a worker."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, runtime_checkable

from prometheus_client.registry import Collector

from fleek.domain.job import JobId

Task = Literal["start", "collect"]
"""What a worker is asked to do with a job: the engine's verb."""

Handler = Callable[[JobId], Awaitable[None]]
"""Does a task for one job. Never raises for the job's sake."""


class Reported(Exception):
    """A handler failed and has said so itself; whoever carries ids may show it, not log it."""


class UnknownJob(Exception):
    """There is no such job: the id is another installation's, or invented."""


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


@runtime_checkable
class Measured(Protocol):
    """A dispatcher that has figures to show beside the engine's."""

    figures: Sequence[Collector]


class Attach(Protocol):
    """Makes this process a worker whose ids somebody else receives: `fleek.worker:open_attached_worker`.

    A dispatcher whose library has a worker command of its own opens it when that command starts,
    after any fork, on the event loop in which handlers are to run. Leaving it drains the worker.
    """

    def __call__(
        self, *, dispatch: str, concurrency: int
    ) -> AbstractAsyncContextManager[Mapping[Task, Handler]]:
        """Give one handler per task, once this process is a worker.

        `dispatch`: the caller's name in the registry, whatever the setting says.
        """
        ...
