"""The rows of uploads on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.media import Key
from fleek.domain.uploads import Upload, UploadId
from fleek.store import uploads
from fleek.store.database import Database
from fleek.store.tables import UploadRow
from fleek.store.uploads import UPLOAD
from samples import NOON, an_upload


def another(upload: Upload) -> Upload:
    """Return the upload of another request with the same bytes."""
    new = UploadId(uuid7())
    later = upload.expires_at + timedelta(hours=1)
    return replace(upload, id=new, key=Key(f"uploads/{new}.png"), expires_at=later)


def test_each_field_has_a_column() -> None:
    """One more column says whether the file is stored."""
    assert {*UPLOAD.columns, "kept_sha256"} == {*UploadRow.__table__.columns.keys()}


@both_databases
async def test_equal_concurrent_uploads_are_stored_once(db: Database) -> None:
    """For the longest of the requested periods."""
    first = an_upload()
    claimed = [another(first) for _ in range(8)]

    found = await asyncio.gather(*(uploads.claim(db, upload) for upload in [first, *claimed]))
    (kept,) = {upload.id for upload in found}
    await uploads.mark_stored(db, kept)

    assert (await uploads.get(db, kept, tenant_id="default")).expires_at == claimed[0].expires_at


@both_databases
async def test_a_reserved_id_is_one_upload_whatever_else_has_its_bytes(db: Database) -> None:
    """Its caller knows it already; so the same bytes are kept under it, too, and no others ever."""
    first, reserved = an_upload(), another(an_upload())

    by_content = await uploads.claim(db, first)
    found = [await uploads.claim(db, reserved, reserved=True) for _ in range(2)]
    with pytest.raises(Conflict):
        await uploads.claim(db, replace(reserved, sha256="0" * 64), reserved=True)
    with pytest.raises(Conflict):
        await uploads.claim(db, replace(reserved, tenant_id="acme"), reserved=True)

    assert (by_content.id, [upload.id for upload in found]) == (first.id, [reserved.id] * 2)
    await uploads.mark_stored(db, reserved.id)
    await uploads.begin_removal(db, reserved.id, tenant_id="default")
    with pytest.raises(Conflict):
        await uploads.claim(db, reserved, reserved=True)


@both_databases
async def test_an_incomplete_upload_is_not_found(db: Database) -> None:
    """Its file may never arrive."""
    upload = await uploads.claim(db, an_upload())

    with pytest.raises(NotFound):
        await uploads.get(db, upload.id, tenant_id="default")
    with pytest.raises(NotFound):
        await uploads.begin_removal(db, upload.id, tenant_id="default")


@both_databases
async def test_an_upload_being_removed_is_not_claimed(db: Database) -> None:
    """Its file may be removed already, so the same bytes get another row."""
    upload = await uploads.claim(db, an_upload())
    await uploads.mark_stored(db, upload.id)
    await uploads.begin_removal(db, upload.id, tenant_id="default")

    anew = await uploads.claim(db, another(upload))
    stored_late = await uploads.mark_stored(db, upload.id)
    leaving = await uploads.being_removed(db, limit=9)
    await uploads.forget(db, [upload.id])

    assert (anew.id != upload.id, anew.stored, stored_late) == (True, False, False)
    assert [one.id for one in leaving] == [upload.id]
    assert await uploads.mark_stored(db, anew.id)


@both_databases
async def test_expired_uploads_are_removed(db: Database) -> None:
    """Stored or not, page by page."""
    for number in range(3):
        upload = replace(another(an_upload()), sha256=f"{number:064}")
        await uploads.claim(db, replace(upload, expires_at=NOON + timedelta(hours=number)))

    looked_at = await uploads.begin_expiry(db, before=NOON + timedelta(hours=1.5), limit=1)
    looked_at += await uploads.begin_expiry(db, before=NOON + timedelta(hours=1.5), limit=9)

    assert looked_at == 2
    assert len(await uploads.being_removed(db, limit=9)) == 2
