"""Late operations: a decision about a job that has moved on does not change it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from fakes import Clock, FakeProvider, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import (
    OutcomeUnknown,
    OutputBroken,
    ProviderRejected,
    ProviderUnavailable,
    StorageFull,
)
from fleek.domain.job import JobId, PredictionId, Stage, Status, WorkerId
from fleek.engine import watch
from fleek.engine.callback import receive
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.heartbeat import process_space
from fleek.engine.recover import Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import carry_out, intend, record_unknown, start, stop_orphan
from fleek.engine.submit import submit
from fleek.engine.watch import Watch
from fleek.providers.base import Prediction
from fleek.store import attempts, events, jobs
from fleek.store.workers import Ended
from recovering import Recovering


@pytest.fixture(autouse=True)
def _short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for cancel requests when the runtime is closed."""
    monkeypatch.setattr("fleek.bootstrap.LAST_CANCELS_SECONDS", 0.05)


async def intended(rt: Runtime, **fields: Any) -> tuple[JobId, Any]:
    """Submit a job and record the intent for it."""
    job = await submit(rt, a_request(**fields))
    found = await intend(rt, job.id)
    assert found is not None
    return job.id, found


async def only_attempt(rt: Runtime, job_id: JobId) -> Attempt:
    """Return a job's only attempt."""
    (attempt,) = await attempts.of_job(rt.db, job_id)
    return attempt


async def test_a_refusal_for_a_cancelled_job_ends_its_attempt_only(
    rt: Runtime, provider: FakeProvider
) -> None:
    """No prediction was created, and the job stays cancelled."""
    job_id, found = await intended(rt)
    await cancel(rt, job_id, tenant_id="default")
    provider.starts = [ProviderRejected("no")]

    await carry_out(rt, *found)

    assert (await only_attempt(rt, job_id)).verdict is Verdict.NOT_CREATED
    assert (await jobs.get_any_tenant(rt.db, job_id)).status is Status.CANCELLED


async def test_an_unknown_outcome_of_a_bound_attempt_changes_nothing(rt: Runtime) -> None:
    """Recovery has found the prediction in the meantime."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    before = await events.of_job(rt.db, job.id)

    await record_unknown(rt, await only_attempt(rt, job.id), OutcomeUnknown("late"))

    assert await events.of_job(rt.db, job.id) == before


async def test_an_orphan_is_counted_if_its_cancellation_fails(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator sees it, and it ends by its own time-out."""
    job = await submit(rt, a_request())
    await start(rt, job.id)

    async def away(_: PredictionId) -> None:
        raise ProviderUnavailable("no answer")

    monkeypatch.setattr(provider, "cancel", away)

    attempt = await only_attempt(rt, job.id)
    await stop_orphan(rt, attempt, PredictionId("orphan"), reason="a test")

    assert rt.metrics.orphans._value.get() == 1


async def test_a_callback_about_a_running_prediction_changes_nothing(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The prediction has begun, and there is nothing to do."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await only_attempt(rt, job.id)

    async def read() -> bytes:
        return str(attempt.prediction_id).encode()

    headers = {"webhook-signature": "fake", "webhook-id": "msg_1"}
    token = f"{attempt.id}.{attempt.nonce}"
    await receive(rt, "placeholder", token, headers=headers, read=read)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


@pytest.mark.parametrize("ends", ["stopped", "broken"])
async def test_a_cancelled_job_is_not_released_by_its_collector(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The collector may be stopped, or its download may break."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def read(*_: object) -> AsyncIterator[bytes]:
        reading.set()
        await go_on.wait()
        yield b"half of it"
        raise OutputBroken("cut")

    monkeypatch.setattr(provider, "read", read)
    collecting = asyncio.create_task(collect(rt, job.id))
    await reading.wait()
    await cancel(rt, job.id, tenant_id="default")

    if ends == "stopped":
        collecting.cancel()
    go_on.set()
    await asyncio.gather(collecting, return_exceptions=True)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED
    assert (await events.of_job(rt.db, job.id))[-1].type == "cancelled"


async def test_a_document_that_cannot_be_written_is_written_later(
    rt: Runtime, clock: Clock, provider: FakeProvider, tmp_path: Path
) -> None:
    """The files are safe; the job completes when there is a folder for its document."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    folder = tmp_path / "storage" / "metadata"
    folder.rmdir()
    folder.touch()

    await collect(rt, job.id)
    failed = (await events.of_job(rt.db, job.id))[-1].data["code"]
    folder.unlink()
    clock.tick(seconds=60)
    await collect(rt, job.id)

    assert failed == "storage_unavailable"
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


def test_without_proc_a_process_space_is_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a namespace, a process number alone must not prove that a process has ended."""

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)

    assert " " not in process_space()


async def test_only_jobs_of_the_ended_worker_are_released(rt: Runtime) -> None:
    """Another worker may have claimed the job since the list was read."""
    job_id, _ = await intended(rt)

    await Recovery(rt)._free_job(job_id, Ended(WorkerId(uuid7()), resigned=False))

    assert (await jobs.get_any_tenant(rt.db, job_id)).stage is Stage.STARTING


async def test_a_job_no_longer_overdue_continues(rt: Runtime) -> None:
    """The list of overdue jobs may be outdated."""
    job = await submit(rt, a_request())

    await Recovery(rt)._end_overdue(job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.PENDING


async def test_a_prediction_of_an_unconfigured_provider_is_cancelled_later(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The cancellation stays stored."""
    job = await submit(rt, a_request(provider="fake"))
    await start(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")
    assert isinstance(rt.providers, dict)
    del rt.providers["fake"]

    await Recovering(rt).turn()

    assert provider.cancelled == []
    assert len(await attempts.pending_cancels(rt.db, "fake", limit=9)) == 1


async def test_a_disk_that_stays_full_is_reported_once(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is not filled with a line every five seconds."""

    async def full() -> None:
        raise StorageFull("no room")

    monkeypatch.setattr(rt.storage, "check", full)

    for _ in range(2):
        await rt.capacity.look()

    with pytest.raises(StorageFull):
        rt.capacity.check()


async def test_many_predictions_are_discovered_page_by_page(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page size limits how many predictions are polled."""
    monkeypatch.setattr(watch, "PAGE", 2)
    provider.outcome = None
    watching = Watch(rt)
    await watching.turn()
    for _ in range(5):
        job = await submit(rt, a_request())
        await start(rt, job.id)
    clock.tick(seconds=1)

    for looking in (watching, Watch(rt)):
        provider.polled.clear()
        for _ in range(4):
            await looking.turn()

    assert len(set(provider.polled)) == 5


async def test_the_watch_changes_no_job_that_has_moved_on(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A job may be cancelled between a poll and its consequence."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    watching = Watch(rt)
    clock.tick(seconds=1)
    await watching.turn()
    (watched,) = watching._watched.values()
    await cancel(rt, job.id, tenant_id="default")
    before = await events.of_job(rt.db, job.id)

    await watching._write_progress(watched, Prediction(id=watched.row.prediction_id, progress=0.5))
    provider.outcome = FakeProvider().outcome
    clock.tick(seconds=5)
    await watching.turn()
    await watching._stop(watched.row)

    assert await events.of_job(rt.db, job.id) == before
    assert not (await only_attempt(rt, job.id)).cancel_owed
