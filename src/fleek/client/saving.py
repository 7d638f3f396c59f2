"""Downloaded files: their paths, and atomic writes."""

import hashlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from fleek.client.errors import NotSaved, ResponseLost
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
"""File extensions by content type; all others are ``bin``."""


def output_of(job: JobRead, index: int) -> OutputRead:
    """Return one output of a job.

    Raises:
        Gone: Its files were purged.
        NotFound: It has no such output, or not yet.
    """
    if job.purged_at is not None:
        raise Gone("the files of this job were removed")
    for output in job.outputs:
        if output.index == index:
            return output
    raise NotFound(f"job {job.id} is {job.status} and has no output {index}")


def file_name(job: JobRead, output: OutputRead) -> str:
    """Return the name of a file: the job's id and an extension, nothing else that the server sent."""
    suffix = "" if output.index == 0 else f"-{output.index}"
    return f"{job.id}{suffix}.{EXTENSIONS.get(output.content_type, 'bin')}"


def target(to: Path | str | None, job: JobRead, output: OutputRead) -> Path:
    """Return the path of a file: in the folder `to` (None: the current one), or `to` itself."""
    path = Path() if to is None else Path(to)
    return path / file_name(job, output) if path.is_dir() else path


class AtomicFile:
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
        """Lower-case hex digest of all bytes written so far."""
        return self._digest.hexdigest()


@contextmanager
def atomic_file(path: Path, *, sha256: str | None) -> Generator[AtomicFile]:
    """Write a file that appears at `path` when it is complete; a link there is replaced.

    Raises:
        ResponseLost: The bytes do not have this `sha256`; None: it is not known.
        NotSaved: The file cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                written = AtomicFile(file)
                yield written
            if sha256 is not None and written.sha256 != sha256:
                raise ResponseLost("the file arrived damaged")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise NotSaved(f"{path} cannot be written: {error.strerror}") from error
