"""Uploads: accept a file, remove it on request, and after its time.

The row is written first, so that no crash leaves a file that nothing names; and for removal the row
is marked, then the file is removed, then the row.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog
from uuid_utils.compat import uuid7

from fleek import failpoints
from fleek.domain.errors import InvalidInput, StorageError, TooLarge
from fleek.domain.uploads import Upload, UploadId, upload_key
from fleek.engine.runtime import Runtime
from fleek.engine.spool import write_spool
from fleek.engine.tenants import limits_of
from fleek.storage.base import spool_file
from fleek.store import uploads

PAGE: Final = 100  # uploads per turn

log = structlog.get_logger(__name__)


async def accept_upload(
    rt: Runtime,
    chunks: AsyncIterator[bytes],
    *,
    tenant_id: str,
    reserved: UploadId | None = None,
) -> Upload:
    """Store a file. The same bytes of the same tenant are stored once, and kept for longer.

    `reserved`: an id that was promised to the caller; the same bytes are then stored under it, too.

    Raises:
        Conflict: Another file has the reserved id.
        TooLarge: It has more than ``MAX_UPLOAD_BYTES``.
        InvalidInput: It is empty.
        TooManyUploads: The tenant's uploads would have more bytes than they may have.
        HostError: It cannot be stored now.
    """
    rt.capacity.check()
    async with spool_file(rt.storage, f"upload-{uuid7()}") as path:
        received = await _receive(
            rt, chunks, path, upload_id=reserved or UploadId(uuid7()), tenant_id=tenant_id
        )
        quota = (await limits_of(rt, tenant_id)).max_uploaded_bytes
        upload = await uploads.claim(rt.db, received, reserved=reserved is not None, most=quota)
        failpoints.hit("upload.claimed")
        if not upload.stored:
            await rt.storage.save(upload.key, path, content_type=upload.content_type)
            failpoints.hit("upload.stored")
            await _mark_stored(rt, upload)
    return upload


async def _receive(
    rt: Runtime, chunks: AsyncIterator[bytes], path: Path, *, upload_id: UploadId, tenant_id: str
) -> Upload:
    """Write a file to `path`, and return the row that describes it."""
    most = rt.settings.max_upload_bytes
    size, digest, sniffed, _ = await write_spool(
        chunks,
        path,
        most=most,
        too_large=TooLarge(f"the file must have at most MAX_UPLOAD_BYTES={most} bytes"),
        min_free_bytes=rt.settings.min_free_bytes,
    )
    if size == 0:
        raise InvalidInput("the file is empty", code="empty_upload")
    now = rt.now()
    return Upload(
        id=upload_id,
        tenant_id=tenant_id,
        key=upload_key(upload_id, sniffed.extension),
        sha256=digest,
        size_bytes=size,
        content_type=sniffed.content_type,
        width=sniffed.width,
        height=sniffed.height,
        duration_seconds=sniffed.duration_seconds,
        created_at=now,
        expires_at=now + rt.settings.upload_retention,
    )


async def _mark_stored(rt: Runtime, upload: Upload) -> None:
    if await uploads.mark_stored(rt.db, upload.id):
        return
    await rt.storage.delete(upload.key)  # its time was over before it was stored
    raise StorageError("storing the file took too long; send it again")


async def remove_upload(rt: Runtime, upload_id: UploadId, *, tenant_id: str) -> Upload:
    """Remove an upload, and return it as it was; the coordinator removes the file.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
        Conflict: A job that has not ended refers to it.
    """
    removed = await uploads.begin_removal(rt.db, upload_id, tenant_id=tenant_id)
    rt.wakeups.notify("expire")
    return removed


async def expire_uploads(rt: Runtime) -> bool:
    """Remove uploads whose time is over, a page at a time; returns whether there may be more.

    Raises:
        StorageError: A file could not be removed; it is tried again in the next turn.
    """
    looked_at = await uploads.begin_expiry(rt.db, before=rt.now(), limit=PAGE)
    leaving = await uploads.being_removed(rt.db, limit=PAGE)
    for upload in leaving:
        failpoints.hit("upload.delete")
        await rt.storage.delete(upload.key)
        failpoints.hit("upload.deleted")
    await uploads.forget(rt.db, [upload.id for upload in leaving])
    if leaving:
        log.info("uploads_removed", files=len(leaving))
    return max(looked_at, len(leaving)) == PAGE
