"""Downloaded files: where they go, and how they get there whole or not at all."""

import hashlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from fleek.client.errors import AnswerLost, NotSaved
from fleek.domain.errors import Gone, NotFound
from fleek.schemas import JobRead, OutputRead

EXTENSIONS: Final = {
    "application/json": "json",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "image/avif": "avif",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "text/plain": "txt",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
"""A file's ending by its type; any other type ends in ``bin``."""


def output_of(job: JobRead, index: int) -> OutputRead:
    """Return one output of a job.

    Raises:
        Gone: Its files were purged.
        NotFound: It has no such output, or none yet.
    """
    if job.purged_at is not None:
        raise Gone("the files of this job have been removed")
    for output in job.outputs:
        if output.index == index:
            return output
    raise NotFound(f"job {job.id} is {job.status} and has no output {index}")


def file_name(job: JobRead, output: OutputRead) -> str:
    """Return our own name for a file; nothing that the server names is in it but the id."""
    suffix = "" if output.index == 0 else f"-{output.index}"
    return f"{job.id}{suffix}.{EXTENSIONS.get(output.content_type, 'bin')}"


def target(to: Path | str | None, job: JobRead, output: OutputRead) -> Path:
    """Return where a file goes: into the folder `to` (None: this one), or to the path `to`."""
    path = Path() if to is None else Path(to)
    return path / file_name(job, output) if path.is_dir() else path


class Landing:
    """A file that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Append to the file."""
        self._digest.update(chunk)
        self._file.write(chunk)

    @property
    def sha256(self) -> str:
        """Lower-case hex of what was written so far."""
        return self._digest.hexdigest()


@contextmanager
def landing(path: Path, *, sha256: str) -> Generator[Landing]:
    """Write a file that appears at `path` at the end, whole; a link there is replaced.

    Raises:
        AnswerLost: The bytes are not those with this `sha256`.
        NotSaved: The file cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                written = Landing(file)
                yield written
            if written.sha256 != sha256:
                raise AnswerLost("the file arrived damaged")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise NotSaved(f"{path} cannot be written: {error.strerror}") from error
