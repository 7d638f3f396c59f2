"""`fleek queue`: what waits, and pauses by the operator."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.local_service import run_locally
from fleek.cli.operator_session import OperatorSession, operating
from fleek.cli.options import command
from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from fleek.client.models import QueueRead
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


@command(queue, "show", session=operating)
def show(*, session: OperatorSession) -> None:
    """Show how many jobs wait, and what is paused."""
    if session.remote:
        _write(session.screen, session.client.queue.show())
    else:
        _write(session.screen, _locally(None))


@command(queue, "pause", session=operating)
def pause(*, provider: Provider = None, model: Model = None, session: OperatorSession) -> None:
    """Start no more predictions, until "fleek queue resume".

    Jobs are still accepted, and running predictions are collected. Works over HTTP if --url or FLEEK_URL
    names a server, with an operator's key; else on the database of the service, where it runs.
    """
    if session.remote:
        _write(session.screen, session.client.queue.pause(provider=provider, model=model))
        return

    async def work(rt: "Runtime") -> None:
        from fleek.engine.queue import pause  # noqa: PLC0415 - heavy

        await pause(rt, provider, model)

    _write(session.screen, _locally(work))


@command(queue, "resume", session=operating)
def resume(*, provider: Provider = None, model: Model = None, session: OperatorSession) -> None:
    """End the pause of exactly this part: without an option, the pause of all jobs."""
    if session.remote:
        _write(session.screen, session.client.queue.resume(provider=provider, model=model))
        return

    async def work(rt: "Runtime") -> None:
        from fleek.engine.queue import resume  # noqa: PLC0415 - heavy

        await resume(rt, provider, model)

    _write(session.screen, _locally(work))


def _locally(work: Callable[["Runtime"], Awaitable[None]] | None) -> "QueueRead":
    """Do work on the database of the service, and return the queue."""

    async def done(rt: "Runtime") -> "QueueRead":
        if work is not None:
            await work(rt)
        return await _read(rt)

    return run_locally(done)


async def _read(rt: "Runtime") -> "QueueRead":
    from fleek.client.models import PauseRead, QueueRead  # noqa: PLC0415 - not needed for help
    from fleek.store import queue_pauses  # noqa: PLC0415 - heavy
    from fleek.store.counters import count_jobs  # noqa: PLC0415 - heavy

    counts = await count_jobs(rt.db, now=rt.now())
    paused = [
        PauseRead(provider=pause.provider or None, model=pause.model or None, since=pause.since)
        for pause in await queue_pauses.read(rt.db)
    ]
    return QueueRead(pending=counts.queue_depth, processing=counts.in_flight, paused=paused)


def _write(screen: Screen, found: "QueueRead") -> None:
    if screen.as_json:
        screen.json(found.to_dict())
        return
    screen.data(f"{found.pending} pending, {found.processing} processing")
    for pause in found.paused:
        part = f"{pause.model or 'every model'} of {pause.provider or 'every provider'}"
        screen.data(f"paused: {part} since {pause.since.isoformat(timespec='seconds')}")
