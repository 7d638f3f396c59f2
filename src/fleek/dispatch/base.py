"""The dispatcher's port: how a job id reaches a worker."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, runtime_checkable

from prometheus_client.registry import Collector

from fleek.domain.job import JobId

Task = Literal["start", "collect"]
"""The engine's verb that a worker runs for a job."""

Handler = Callable[[JobId], Awaitable[None]]
"""Runs a task for one job. A failure of the job itself is not raised."""


class Reported(Exception):
    """A handler failed and has logged it; the dispatcher must not log it again."""


class UnknownJob(Exception):
    """The job does not exist; the id may come from another installation."""


class Dispatcher(Protocol):
    """Carries job ids from `enqueue` to a handler.

    The job's row decides whether the task runs. So a dispatcher may lose an id (`admit`
    dispatches it again) or deliver it twice (only one claim succeeds).
    """

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Queue this task. Never blocks the event loop.

        Raises:
            DispatcherUnavailable: It could not be sent; the caller dispatches it again later.
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
        """Check that an id could be sent now.

        Raises:
            DispatcherUnavailable: It could not, with the reason.
        """
        ...


@runtime_checkable
class Measured(Protocol):
    """A dispatcher with metrics of its own."""

    figures: Sequence[Collector]


class Attach(Protocol):
    """Makes this process a worker whose ids a broker's library receives: `fleek.worker:open_attached_worker`.

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
