"""`fleek backup`: copy the service's state, check the copy, and restore it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.local_service import run_locally
from fleek.cli.screen import Screen
from fleek.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

app = typer.Typer()
backup = typer.Typer(no_args_is_help=True)
app.add_typer(backup, name="backup", help="Backups of the database and the files.")

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@backup.command()
def create(
    folder: Folder,
    *,
    files: Annotated[
        bool | None,
        typer.Option(help="Include the stored files; by default those of local folders."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a backup into a new folder, while the service runs.

    SQLite only; for PostgreSQL use pg_dump. Works with the settings of the service: run it where the
    service runs.
    """
    screen = Screen(as_json=as_json)

    async def work(rt: "Runtime") -> None:
        from fleek.backup import create  # noqa: PLC0415 - heavy

        included = rt.settings.storage_backend == "local" if files is None else files
        manifest = await create(rt.db, rt.storage, folder, with_files=included)
        if as_json:
            screen.json(manifest.to_json())
            return
        screen.data(folder, manifest.created_at.isoformat(), f"{len(manifest.files)} files")
        if not included:
            screen.note("the stored files are not in the backup; it refers to the storage")

    run_locally(work)


@backup.command()
def verify(folder: Folder) -> None:
    """Check every file of a backup, and its database; exit code 2 if it is broken."""
    from fleek.backup import verify  # noqa: PLC0415 - heavy

    manifest = verify(folder)
    Screen().data(folder, "is whole", f"{len(manifest.files)} files")


@backup.command()
def restore(
    folder: Folder,
    *,
    nothing_since: Annotated[
        bool,
        typer.Option(
            "--nothing-since",
            help="Nothing ran after the backup: start its jobs without a search at the providers.",
        ),
    ] = False,
) -> None:
    """Restore a backup to the database and the storage of the settings; nothing is overwritten.

    The jobs that had not ended are searched for at their providers before they are started: they may
    have been paid for after the backup. Stop the service first.
    """
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.backup import restore  # noqa: PLC0415 - heavy
    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    restored = asyncio.run(restore(read(Settings), folder, nothing_since=nothing_since))
    screen = Screen()
    screen.data(folder, "is restored", f"{restored.files} files")
    _note(screen, restored.marked)


@backup.command("mark-restored")
def mark_restored(
    taken_at: Annotated[
        str | None,
        typer.Option(
            help="When the backup was made, such as 2026-07-01T12:00:00Z; by default its latest event."
        ),
    ] = None,
) -> None:
    """Say that the database was restored by another tool, such as pg_restore, before the service starts.

    The jobs that had not ended are then searched for at their providers before they are started.
    """
    taken = None if taken_at is None else _time(taken_at)
    screen = Screen()

    async def work(rt: "Runtime") -> None:
        from fleek.store.restores import mark_restored  # noqa: PLC0415 - heavy

        _note(screen, await mark_restored(rt.db, now=rt.now(), taken_at=taken))

    run_locally(work)


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = "--taken-at must be a time such as 2026-07-01T12:00:00Z"
        raise ConfigurationError(message) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _note(screen: Screen, marked: int) -> None:
    screen.note(f"{marked} unfinished jobs will be searched for before they are started")
