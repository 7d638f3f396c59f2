"""Event streams of commands: read in a thread, so that a command can still give up in time."""

import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol, Self
from uuid import UUID

from fleek.domain.errors import FleekError
from fleek.domain.job import TERMINAL
from fleek.domain.provider_logs import NOTHING, LogPlace, growth

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.client.models import JobRead
    from fleek.client.retry_policy import WaitDeadline


POLL_SECONDS: Final = 2.0  # of logs, without a stream


class Shows(Protocol):
    """Shows the progress of jobs."""

    def show(self, job: "JobRead") -> None:
        """Show the current state of a job."""
        ...


class StoppedError(Exception):
    """The command does not need the stream any more, or cannot have it."""


class Following:
    """The events of jobs: of one by its own stream, of several by that of all jobs."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._reader: Thread | None = None
        self._news: SimpleQueue[JobRead | bool] = SimpleQueue()  # False: there is no stream now
        self._live = False
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True

    def due(
        self, left: Sequence[UUID], deadline: "WaitDeadline", display: Shows
    ) -> tuple[UUID, ...]:
        """Wait until jobs must be polled, and return them; show what happens meanwhile.

        Without a stream all of them are, after a pause. So they are when a stream was opened, since it
        does not say what happened before.

        Raises:
            WaitTimeout: The deadline has passed.
        """
        if self._reader is None:
            job_id = left[0] if len(left) == 1 else None
            self._reader = Thread(target=self._read, args=[job_id], daemon=True)
            self._reader.start()
        look_at = time.monotonic() + deadline.pause(None)
        while True:
            try:  # news of a stream that cannot be opened do not put off the look
                news = self._news.get(timeout=max(look_at - time.monotonic(), 0))
            except Empty:
                if not self._live:
                    return tuple(left)
                look_at = time.monotonic() + deadline.pause(None)
                continue
            deadline.answered()
            if isinstance(news, bool):
                self._live = news
                if news:
                    return tuple(left)
            elif news.id in left:
                if news.status in TERMINAL:
                    return (news.id,)
                display.show(news)

    def _read(self, job_id: UUID | None) -> None:
        try:
            for event in self._client.events(job_id, on_connection=self._on_connection):
                if event.job is not None:
                    self._news.put(event.job)
                else:  # events were missed
                    self._news.put(item=True)
        except (FleekError, StoppedError):
            pass  # polling goes on
        except RuntimeError:  # of a client that was closed meanwhile
            if not self._stopped:
                raise
        finally:
            self._news.put(item=False)

    def _on_connection(self, opened: bool) -> None:  # noqa: FBT001 - as the client calls it
        if self._stopped:
            raise StoppedError
        self._news.put(opened)


def followed(client: "Client", job_id: UUID) -> Iterator[str]:
    """Give what comes to the logs of a job until it has ended: by a stream, or else by polling.

    Raises:
        FleekError: See `fleek.client.errors`.
    """
    streamed = False

    def on_connection(opened: bool) -> None:  # noqa: FBT001 - as the client calls it
        nonlocal streamed
        streamed = streamed or opened
        if not streamed:
            raise StoppedError

    try:
        for piece in client.follow_logs(job_id, on_connection=on_connection):
            yield piece.text
    except StoppedError:
        yield from _polled(client, job_id)


def _polled(client: "Client", job_id: UUID) -> Iterator[str]:
    place = NOTHING
    while True:
        job, text = client.status(job_id), client.logs(job_id)
        if new := growth(place, text):
            yield new
            place = LogPlace.after(text)
        if job.status in TERMINAL:
            return
        time.sleep(POLL_SECONDS)
