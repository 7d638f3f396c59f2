"""The dispatcher port: how job ids reach workers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, runtime_checkable

from prometheus_client.registry import Collector

from fleek.domain.job import JobId

Task = Literal["start", "collect"]
"""The engine's operation that a worker runs for a job."""

Handler = Callable[[JobId], Awaitable[None]]
"""Runs a task for one job. A failure of the job itself is not raised."""


class Reported(Exception):
    """A handler failed and has logged it; the dispatcher must not log it again."""


class UnknownJob(Exception):
    """The job does not exist; the id may come from another installation."""


class Dispatcher(Protocol):
    """Sends job ids from `enqueue` to a handler.

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
        """Handle ids until cancelled.

        At most `concurrency` handlers run at once, and at most half of them (at least one)
        collect. On cancellation, no new handler begins, and running ones are cancelled and awaited.
        """
        ...

    async def check(self) -> None:
        """Check that an id could be sent now.

        Raises:
            DispatcherUnavailable: It could not, with the reason.
        """
        ...


@runtime_checkable
class SendsMany(Protocol):
    """A dispatcher whose messages can carry several ids."""

    most_ids: int  # in one message

    async def enqueue_many(self, task: Task, job_ids: Sequence[JobId]) -> None:
        """Queue this task for up to `most_ids` jobs, in one message.

        A worker of an earlier release understands messages with one id only.

        Raises:
            DispatcherUnavailable: None of them could be sent; the caller dispatches them again later.
        """
        ...


class Slot(Protocol):
    """A slot of this process that is kept for one task. Call `run` or `free`, once, on the event loop."""

    def run(self, job_id: JobId) -> bool:
        """Run the task for this job now; False: the handlers are being stopped, and it does not run."""
        ...

    def free(self) -> None:
        """Give the slot back."""
        ...


@runtime_checkable
class HandsOver(Protocol):
    """A dispatcher that can give an id to a handler of its own process, without a broker.

    Call its functions on the event loop of the handlers.
    """

    def reserve(self, task: Task) -> Slot | None:
        """Keep a slot for this task; None: none is free, or there are no handlers here."""
        ...

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Run this task here as soon as a slot is free; False: there are no handlers here."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A dispatcher with metrics of its own."""

    figures: Sequence[Collector]


class Attach(Protocol):
    """Opens a worker in the process of a broker's library: `fleek.worker:open_attached_worker`.

    A dispatcher whose library has its own worker command opens it when that command starts, after
    a fork, on the event loop of the handlers. Closing it drains the worker.
    """

    def __call__(
        self, *, dispatch: str, concurrency: int
    ) -> AbstractAsyncContextManager[Mapping[Task, Handler]]:
        """Yield one handler per task when the worker is open.

        `dispatch`: the dispatcher's name in the registry, which overrides the setting.
        """
        ...
