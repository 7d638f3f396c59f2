"""Collecting: whole files or none, and never a second prediction."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import PNG, Clock, FakeProvider, a_request
from fleek.domain.errors import (
    DatabaseUnavailable,
    NotFound,
    OutputBroken,
    OutputGone,
    ProviderUnavailable,
    StorageError,
)
from fleek.domain.job import Job, Stage, Status
from fleek.domain.media import Key, Output, metadata_key
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.paid import WRONG_BYTES
from fleek.engine.purge import Retention, purge
from fleek.engine.recover import Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.spool import BUFFER_BYTES
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.providers.base import Succeeded
from fleek.store import events, jobs
from fleek.store.workers import Ended


async def a_job_to_collect(rt: Runtime, provider: FakeProvider, **fields: Any) -> Job:
    """Submit and start a job whose prediction succeeds at once."""
    provider.at_once = True
    job = await submit(rt, a_request(**fields))
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def stored(rt: Runtime, key: Key) -> bytes:
    """Read a file from storage."""
    return b"".join([chunk async for chunk in rt.storage.read(key)])


async def every_key(rt: Runtime) -> set[Key]:
    """List what is in storage."""
    return {one.key async for one in rt.storage.keys()}  # noqa: SIM118 - a storage is no dict


async def test_the_media_of_a_completed_job_are_readable(
    rt: Runtime, provider: FakeProvider
) -> None:
    """They match the recorded hash, size and detected type."""
    job = await a_job_to_collect(rt, provider)

    await collect(rt, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert (view.job.status, view.job.error, view.job.progress) == (Status.COMPLETED, None, 1.0)
    assert view.job.kind == "image"
    (media,) = view.media
    assert await stored(rt, media.key) == PNG
    assert media.sha256 == hashlib.sha256(PNG).hexdigest()
    assert (media.size_bytes, media.content_type) == (len(PNG), "image/png")
    assert (media.width, media.height, media.extension) == (1, 1, "png")
    assert str(job.attempt_id) in media.key


async def test_the_metadata_document_is_complete(rt: Runtime, provider: FakeProvider) -> None:
    """Parameters first, then the provider, the model and the attempt."""
    job = await a_job_to_collect(rt, provider, parameters={"width": 640, "seed": 3})

    await collect(rt, job.id)

    document = json.loads(await stored(rt, metadata_key(job.id)))
    assert document["width"] == 640
    assert document["prompt"] == job.prompt
    assert document["external_job_id"] == job.prediction_id
    assert document["seed"] == 3
    assert document["outputs"][0]["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert [one["verdict"] for one in document["attempts"]] == ["succeeded"]


async def test_all_outputs_are_stored_in_order(rt: Runtime, provider: FakeProvider) -> None:
    """Text becomes a file, too."""
    provider.outcome = Succeeded((Output(uri="fake:picture"), Output(text="A small poem.\n")))
    job = await a_job_to_collect(rt, provider)

    await collect(rt, job.id)

    media = (await jobs.get(rt.db, job.id, tenant_id="default")).media
    assert [one.content_type for one in media] == ["image/png", "text/plain"]
    assert await stored(rt, media[1].key) == b"A small poem.\n"


async def test_large_outputs_are_streamed(rt: Runtime, provider: FakeProvider) -> None:
    """Memory does not grow with the file."""
    provider.content = PNG[:7] + b"\x00" * (2 * BUFFER_BYTES)
    job = await a_job_to_collect(rt, provider)

    await collect(rt, job.id)

    (media,) = (await jobs.get(rt.db, job.id, tenant_id="default")).media
    assert media.sha256 == hashlib.sha256(provider.content).hexdigest()


@pytest.mark.parametrize(
    "failure", [OutputBroken("cut"), ProviderUnavailable("no answer")], ids=["broken", "away"]
)
async def test_a_broken_download_is_repeated(
    rt: Runtime, provider: FakeProvider, clock: Clock, failure: Exception
) -> None:
    """The prediction is paid for, so only the download is repeated."""
    provider.reads = [failure]  # type: ignore[list-item]  # parametrised over its subclasses
    job = await a_job_to_collect(rt, provider)
    await collect(rt, job.id)
    postponed = await jobs.get_any_tenant(rt.db, job.id)
    assert (postponed.stage, postponed.worker_id) == (Stage.COLLECTING, None)
    clock.tick(minutes=2)

    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED
    assert len(provider.started) == 1


@pytest.mark.parametrize(
    ("failure", "raises"),
    [
        (DatabaseUnavailable("gone"), contextlib.nullcontext()),
        (ZeroDivisionError("a mistake"), pytest.raises(ZeroDivisionError)),
    ],
    ids=["database", "mistake"],
)
async def test_an_unexpected_error_releases_the_job(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    failure: Exception,
    raises: contextlib.AbstractContextManager[object],
) -> None:
    """Otherwise no other worker would take it as long as this one lives."""
    provider.reads = [failure]  # type: ignore[list-item]  # what no provider should raise
    job = await a_job_to_collect(rt, provider)
    with raises:
        await collect(rt, job.id)
    postponed = await jobs.get_any_tenant(rt.db, job.id)
    clock.tick(minutes=2)

    await collect(rt, job.id)

    assert (postponed.stage, postponed.worker_id) == (Stage.COLLECTING, None)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_an_empty_output_is_broken(rt: Runtime, provider: FakeProvider) -> None:
    """A job never completes with an empty file."""
    provider.content = b""
    job = await a_job_to_collect(rt, provider)

    for _ in range(WRONG_BYTES.tries):
        await collect(rt, job.id)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "output_broken")
    assert await every_key(rt) == set()


async def test_a_removed_output_ends_the_job(rt: Runtime, provider: FakeProvider) -> None:
    """A retry cannot bring it back."""
    provider.reads = [OutputGone("deleted after an hour")]
    job = await a_job_to_collect(rt, provider)

    await collect(rt, job.id)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "output_expired"


async def test_a_storage_outage_of_any_length_is_survived(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new prediction is paid for because our storage was unavailable."""
    job = await a_job_to_collect(rt, provider)

    async def away(*_: object, **__: object) -> None:
        raise StorageError("read-only file system")

    with monkeypatch.context() as broken:
        broken.setattr(rt.storage, "save", away)
        for _ in range(WRONG_BYTES.tries + 2):
            await collect(rt, job.id)

    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED
    assert len(provider.started) == 1


