"""Where the files of jobs are put: a folder, a file, or stdout."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

import typer

from fleek.cli.screen import Outlet

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.client.models import JobRead

STDOUT: Final = "-"
CHUNK: Final = 1_048_576  # bytes


class Places(Protocol):
    """Decides where the files of a job are put."""

    def save(self, client: "Client", job: "JobRead", indexes: Sequence[int]) -> list[Path]:
        """Download these outputs, and return their paths."""
        ...


class Place:
    """A folder for files with names of their own, or one file."""

    def __init__(self, output: str | None, *, several: bool, as_json: bool = False) -> None:
        """Read ``-o`` (None: the current folder); with `several` jobs it is always a folder.

        ``-`` is stdout, for the bytes of one file.

        Raises:
            BadParameter: Nothing can be put there; better known before the job is paid for.
        """
        path = Path(output or ".")
        self._file: Path | None = None
        self._folder = path
        self._stdout = output == STDOUT
        if self._stdout:
            _check_stdout(several=several, as_json=as_json)
            return
        try:
            if path.is_dir():
                return
            if several or str(output).endswith("/"):
                path.mkdir(parents=True)
                return
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="-o") from None
        if not path.parent.is_dir():
            raise typer.BadParameter(f"the folder {path.parent} is not there", param_hint="-o")
        self._file = path

    def save(self, client: "Client", job: "JobRead", indexes: Sequence[int]) -> list[Path]:
        """Download these outputs to their place; after the first, a file's get a number: `cat-1.png`.

        Raises:
            NotSaved: A file cannot be written.
            FleekError: Any other of `fleek.client.errors`.
        """
        if self._stdout:
            _write(client, job, indexes)
            return []
        return [
            client.download(job.id, self._path(nth), index=index)
            for nth, index in enumerate(indexes)
        ]

    def _path(self, nth: int) -> Path:
        if self._file is None:
            return self._folder
        return self._file if nth == 0 else self._file.with_stem(f"{self._file.stem}-{nth}")


def _check_stdout(*, several: bool, as_json: bool) -> None:
    if several:
        raise typer.BadParameter("stdout takes the file of one job", param_hint="-o -")
    if as_json:
        raise typer.BadParameter("not with --json, which writes to stdout, too", param_hint="-o -")
    if sys.stdout.isatty():
        raise typer.BadParameter(
            "stdout is a terminal, which cannot show the bytes: use a file or a pipe",
            param_hint="-o -",
        )


def _write(client: "Client", job: "JobRead", indexes: Sequence[int]) -> None:
    """Write the bytes of one output to stdout, once it has arrived whole."""
    if not indexes:
        return
    if len(indexes) > 1:
        print(f"fleek: the first of {len(indexes)} files is written", file=sys.stderr)  # noqa: T201 - the command line's own voice
    with client.result(job.id).outputs[indexes[0]].open() as file:
        while chunk := file.read(CHUNK):
            cast("Outlet", sys.stdout).write_bytes(chunk)
