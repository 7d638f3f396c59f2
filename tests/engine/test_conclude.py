"""The end of a prediction: its result is stored, and large values of it go to the storage."""

import asyncio
import base64
from dataclasses import replace

import pytest

from fakes import PNG, Clock, FakeProvider, RecallingProvider, a_request
from fleek.domain.attempt import Verdict
from fleek.domain.errors import OutputBroken, StorageError
from fleek.domain.job import Job, Stage, Status
from fleek.domain.media import Key, Output
from fleek.engine.cancel import cancel
from fleek.engine.collect import INLINE_CHARS, collect
from fleek.engine.conclude import MAX_KEPT_CHARS, conclude
from fleek.engine.paid import MISSING, WRONG_BYTES
from fleek.engine.recollect import recollect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.providers.base import Prediction, Succeeded
from fleek.store import attempts, jobs

LARGE = f"data:image/png;base64,{base64.b64encode(PNG * 200).decode()}"
WORDS = "a cat " * INLINE_CHARS


async def bound(rt: Runtime, provider: FakeProvider) -> Job:
    """Submit and start a job whose prediction runs on."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def conclude_with(rt: Runtime, job: Job, *outputs: Output) -> None:
    """Conclude the job's attempt with these outputs."""
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert job.prediction_id is not None
    await conclude(rt, attempt, Prediction(id=job.prediction_id, outcome=Succeeded(outputs)))


async def every_key(rt: Runtime) -> set[Key]:
    """List what is in storage."""
    return {one.key async for one in rt.storage.keys()}  # noqa: SIM118 - a storage is no dict


async def test_large_content_is_in_storage_and_not_in_the_database(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The rest of the result is recorded as it is."""
    job = await bound(rt, provider)

    await conclude_with(rt, job, Output(uri=LARGE), Output(text="a cat"), Output(text=WORDS))

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.result is not None
    picture, short, long = map(Output.from_json, attempt.result["outputs"])
    assert picture.uri is None
    assert long.text is None
    assert short == Output(text="a cat")
    assert await every_key(rt) == {picture.key, long.key}


async def test_stored_inline_outputs_need_no_provider(rt: Runtime, provider: FakeProvider) -> None:
    """The provider may have deleted them by now, so the stored files become the media."""
    job = await bound(rt, provider)
    await conclude_with(rt, job, Output(text=WORDS))
    before = await every_key(rt)

    await collect(rt, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert view.job.status is Status.COMPLETED
    assert {media.key for media in view.media} == before
    assert view.media[0].size_bytes == len(WORDS)


async def test_a_result_reported_twice_is_stored_once(rt: Runtime, provider: FakeProvider) -> None:
    """A callback and a poll may report it at the same time."""
    job = await bound(rt, provider)

    await asyncio.gather(*(conclude_with(rt, job, Output(text=WORDS)) for _ in range(2)))
    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_a_cancelled_job_leaves_no_inline_outputs(
    rt: Runtime, provider: FakeProvider
) -> None:
    """No row would refer to the files."""
    job = await bound(rt, provider)
    await cancel(rt, job.id, tenant_id="default")

    await conclude_with(rt, job, Output(text=WORDS), Output(text="a cat"))

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.SUCCEEDED
    assert await every_key(rt) == set()


async def away(*_: object, **__: object) -> None:
    """Fail, like a storage that is unavailable."""
    raise StorageError("no answer")


@pytest.mark.parametrize("askable", [False, True])
async def test_a_result_survives_a_storage_outage(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, *, askable: bool
) -> None:
    """It stays at the provider, or in the database until it is collected."""
    provider = RecallingProvider(inlines=True) if askable else FakeProvider(inlines=True)
    rt.providers["placeholder"] = provider  # type: ignore[index]  # a dict, as the fixture made it
    job = await bound(rt, provider)
    outputs = (Output(uri=LARGE), Output(text=WORDS), Output(text="a cat"))
    provider.outcome = Succeeded(outputs)
    with monkeypatch.context() as broken:
        broken.setattr(rt.storage, "save", away)
        await conclude_with(rt, job, *outputs)
        await collect(rt, job.id)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    (kept,) = await attempts.of_job(rt.db, job.id)

    await collect(rt, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (waiting.error and waiting.error.code) == "storage_unavailable"
    assert ("base64" in str(kept.result)) is not askable
    assert [one.size_bytes for one in view.media] == [200 * len(PNG), len(WORDS), 5]
    assert view.job.status is Status.COMPLETED
    assert "base64" not in str(attempt.result)


async def test_a_result_too_large_for_the_database_is_polled_again(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is recorded, so the next poll reports it again."""
    job = await bound(rt, provider)
    monkeypatch.setattr(rt.storage, "save", away)

    with pytest.raises(StorageError):
        await conclude_with(rt, job, Output(text="a" * (MAX_KEPT_CHARS + 1)))

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.verdict, (await jobs.get_any_tenant(rt.db, job.id)).stage) == (
        None,
        Stage.WAITING,
    )


async def test_unreadable_inline_outputs_fail_after_all_tries(
    rt: Runtime, provider: FakeProvider
) -> None:
    """The result is paid for, and a later release may be able to collect it."""
    job = await bound(rt, provider)
    provider.reads = [OutputBroken("not base64")] * 100

    await conclude_with(rt, job, Output(uri=LARGE))
    for _ in range(WRONG_BYTES.tries):
        await collect(rt, job.id)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "output_broken")


async def test_outputs_over_a_limit_can_be_collected_later(rt: Runtime) -> None:
    """The operator may raise the limit while the provider still has the result."""
    provider = RecallingProvider(inlines=True)
    rt.providers["placeholder"] = provider  # type: ignore[index]  # a dict, as the fixture made it
    small = replace(rt, settings=rt.settings.model_copy(update={"max_job_bytes": 1024}))
    job = await bound(rt, provider)
    provider.outcome = Succeeded((Output(uri=LARGE),))
    await conclude_with(small, job, Output(uri=LARGE))
    await collect(small, job.id)
    failed = await jobs.get_any_tenant(rt.db, job.id)

    await recollect(rt, job.id, tenant_id="default")
    await collect(rt, job.id)

    assert (failed.error and failed.error.code) == "output_too_large"
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_a_missing_inline_output_ends_the_job_after_some_minutes(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A disk may be unmounted for a short time, but a removed file does not come back."""
    job = await bound(rt, provider)
    await conclude_with(rt, job, Output(text=WORDS))
    for key in await every_key(rt):
        await rt.storage.delete(key)

    for _ in range(MISSING.tries):
        await collect(rt, job.id)
        clock.tick(minutes=3)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "output_expired")
