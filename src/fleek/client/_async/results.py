"""Results of the asynchronous client: the outputs of a completed job, to save, read or open."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

from fleek.client import saving, wire
from fleek.client.models import JobRead, OutputRead
from fleek.domain.errors import NotFound

if TYPE_CHECKING:
    from fleek.client._async.connection import AsyncConnection


class AsyncOutput:
    """One file that a job has made. What is known of it is in `info`."""

    def __init__(self, job: JobRead, info: OutputRead, connection: "AsyncConnection") -> None:
        self.info = info
        self._job = job
        self._connection = connection

    def __repr__(self) -> str:
        info = self.info
        size = f" {info.width}x{info.height}" if info.width and info.height else ""
        return f"<Output {self.name} {info.content_type}{size} {info.size_bytes} bytes>"

    @property
    def name(self) -> str:
        """The name that it is saved under in a folder: the job's id, its number, and an extension."""
        return saving.file_name(self._job, self.info)

    @property
    def url(self) -> str:
        """Its address; with keys, it can be used for an hour."""
        return self.info.url

    @property
    def content_type(self) -> str:
        """Its type, such as ``image/png``."""
        return self.info.content_type

    async def save(self, to: Path | str | None = None) -> Path:
        """Save it, and return its path.

        `to` is a folder (None: the current one), or the path of the file. It appears complete and
        verified, or not at all.

        Raises:
            Gone: The files of the job were purged.
            NotSaved: The file cannot be written.
            FleekError: Any other of `fleek.client.errors`.
        """
        path = saving.target(to, self._job, self.info)
        await self._connection.fetch(self._path, path, sha256=self.info.sha256)
        return path

    async def open(self) -> BinaryIO:
        """Return it as a file that is open for reading; large ones are on disk until it is closed.

        Raises:
            Gone: The files of the job were purged.
            FleekError: Any other of `fleek.client.errors`.
        """
        return await self._connection.open(self._path, sha256=self.info.sha256)

    async def read(self) -> bytes:
        """Return its bytes.

        Raises:
            Gone: The files of the job were purged.
            FleekError: Any other of `fleek.client.errors`.
        """
        with await self.open() as file:
            return file.read()

    @property
    def _path(self) -> str:
        return f"{wire.job_path(self._job.id, root='download')}?index={self.info.index}"


class AsyncResult:
    """A completed job with its outputs."""

    def __init__(self, job: JobRead, connection: "AsyncConnection") -> None:
        self.job = job
        self.outputs = tuple(AsyncOutput(job, info, connection) for info in job.outputs)

    def __repr__(self) -> str:
        kinds = ", ".join(output.content_type for output in self.outputs)
        return f"<Result {self.id} of {self.job.model_name}: {kinds or 'no outputs'}>"

    @property
    def id(self) -> UUID:
        """The id of the job."""
        return self.job.id

    @property
    def output(self) -> AsyncOutput:
        """The first output.

        Raises:
            NotFound: There is none.
        """
        if not self.outputs:
            raise NotFound(f"job {self.id} has no outputs")
        return self.outputs[0]

    async def save(self, to: Path | str | None = None) -> list[Path]:
        """Save all outputs in a folder (None: the current one), and return their paths.

        A path that is no folder is the path of the file of the first output; those of the others have
        their number: ``cat.png``, ``cat-1.png``.

        Raises:
            Gone: The files of the job were purged.
            NotSaved: A file cannot be written.
            FleekError: Any other of `fleek.client.errors`.
        """
        return [
            await output.save(saving.numbered(to, number))
            for number, output in enumerate(self.outputs)
        ]
