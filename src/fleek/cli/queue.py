"""`fleek queue`: what waits, and pauses by the operator."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.local_service import run_locally
from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

app = typer.Typer()
queue = typer.Typer(no_args_is_help=True)
app.add_typer(queue, name="queue", help="The queue of the service.")

Provider = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Only jobs of this provider.")
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help="Only jobs of this model.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@queue.command()
def show(*, as_json: AsJson = False) -> None:
    """Show how many jobs wait, and what is paused."""
    _run(Screen(as_json=as_json), None)


@queue.command()
def pause(provider: Provider = None, model: Model = None, *, as_json: AsJson = False) -> None:
    """Start no more predictions, until "fleek queue resume".

    Jobs are still accepted, and running predictions are collected. Works on the database of the
    service with its settings: run it where the service runs.
    """

    async def work(rt: "Runtime") -> None:
        from fleek.engine.queue import pause  # noqa: PLC0415 - heavy

        await pause(rt, provider, model)

    _run(Screen(as_json=as_json), work)


@queue.command()
def resume(provider: Provider = None, model: Model = None, *, as_json: AsJson = False) -> None:
    """End the pause of exactly this part: without an option, the pause of all jobs."""

    async def work(rt: "Runtime") -> None:
        from fleek.engine.queue import resume  # noqa: PLC0415 - heavy

        await resume(rt, provider, model)

    _run(Screen(as_json=as_json), work)


def _run(screen: Screen, work: Callable[["Runtime"], Awaitable[None]] | None) -> None:
    """Do work, then show the queue."""

    async def done(rt: "Runtime") -> None:
        if work is not None:
            await work(rt)
        await _show(rt, screen)

    run_locally(done)


async def _show(rt: "Runtime", screen: Screen) -> None:
    from fleek.store import queue_pauses  # noqa: PLC0415 - heavy
    from fleek.store.counters import count_jobs  # noqa: PLC0415 - heavy

    counts = await count_jobs(rt.db, now=rt.now())
    pauses = await queue_pauses.read(rt.db)
    paused = [
        {
            "provider": one.provider or None,
            "model": one.model or None,
            "since": one.since.isoformat(),
        }
        for one in pauses
    ]
    if screen.as_json:
        screen.json(
            {"pending": counts.queue_depth, "processing": counts.in_flight, "paused": paused}
        )
        return
    screen.data(f"{counts.queue_depth} pending, {counts.in_flight} processing")
    for one in pauses:
        screen.data(f"paused: {one.name} since {one.since.isoformat(timespec='seconds')}")