async def test_a_spool_failure_counts_as_a_storage_error(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is not the cause."""
    job = await a_job_to_collect(rt, provider)
    monkeypatch.setattr(rt.storage, "spool", lambda: Path("no/folder"))

    await collect(rt, job.id)

    assert (await events.of_job(rt.db, job.id))[-1].data["code"] == "storage_unavailable"


async def test_two_workers_collect_a_job_once(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """A dispatch may be delivered twice."""
    job = await a_job_to_collect(rt, provider)
    other = second_worker()
    await other.lease.register()

    await asyncio.gather(collect(rt, job.id), collect(other, job.id), collect(rt, job.id))

    seen = [event.type for event in await events.of_job(rt.db, job.id)]
    assert seen.count("collecting") == 1
    assert seen.count("completed") == 1


async def test_a_job_cancelled_while_collecting_leaves_no_file(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation wins, and files stored in the meantime are removed."""
    job = await a_job_to_collect(rt, provider)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*_: object) -> AsyncIterator[bytes]:
        reading.set()
        await go_on.wait()
        yield PNG

    monkeypatch.setattr(provider, "read", slowly)
    collecting = asyncio.create_task(collect(rt, job.id))
    await reading.wait()
    await cancel(rt, job.id, tenant_id="default")

    go_on.set()
    await collecting

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED
    assert await every_key(rt) == set()


async def test_stopping_the_worker_releases_the_job(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker continues at once, and no failure is counted."""
    job = await a_job_to_collect(rt, provider)
    reading = asyncio.Event()

    async def endless(*_: object) -> AsyncIterator[bytes]:
        reading.set()
        await asyncio.Event().wait()
        yield PNG

    with monkeypatch.context() as slow:
        slow.setattr(provider, "read", endless)
        collecting = asyncio.create_task(collect(rt, job.id))
        await reading.wait()
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
    released = await jobs.get_any_tenant(rt.db, job.id)
    assert (released.stage, released.worker_id, released.collects) == (Stage.COLLECTING, None, 0)

    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


@pytest.fixture
async def frozen(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    second_worker: Callable[[], Runtime],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Job, Callable[[], Awaitable[None]]]:
    """Return a job completed by one worker while another was suspended, and what resumes that."""
    job = await a_job_to_collect(rt, provider)
    zombie = second_worker()
    await zombie.lease.register()
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*_: object) -> AsyncIterator[bytes]:
        reading.set()
        await go_on.wait()
        yield PNG

    with monkeypatch.context() as slow:
        slow.setattr(provider, "read", slowly)
        sleeping = asyncio.create_task(collect(zombie, job.id))
        await reading.wait()
    worker_id = zombie.lease.worker_id
    await zombie.lease.end()
    await Recovery(rt)._free(Ended(worker_id, resigned=False))
    await collect(rt, job.id)
    clock.tick(minutes=1)

    async def resume() -> None:
        go_on.set()
        await sleeping

    return job, resume


async def test_a_suspended_worker_cannot_complete_a_job_of_another(
    rt: Runtime, frozen: tuple[Job, Callable[[], Awaitable[None]]]
) -> None:
    """Its claim was released in the meantime, and the winner's files and document stay."""
    job, resume = frozen
    before = await stored(rt, metadata_key(job.id))

    await resume()

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert view.job.status is Status.COMPLETED
    assert await stored(rt, view.media[0].key) == PNG
    assert await stored(rt, metadata_key(job.id)) == before


async def test_a_suspended_worker_restores_no_purged_file(
    rt: Runtime, frozen: tuple[Job, Callable[[], Awaitable[None]]]
) -> None:
    """The caller was promised that the files are removed."""
    job, resume = frozen
    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()
    assert await every_key(rt) == set()

    await resume()

    assert await every_key(rt) == set()


async def test_a_job_in_another_stage_is_not_collected(rt: Runtime) -> None:
    """A dispatch may be late or wrong."""
    job = await submit(rt, a_request())

    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING
    with pytest.raises(NotFound):
        await rt.storage.stat(metadata_key(job.id))
