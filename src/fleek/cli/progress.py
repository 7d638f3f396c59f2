"""The progress of jobs: a live table on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, Self
from uuid import UUID

from fleek.cli.following import Following
from fleek.cli.present import MARKS, short, state, took
from fleek.cli.screen import Screen, clean
from fleek.domain.job import TERMINAL, Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from fleek.client import Client
    from fleek.client.models import JobRead


ROWS = 10  # jobs shown at once; the others are only counted


class Display(Protocol):
    """Shows the progress of jobs."""

    def __enter__(self) -> Self:
        """Start the display."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop the display; written lines remain."""
        ...

    def show(self, job: "JobRead") -> None:
        """Show the current state of a job."""
        ...

    def say(self, text: str) -> None:
        """Write a message that does not concern one job."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Pause the display while other output is written."""
        ...


def display(screen: Screen) -> Display:
    """Return the display that suits the screen."""
    if screen.quiet:
        return Silence()
    if screen.err.is_terminal and not screen.err.is_dumb_terminal:
        return Picture(screen)
    return Lines(screen)


def ending(job: "JobRead") -> str:
    """Say how a job has ended, in one line."""
    reason = f": {job.error_message}" if job.error_message else ""
    return f"{job.status} after {took(job)}{reason}"


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, job: "JobRead") -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Write nothing."""

    def aside(self) -> AbstractContextManager[None]:
        """Do nothing: there is no display to pause."""
        return nullcontext()


class Lines(Silence):
    """One line for each change of a job's state."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._said: dict[UUID, str] = {}

    def show(self, job: "JobRead") -> None:
        """Write a line if the job's state is new."""
        text = ending(job) if job.completed_at else state(job)
        if self._said.get(job.id) != text:
            self._said[job.id] = text
            self._screen.note(f"{job.id} {text}")

    def say(self, text: str) -> None:
        """Write a line."""
        self._screen.note(text)


class Picture(Silence):
    """Unfinished jobs as progress bars, redrawn in place, below one line for each finished job."""

    def __init__(self, screen: Screen) -> None:
        from rich.spinner import Spinner  # noqa: PLC0415 - only for terminals

        self._console = screen.err
        self._spinner = Spinner("dots", style="cyan")
        self._open: dict[UUID, JobRead] = {}
        self._since: dict[UUID, float] = {}
        self._ended: Counter[Status] = Counter()

        self._live = self._made()

    def _made(self) -> "Live":
        from rich.live import Live  # noqa: PLC0415 - only for terminals

        return Live(
            console=self._console,
            get_renderable=self._draw,
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,  # data must reach stdout, wherever that leads
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, job: "JobRead") -> None:
        """Redraw the job, or write its end above the picture."""
        from rich.text import Text  # noqa: PLC0415 - only for terminals

        self._since.setdefault(job.id, time.monotonic())
        if job.completed_at is None:
            self._open = {**self._open, job.id: job}  # replaced: another thread is drawing
            return
        self._open = {job_id: other for job_id, other in self._open.items() if job_id != job.id}
        self._ended[job.status] += 1
        mark, style = MARKS[job.status]
        line = Text.assemble(
            (f"{mark} ", style), short(job.prompt, 40), (f"  {clean(ending(job))}", "dim")
        )
        self._console.print(line)

    @contextmanager
    def aside(self) -> Generator[None]:
        """Remove the bars while other output is written."""
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._made()  # a stopped one would erase what was written meanwhile
            self._live.start()

    def say(self, text: str) -> None:
        """Write a line above the picture."""
        self._console.print(clean(text), style="dim")

    def _draw(self) -> "RenderableType":
        from rich.console import Group  # noqa: PLC0415 - only for terminals
        from rich.table import Table  # noqa: PLC0415 - only for terminals

        jobs = sorted(self._open.values(), key=_display_order)
        capacity = max(1, min(ROWS, self._console.height - 3))
        grid = Table.grid(padding=(0, 2))
        for job in jobs[:capacity]:
            grid.add_row(*self._row(job))
        if len(jobs) + self._ended.total() <= 1:
            return grid
        return Group(grid, self._summary(jobs, hidden=len(jobs) - capacity))

    def _row(self, job: "JobRead") -> list[Any]:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - only for terminals
        from rich.text import Text  # noqa: PLC0415 - only for terminals

        now = time.monotonic()
        waits = job.status is Status.PENDING
        bar = ProgressBar(
            total=1.0,
            completed=job.progress or 0.0,
            width=24,
            pulse=job.progress is None,
            animation_time=now,
        )
        return [
            Text(MARKS[job.status][0]) if waits else self._spinner,
            Text(short(job.prompt, 40)),
            Text(state(job), style=MARKS[job.status][1]),
            Text() if waits else bar,
            Text(f"{now - self._since[job.id]:.0f} s", style="dim"),
        ]

    def _summary(self, jobs: "list[JobRead]", *, hidden: int) -> "RenderableType":
        from rich.text import Text  # noqa: PLC0415 - only for terminals

        counts = self._ended + Counter(job.status for job in jobs)
        parts = [f"{counts[status]} {status}" for status in Status if counts[status]]
        more = f"… and {hidden} more   " if hidden > 0 else ""
        return Text(f"{more}{counts.total()} jobs: {', '.join(parts)}", style="dim")


def _display_order(job: "JobRead") -> tuple[bool, float, str]:
    """Sort running jobs before pending ones."""
    return job.status is Status.PENDING, -(job.progress or 0.0), str(job.id)


def wait_many(
    client: "Client", left: list[UUID], display: Display, *, timeout: float | None
) -> "Iterator[JobRead]":
    """Yield each job once it has ended.

    Its id is removed from `left`, so that the caller always knows which jobs have not ended.
    `timeout` is in seconds; None: unlimited. A restart of the server is tolerated. The jobs are
    followed by an event stream, and polled while there is none.

    Raises:
        WaitTimeout: A job has not ended within `timeout`.
        FleekError: See `fleek.client.errors`.
    """
    from fleek.client import ClientError, RetryPolicy  # noqa: PLC0415 - heavy
    from fleek.client.retry_policy import WaitDeadline  # noqa: PLC0415 - heavy

    deadline = WaitDeadline(RetryPolicy(), timeout)
    due, unreachable = tuple(left), False
    with Following(client) as following:
        while left:
            for job_id in due:
                try:
                    job = client.status(job_id)
                except ClientError as error:
                    deadline.tolerate(error)
                    if not unreachable:
                        display.say(f"{error}; retrying")
                    unreachable = True
                    break
                deadline.answered()
                unreachable = False
                display.show(job)
                if job.status in TERMINAL:
                    left.remove(job_id)
                    yield job
            if left:
                due = following.due(left, deadline, display)
