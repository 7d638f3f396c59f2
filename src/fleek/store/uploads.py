"""Uploads: the row is written before the file, and removed after it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import CursorResult, delete, func, select, text, update

from fleek.domain.errors import Conflict, NotFound, TooManyUploads
from fleek.domain.uploads import Upload, UploadId
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.inputs import uploads_in_use
from fleek.store.limits import lock_tenant
from fleek.store.tables import BEING_REMOVED, KEPT, UploadRow

UPLOAD: Final = rows.Mapper(Upload)
UPLOADS: Final = UploadRow.__table__
FULL_RETRY_AFTER: Final = timedelta(minutes=1)
IN_USE_LASTS: Final = timedelta(hours=1)
TAKEN: Final = "another file was sent to this address already: ask for a new address"
NO_UPLOAD: Final = "there is no such upload"


async def claim(
    db: Database, upload: Upload, *, reserved: bool = False, most: int | None = None
) -> Upload:
    """Store the row of an upload, or return that of the same bytes, kept as long as this one.

    The file is to be stored unless the outcome says that it is: under the outcome's key.

    Args:
        db: The database.
        upload: The upload.
        reserved: Whether its id was promised: it is another upload than that of the same bytes.
        most: How many bytes all uploads of the tenant that are kept may have.

    Raises:
        TooManyUploads: With this one, they would have more.
        Conflict: Other bytes have the reserved id, or it is being removed.
    """
    kept = upload.id.hex if reserved else upload.sha256
    values = {**UPLOAD.values(upload), "kept_sha256": kept}
    known = (UploadRow.tenant_id == upload.tenant_id, UploadRow.kept_sha256 == kept)
    async with db.write() as tx:
        found = None
        while found is None:  # it may be marked as being removed in between
            await tx.execute(rows.insert_absent(db.kind, UploadRow).values(values))
            result = await tx.execute(select(UPLOADS).where(*known).with_for_update())
            found = result.mappings().first()
            if reserved and (found is None or found["sha256"] != upload.sha256):
                raise Conflict(TAKEN, code="upload_exists")
        row = dict(found)
        if most is not None and row["id"] == upload.id:
            await _check_size(tx, upload, most)
        if row["expires_at"] < upload.expires_at:
            row["expires_at"] = upload.expires_at
            later = update(UploadRow).where(UploadRow.id == row["id"])
            await tx.execute(later.values(expires_at=upload.expires_at))
    return UPLOAD.read(row)


async def _check_size(tx: Transaction, upload: Upload, most: int) -> None:
    """Check the size of all uploads of a tenant, one transaction after the other."""
    await lock_tenant(tx, upload.tenant_id)
    kept = select(func.coalesce(func.sum(UploadRow.size_bytes), 0)).where(
        UploadRow.tenant_id == upload.tenant_id, text(KEPT)
    )
    size = int(await tx.scalar(kept) or 0)
    if size > most:
        raise TooManyUploads(
            f"all uploads may have {most} bytes, and with this one they would have {size}: delete some, "
            "or wait until they expire",
            retry_after=FULL_RETRY_AFTER,
        )


async def mark_stored(db: Database, upload_id: UploadId) -> bool:
    """Record that the file of an upload is in storage; False: it is being removed already."""
    statement = update(UploadRow).where(UploadRow.id == upload_id, text(KEPT)).values(stored=True)
    async with db.write() as tx:
        changed: CursorResult[Any] = await tx.execute(statement)
        return changed.rowcount > 0


async def get(db: Database, upload_id: UploadId, *, tenant_id: str) -> Upload:
    """Return an upload.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    async with db.read() as tx:
        return await _get(tx, upload_id, tenant_id)


async def of_tenant(db: Database, *, tenant_id: str, limit: int) -> list[Upload]:
    """Return the latest uploads of a tenant."""
    statement = (
        select(UPLOADS)
        .where(UploadRow.tenant_id == tenant_id, UploadRow.stored, text(KEPT))
        .order_by(UploadRow.id.desc())
        .limit(limit)
    )
    async with db.read() as tx:
        return [UPLOAD.read(row) for row in (await tx.execute(statement)).mappings()]


async def _get(
    tx: Transaction, upload_id: UploadId, tenant_id: str, *, lock: bool = False
) -> Upload:
    statement = select(UPLOADS).where(
        UploadRow.id == upload_id,
        UploadRow.tenant_id == tenant_id,
        UploadRow.stored,
        text(KEPT),
    )
    found = await tx.execute(statement.with_for_update() if lock else statement)
    row = found.mappings().first()
    if row is None:
        raise NotFound(NO_UPLOAD)
    return UPLOAD.read(row)


async def begin_removal(db: Database, upload_id: UploadId, *, tenant_id: str) -> Upload:
    """Mark an upload as being removed, and return it as it was.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
        Conflict: A job that has not ended refers to it.
    """
    async with db.write() as tx:
        upload = await _get(tx, upload_id, tenant_id, lock=True)
        if await uploads_in_use(tx, [upload.id]):
            raise Conflict("a job that has not ended needs this file", code="upload_in_use")
        await _mark(tx, [upload.id])
    return upload


async def begin_expiry(db: Database, *, before: datetime, limit: int) -> int:
    """Mark uploads as being removed that expired before then; returns how many were looked at.

    Those that a job needs are looked at again an hour later.
    """
    expired = (
        select(UploadRow.id)
        .where(UploadRow.expires_at < before, text(KEPT))
        .order_by(UploadRow.expires_at, UploadRow.id)
        .limit(limit)
    )
    async with db.read() as tx:
        if not await tx.scalar(expired.limit(1)):
            return 0
    async with db.write() as tx:
        ids = [UploadId(found) for found in await tx.scalars(expired.with_for_update())]
        used = await uploads_in_use(tx, ids)
        await _mark(tx, [upload_id for upload_id in ids if upload_id not in used])
        if used:
            chosen = UploadRow.id.in_(rows.padded(sorted(used)))
            later = update(UploadRow).where(chosen).values(expires_at=before + IN_USE_LASTS)
            await tx.execute(later)
    return len(ids)


async def _mark(tx: Transaction, ids: Sequence[UploadId]) -> None:
    if ids:
        chosen = UploadRow.id.in_(rows.padded(sorted(ids)))
        await tx.execute(update(UploadRow).where(chosen).values(kept_sha256=None))


async def being_removed(db: Database, *, limit: int) -> list[Upload]:
    """Return uploads whose file may still be in storage although it is to be removed."""
    statement = select(UPLOADS).where(text(BEING_REMOVED)).order_by(UploadRow.id).limit(limit)
    async with db.read() as tx:
        return [UPLOAD.read(row) for row in (await tx.execute(statement)).mappings()]


async def forget(db: Database, ids: Sequence[UploadId]) -> None:
    """Remove the rows of uploads whose files have been removed."""
    if not ids:
        return
    chosen = UploadRow.id.in_(rows.padded(sorted(ids)))
    async with db.write() as tx:
        await tx.execute(delete(UploadRow).where(chosen))
