"""Purged and orphaned files are removed from a bucket as from a folder."""

from dataclasses import replace

from uuid_utils.compat import uuid7

from fakes import Clock, FakeProvider
from fleek.domain.job import AttemptId
from fleek.domain.media import media_key
from fleek.engine.orphan_files import OrphanSearch
from fleek.engine.purge import Retention, purge
from fleek.engine.runtime import Runtime
from fleek.storage.base import Storage
from stored_outputs import completed, days_pass, left_of, save, with_settings


async def test_purged_files_are_removed_from_the_bucket(
    rt: Runtime, storage: Storage, provider: FakeProvider, clock: Clock
) -> None:
    """On request and by retention, file by file; files of other jobs stay."""
    rt = with_settings(replace(rt, storage=storage), metadata_retention_days=1)
    wanted, old = await completed(rt, provider), await completed(rt, provider)
    await purge(rt, wanted.id, tenant_id="default")
    clock.tick(days=1, seconds=1)
    young = await completed(rt, provider)

    await Retention(rt).turn()

    left = [await left_of(rt, job.id) for job in (wanted, old, young)]
    assert left == [set(), {"media"}, {"media", "metadata"}]


async def test_an_orphaned_file_is_removed_from_the_bucket(
    rt: Runtime, storage: Storage, provider: FakeProvider, clock: Clock
) -> None:
    """Its age is that on the server; the job's files stay."""
    rt = replace(rt, storage=storage)
    job = await completed(rt, provider)
    attempt_id = AttemptId(uuid7())
    key = media_key(job.id, attempt_id, 0, sha256="f" * 64, extension="png")
    await save(rt, key)
    young = OrphanSearch(rt)
    await young.batch()
    days_pass(clock, 2)
    search = OrphanSearch(rt)

    more = await search.batch()

    assert (young.result.orphans, search.result.orphans, more) == (0, 1, False)
    assert await left_of(rt, job.id) == {"media", "metadata"}
