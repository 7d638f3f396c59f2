"""A crash leaves neither a file without a row, nor a row with a missing file."""

from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from datetime import timedelta

import pytest

from backing_services import both_databases
from fakes import PNG, Clock
from fleek import failpoints
from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    NotFound,
    StorageError,
    TooManyUploads,
)
from fleek.engine.purge import Retention
from fleek.engine.runtime import Runtime
from fleek.engine.uploads import accept_upload, remove_upload
from fleek.store import uploads
from stored_outputs import with_settings


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed."""
    yield
    failpoints.arm("")


async def chunks(content: bytes = PNG) -> AsyncIterator[bytes]:
    """Yield the content of a file."""
    yield content


async def stored(rt: Runtime) -> list[str]:
    """Return the keys of all uploads in storage."""
    return [file.key async for file in rt.storage.keys("uploads/")]


@pytest.mark.parametrize("point", ["upload.claimed", "upload.stored"])
async def test_an_interrupted_upload_is_repeated(rt: Runtime, point: str) -> None:
    """The caller sends it again, and there is one upload with one file."""
    failpoints.arm(f"{point}=dberror@1")
    with pytest.raises(DatabaseUnavailable):
        await accept_upload(rt, chunks(), tenant_id="default")

    upload = await accept_upload(rt, chunks(), tenant_id="default")

    assert await stored(rt) == [upload.key]
    assert (await uploads.get(rt.db, upload.id, tenant_id="default")).stored


@both_databases
async def test_uploads_beyond_the_limit_of_a_tenant_are_refused(rt: Runtime) -> None:
    """The same bytes count once, and those of others do not; what is removed makes room."""
    limited = with_settings(rt, max_uploaded_bytes=2 * len(PNG) + 10)
    first = await accept_upload(limited, chunks(PNG), tenant_id="default")
    await accept_upload(limited, chunks(PNG), tenant_id="default")
    await accept_upload(limited, chunks(PNG + b"1"), tenant_id="default")

    with pytest.raises(TooManyUploads):
        await accept_upload(limited, chunks(PNG + b"2"), tenant_id="default")
    await accept_upload(limited, chunks(PNG + b"2"), tenant_id="other")
    assert len(await stored(rt)) == 3
    await remove_upload(rt, first.id, tenant_id="default")

    assert (await accept_upload(limited, chunks(PNG + b"2"), tenant_id="default")).stored is False


@pytest.mark.parametrize("point", ["upload.claimed", "upload.stored"])
async def test_an_interrupted_upload_without_repetition_expires(
    rt: Runtime, clock: Clock, point: str
) -> None:
    """Its file, if there is one, is removed."""
    failpoints.arm(f"{point}=dberror@1")
    with pytest.raises(DatabaseUnavailable):
        await accept_upload(rt, chunks(), tenant_id="default")

    clock.tick(hours=25)
    await Retention(rt).turn()

    assert await stored(rt) == []
    assert await uploads.being_removed(rt.db, limit=9) == []
    assert await uploads.begin_expiry(rt.db, before=rt.now(), limit=9) == 0


@pytest.mark.parametrize("point", ["upload.delete", "upload.deleted"])
async def test_an_interrupted_removal_continues(rt: Runtime, point: str) -> None:
    """The row stays until its file is removed."""
    upload = await accept_upload(rt, chunks(), tenant_id="default")
    await remove_upload(rt, upload.id, tenant_id="default")
    failpoints.arm(f"{point}=dberror@1")

    with pytest.raises(FleekError):
        await Retention(rt).turn()
    await Retention(rt).turn()

    assert await stored(rt) == []
    assert await uploads.being_removed(rt.db, limit=9) == []


async def test_a_late_file_is_not_stored(rt: Runtime, clock: Clock) -> None:
    """Its row is being removed, and the file would stay for ever."""

    class Slow:
        """A storage whose save takes longer than the retention of an upload."""

        def __getattr__(self, name: str) -> object:
            return getattr(rt.storage, name)

        async def save(self, *args: object, **kwargs: object) -> None:
            clock.tick(hours=25)
            await Retention(rt).turn()
            await rt.storage.save(*args, **kwargs)  # type: ignore[arg-type]  # passed on

    with pytest.raises(StorageError):
        await accept_upload(replace(rt, storage=Slow()), chunks(), tenant_id="default")  # type: ignore[arg-type]  # stands for a storage

    assert await stored(rt) == []


async def test_another_tenant_has_its_own_file(rt: Runtime) -> None:
    """Otherwise the bytes of a file would reveal that another tenant has it."""
    ours = await accept_upload(rt, chunks(), tenant_id="default")
    theirs = await accept_upload(rt, chunks(), tenant_id="acme")

    assert ours.id != theirs.id
    assert len(await stored(rt)) == 2
    with pytest.raises(NotFound):
        await uploads.get(rt.db, ours.id, tenant_id="acme")
    assert theirs.expires_at - rt.now() == timedelta(hours=24)
