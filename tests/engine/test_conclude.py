"""The end of a prediction: its answer is kept, large content of it in storage."""

import asyncio
import base64
from dataclasses import replace

import pytest

from fakes import PNG, AskableProvider, Clock, FakeProvider, a_request
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


async def told(rt: Runtime, job: Job, *outputs: Output) -> None:
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
    """The rest of the answer is written down as it is."""
    job = await bound(rt, provider)

    await told(rt, job, Output(uri=LARGE), Output(text="a cat"), Output(text=WORDS))

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.result is not None
    picture, short, long = map(Output.from_json, attempt.result["outputs"])
    assert picture.uri is None
    assert long.text is None
    assert short == Output(text="a cat")
    assert await every_key(rt) == {picture.key, long.key}


async def test_it_is_collected_without_the_provider(rt: Runtime, provider: FakeProvider) -> None:
    """The provider has forgotten it by now; what was put away becomes the media."""
    job = await bound(rt, provider)
    await told(rt, job, Output(text=WORDS))
    before = await every_key(rt)

    await collect(rt, job.id)

    view = await jobs.get(rt.db, job.id, tenant_id="default")
    assert view.job.status is Status.COMPLETED
    assert {media.key for media in view.media} == before
    assert view.media[0].size_bytes == len(WORDS)


async def test_an_answer_told_twice_is_put_away_once(rt: Runtime, provider: FakeProvider) -> None:
    """By callback and by poll, at the same time."""
    job = await bound(rt, provider)

    await asyncio.gather(*(told(rt, job, Output(text=WORDS)) for _ in range(2)))
    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_nothing_is_left_behind_for_a_job_that_was_cancelled(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Its files would belong to nobody."""
    job = await bound(rt, provider)
    await cancel(rt, job.id, tenant_id="default")

    await told(rt, job, Output(text=WORDS), Output(text="a cat"))

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.SUCCEEDED
    assert await every_key(rt) == set()


async def away(*_: object, **__: object) -> None:
    """Refuse, as a storage that is away."""
    raise StorageError("no answer")


@pytest.mark.parametrize("askable", [False, True])
async def test_an_answer_that_cannot_be_put_away_now_is_not_lost(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, *, askable: bool
) -> None:
    """It stays at the provider, or in the answer until it is collected."""
    provider = AskableProvider(inlines=True) if askable else FakeProvider(inlines=True)
    rt.providers["placeholder"] = provider  # type: ignore[index]  # a dict, as the fixture made it
    job = await bound(rt, provider)
    outputs = (Output(uri=LARGE), Output(text=WORDS), Output(text="a cat"))
    provider.outcome = Succeeded(outputs)
    with monkeypatch.context() as broken:
        broken.setattr(rt.storage, "save", away)
        await told(rt, job, *outputs)
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


async def test_what_is_too_large_to_stay_in_the_answer_is_asked_for_again(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written down, so whoever looks next is told of it anew."""
    job = await bound(rt, provider)
    monkeypatch.setattr(rt.storage, "save", away)

    with pytest.raises(StorageError):
        await told(rt, job, Output(text="a" * (MAX_KEPT_CHARS + 1)))

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.verdict, (await jobs.get_any_tenant(rt.db, job.id)).stage) == (
        None,
        Stage.WAITING,
    )


async def test_what_cannot_be_read_out_of_the_answer_is_collected_in_vain(
    rt: Runtime, provider: FakeProvider
) -> None:
    """It is paid for: eight tries, and then it can be collected by a better release."""
    job = await bound(rt, provider)
    provider.reads = [OutputBroken("not base64")] * 100

    await told(rt, job, Output(uri=LARGE))
    for _ in range(WRONG_BYTES.tries):
        await collect(rt, job.id)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "output_broken")


async def test_what_a_limit_refuses_is_left_to_be_collected(rt: Runtime) -> None:
    """The operator may raise it while the provider still has the answer."""
    provider = AskableProvider(inlines=True)
    rt.providers["placeholder"] = provider  # type: ignore[index]  # a dict, as the fixture made it
    small = replace(rt, settings=rt.settings.model_copy(update={"max_job_bytes": 1024}))
    job = await bound(rt, provider)
    provider.outcome = Succeeded((Output(uri=LARGE),))
    await told(small, job, Output(uri=LARGE))
    await collect(small, job.id)
    failed = await jobs.get_any_tenant(rt.db, job.id)

    await recollect(rt, job.id, tenant_id="default")
    await collect(rt, job.id)

    assert (failed.error and failed.error.code) == "output_too_large"
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_a_file_that_was_put_away_and_stays_gone_ends_the_job(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Nobody can bring it back; but a disk that is not mounted may be for some minutes."""
    job = await bound(rt, provider)
    await told(rt, job, Output(text=WORDS))
    for key in await every_key(rt):
        await rt.storage.delete(key)

    for _ in range(MISSING.tries):
        await collect(rt, job.id)
        clock.tick(minutes=3)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "output_expired")
