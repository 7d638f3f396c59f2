"""Version 1: all files of a batch in one archive.

The archive is written as it is sent: the files are read from storage one after the other, and are not
compressed, as media are already. What is in memory is a piece of one file, and the table of contents.
"""

import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import IO, Any, Final, cast

from fastapi.requests import Request
from fastapi.responses import Response, StreamingResponse

from fleek.api.batches import BatchIdPath
from fleek.api.deps import RuntimeDep, caller
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable, NotFound, StorageError
from fleek.domain.job import BatchId
from fleek.domain.media import Media
from fleek.engine.runtime import Runtime
from fleek.store import batches

PAGE: Final = 100  # members in one read
REGULAR_FILE: Final = 0o100644 << 16
BINARY: Final = {"type": "string", "format": "binary"}
ARCHIVE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The archive.",
        "content": {
            "application/zip": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},  # generated clients know no other
        },
        "headers": {"Content-Disposition": {"schema": {"type": "string"}}},
    }
}

router = strict_router("/api/v1", tag="batches")


@router.get(
    "/batches/{batch_id}/archive",
    scope=Scope.MEDIA_READ,
    operation_id="get_batch_archive",
    summary="Download the files of a batch",
    response_class=Response,
    responses=ARCHIVE | problems(NotFound, DatabaseUnavailable, StorageError),
)
@router.get(
    "/batches/{batch_id}/outputs.zip",
    scope=Scope.MEDIA_READ,
    operation_id="get_batch_outputs",
    summary="Download the files of a batch",
    response_class=Response,
    responses=ARCHIVE | problems(NotFound, DatabaseUnavailable, StorageError),
)
async def get_outputs(batch_id: BatchIdPath, rt: RuntimeDep, request: Request) -> Response:
    """Return the files of all completed members as a zip archive, streamed from the storage.

    A file is named by the number of its member, from 0: `00007.png`, and `00007-1.png` for a further
    output. Members that have not completed, or were purged, are left out. An archive that was cut off
    has no table of contents, so that it cannot be mistaken for a whole one.
    """
    view = await batches.get(rt.db, batch_id, tenant_id=caller(request).tenant_id)
    headers = {
        "Content-Disposition": f'attachment; filename="{batch_id}.zip"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if request.method == "HEAD":
        return Response(media_type="application/zip", headers=headers)
    archive = _archive(rt, batch_id, at=view.batch.created_at)
    first = await anext(archive)  # what can fail, fails before the answer begins
    return StreamingResponse(
        _chained(first, archive), media_type="application/zip", headers=headers
    )


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


class _Sink:
    """Where an archive is written to: it is taken from here, and sent. There is no way back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep what is written."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


async def _archive(rt: Runtime, batch_id: BatchId, *, at: datetime) -> AsyncGenerator[bytes]:
    sink = _Sink()
    archive = zipfile.ZipFile(cast("IO[bytes]", sink), "w")
    after = -1
    while page := await batches.outputs(rt.db, batch_id, after=after, limit=PAGE):
        for number, files in page:
            after = number
            for media in files:
                async with aclosing(
                    _pieces(rt, archive, media, _named(media, number, at))
                ) as pieces:
                    async for _ in pieces:
                        yield sink.take()
    archive.close()
    yield sink.take()


async def _pieces(
    rt: Runtime, archive: zipfile.ZipFile, media: Media, entry: zipfile.ZipInfo
) -> AsyncGenerator[None]:
    """Write a file into an archive; gives after each piece."""
    reading = rt.storage.read(media.key)
    try:
        first = await anext(reading, b"")
    except NotFound:  # it was purged meanwhile
        return
    with archive.open(entry, "w") as file:
        file.write(first)
        yield
        async for chunk in reading:
            file.write(chunk)
            yield


def _named(media: Media, number: int, at: datetime) -> zipfile.ZipInfo:
    suffix = "" if media.index == 0 else f"-{media.index}"
    entry = zipfile.ZipInfo(f"{number:05}{suffix}.{media.extension}", at.timetuple()[:6])
    entry.file_size = media.size_bytes  # decides about zip64
    entry.external_attr = REGULAR_FILE
    return entry
