"""Downloaded files: their paths, atomic writes, and files without a path."""

import hashlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from fleek.client.errors import NotSaved, ResponseLost
from fleek.client.models import JobRead, OutputRead
from fleek.domain.errors import Gone, NotFound

MAX_IN_MEMORY: Final = 8 * 1_048_576  # bytes of a file that is read or opened
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


class HashedFile:
    """A file that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Append to the file."""
        self._digest.update(chunk)
        self.file.write(chunk)

    def verify(self, sha256: str | None) -> None:
        """Check what was written.

        Raises:
            ResponseLost: The bytes do not have this `sha256`; None: it is not known.
        """
        if sha256 is not None and self._digest.hexdigest() != sha256:
            raise ResponseLost("the file arrived damaged")


@contextmanager
def atomic_file(path: Path, *, sha256: str | None) -> Generator[HashedFile]:
    """Write a file that appears at `path` when it is complete; a link there is replaced.

    Raises:
        ResponseLost: The bytes do not have this `sha256`; None: it is not known.
        NotSaved: The file cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                written = HashedFile(file)
                yield written
            written.verify(sha256)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise NotSaved(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def temporary_file(*, sha256: str | None) -> Generator[HashedFile]:
    """Write a file in memory, or on disk if it is large; it is open at its beginning afterwards.

    Raises:
        ResponseLost: The bytes do not have this `sha256`; None: it is not known.
        NotSaved: There is no space left for it.
    """
    file = SpooledTemporaryFile(MAX_IN_MEMORY)  # noqa: SIM115 - its reader closes it
    written = HashedFile(cast("BinaryIO", file))
    try:
        yield written
        written.verify(sha256)
        file.seek(0)
    except OSError as error:
        file.close()
        raise NotSaved(f"no temporary file can be written: {error.strerror}") from error
    except BaseException:
        file.close()
        raise


def numbered(to: Path | str | None, number: int) -> Path | str | None:
    """Return the path of the file with this number, from 0; a folder stays as it is."""
    if to is None or number == 0 or Path(to).is_dir():
        return to
    path = Path(to)
    return path.with_stem(f"{path.stem}-{number}")
