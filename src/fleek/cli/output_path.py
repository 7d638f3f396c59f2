"""Where ``-o`` puts files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.schemas import JobRead


class Place:
    """A folder for files with names of their own, or one file."""

    def __init__(self, output: str | None, *, several: bool) -> None:
        """Read ``-o`` (None: the current folder); with `several` jobs it is always a folder.

        Raises:
            BadParameter: Nothing can be put there; better known before the job is paid for.
        """
        path = Path(output or ".")
        self._file: Path | None = None
        self._folder = path
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
        return [
            client.download(job.id, self._path(nth), index=index)
            for nth, index in enumerate(indexes)
        ]

    def _path(self, nth: int) -> Path:
        if self._file is None:
            return self._folder
        return self._file if nth == 0 else self._file.with_stem(f"{self._file.stem}-{nth}")
