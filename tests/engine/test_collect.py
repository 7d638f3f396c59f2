"""Collecting: whole files or none, and never a second purchase."""

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
    """Submit and start a job whose prediction ends well at once."""
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


async def test_a_completed_job_s_bytes_are_readable(rt: Runtime, provider: FakeProvider) -> None:
    """They match the recorded hash, size and sniffed type."""
    job = await a_job_to_collect(rt, provider)

    await collect(rt, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert (view.job.status, view.job.error, view.job.progress) == (Status.COMPLETED, None, 1.0)
    (media,) = view.media
    assert await stored(rt, media.key) == PNG
    assert media.sha256 == hashlib.sha256(PNG).hexdigest()
    assert (media.size_bytes, media.content_type) == (len(PNG), "image/png")
    assert (media.width, media.height, media.extension) == (1, 1, "png")
    assert str(job.attempt_id) in media.key


async def test_the_metadata_document_tells_the_whole_story(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Parameters at the top, then who made what, and how."""
    job = await a_job_to_collect(rt, provider, parameters={"width": 640, "seed": 3})

    await collect(rt, job.id)

    document = json.loads(await stored(rt, metadata_key(job.id)))
    assert document["width"] == 640
    assert document["prompt"] == job.prompt
    assert document["external_job_id"] == job.prediction_id
    assert document["seed"] == 3
    assert document["outputs"][0]["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert [one["verdict"] for one in document["attempts"]] == ["succeeded"]


async def test_all_outputs_are_kept_in_order(rt: Runtime, provider: FakeProvider) -> None:
    """Words are files too."""
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
async def test_an_output_that_comes_broken_is_fetched_again(
    rt: Runtime, provider: FakeProvider, clock: Clock, failure: Exception
) -> None:
    """The prediction is paid for: only the download is repeated."""
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
async def test_a_job_is_not_held_by_a_worker_that_gave_it_up(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    failure: Exception,
    raises: contextlib.AbstractContextManager[object],
) -> None:
    """Nobody else would take it as long as that worker lives."""
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
    """Never completed with nothing in it."""
    provider.content = b""
    job = await a_job_to_collect(rt, provider)

    for _ in range(WRONG_BYTES.tries):
        await collect(rt, job.id)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "output_broken")
    assert await every_key(rt) == set()


async def test_an_output_that_is_gone_ends_the_job(rt: Runtime, provider: FakeProvider) -> None:
    """Asking again cannot bring it back."""
    provider.reads = [OutputGone("deleted after an hour")]
    job = await a_job_to_collect(rt, provider)

    await collect(rt, job.id)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "output_expired"


async def test_a_storage_that_is_away_is_waited_for_however_long(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is bought again because our disk had a bad day."""
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


async def test_a_spool_that_cannot_be_written_is_the_storage_s_trouble(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is not to blame."""
    job = await a_job_to_collect(rt, provider)
    monkeypatch.setattr(rt.storage, "spool", lambda: Path("no/folder"))

    await collect(rt, job.id)

    assert (await events.of_job(rt.db, job.id))[-1].data["code"] == "storage_unavailable"


async def test_two_workers_collect_it_once(
    rt: Runtime, provider: FakeProvider, second_worker: Callable[[], Runtime]
) -> None:
    """A nudge may come twice."""
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
    """Cancel wins, and what was stored meanwhile goes."""
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


async def test_stopping_the_worker_gives_the_job_back(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker goes on at once; nothing is counted."""
    job = await a_job_to_collect(rt, provider)
    reading = asyncio.Event()

    async def for_ever(*_: object) -> AsyncIterator[bytes]:
        reading.set()
        await asyncio.Event().wait()
        yield PNG

    with monkeypatch.context() as slow:
        slow.setattr(provider, "read", for_ever)
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
    """Give a job that one worker completed while another slept over it, and what wakes that."""
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

    async def wake() -> None:
        go_on.set()
        await sleeping

    return job, wake


async def test_a_frozen_worker_cannot_complete_what_another_collects(
    rt: Runtime, frozen: tuple[Job, Callable[[], Awaitable[None]]]
) -> None:
    """Its claim was freed while it slept; the winner's files and its document stay."""
    job, wake = frozen
    before = await stored(rt, metadata_key(job.id))

    await wake()

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert view.job.status is Status.COMPLETED
    assert await stored(rt, view.media[0].key) == PNG
    assert await stored(rt, metadata_key(job.id)) == before


async def test_a_frozen_worker_brings_back_nothing_that_was_purged(
    rt: Runtime, frozen: tuple[Job, Callable[[], Awaitable[None]]]
) -> None:
    """Whoever was promised that it is gone must not find it again in the bucket."""
    job, wake = frozen
    await purge(rt, job.id, tenant_id="default")
    await Retention(rt).turn()
    assert await every_key(rt) == set()

    await wake()

    assert await every_key(rt) == set()


async def test_a_job_that_is_not_to_be_collected_is_left_alone(rt: Runtime) -> None:
    """A nudge may be late, or wrong."""
    job = await submit(rt, a_request())

    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING
    with pytest.raises(NotFound):
        await rt.storage.stat(metadata_key(job.id))
