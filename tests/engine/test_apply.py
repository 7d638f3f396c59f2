"""The write path: a decision is written once, even if the response to its commit is lost."""

from collections.abc import Generator

import pytest

from fakes import FakeProvider, a_request
from fleek import failpoints
from fleek.domain.attempt import Attempt
from fleek.domain.errors import DatabaseUnavailable, ProviderUnavailable, StorageFull
from fleek.domain.job import Job, PredictionId, Status
from fleek.domain.transitions import cancel as cancelled
from fleek.engine.apply import apply, apply_until_stored
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, carry_out, intend
from fleek.engine.submit import submit
from fleek.providers.base import Prediction
from fleek.store import attempts, events, jobs, updates
from fleek.store.updates import Update


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed."""
    yield
    failpoints.arm("")


async def test_apply_until_stored_retries_while_the_database_is_away(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prediction that is not recorded would be lost money."""
    job = await submit(rt, a_request())
    real, failures = updates.apply, [DatabaseUnavailable("gone"), DatabaseUnavailable("gone")]

    async def flaky(*args: object, **kwargs: object) -> object:
        if failures:
            raise failures.pop()
        return await real(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(updates, "apply", flaky)
    monkeypatch.setattr("fleek.engine.apply.RETRY_SECONDS", (0.001,))

    await apply_until_stored(
        rt,
        job.id,
        lambda job, _: Update(change=cancelled(job, now=rt.now())),
        event="cancelled",
    )

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED
    assert failures == []


async def test_a_commit_with_a_lost_response_is_recognised(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the claim would look foreign and hold the job until this worker ends."""
    job = await submit(rt, a_request())
    real, failures = updates.apply, [DatabaseUnavailable("reset"), StorageFull("full")]

    async def lossy(*args: object, **kwargs: object) -> object:
        applied: object = await real(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
        if failures:
            raise failures.pop()
        return applied

    monkeypatch.setattr(updates, "apply", lossy)
    monkeypatch.setattr("fleek.engine.apply.RETRY_SECONDS", (0.001,))

    intended = await intend(rt, job.id)

    assert intended is not None
    assert intended[0] == await jobs.get_any_tenant(rt.db, job.id)
    assert intended[1].id == intended[0].attempt_id
    assert intended[0].attempt == 1


@pytest.mark.parametrize("point", ["cancelled.write", "cancelled.written"])
async def test_an_error_before_or_after_the_write_leaves_one_event(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The failpoints of every write are named after its event."""
    monkeypatch.setattr("fleek.engine.apply.RETRY_SECONDS", (0.001,))
    job = await submit(rt, a_request())
    failpoints.arm(f"{point}=dberror@1-2")

    applied = await apply_until_stored(
        rt,
        job.id,
        lambda job, _: Update(change=cancelled(job, now=rt.now())),
        event="cancelled",
    )

    assert applied.job == await jobs.get_any_tenant(rt.db, job.id)
    assert applied.changed
    history = await events.of_job(rt.db, job.id)
    assert [event.type for event in history] == ["submitted", "cancelled"]


async def test_an_empty_decision_returns_the_job_unchanged(rt: Runtime) -> None:
    """Callers need not keep the job that their decision has read."""
    job = await submit(rt, a_request())

    def decide(_job: Job, _attempt: Attempt | None) -> Update:
        return Update()

    applied = await apply(rt, job.id, decide, event="cancelled")

    assert (applied.job, applied.changed) == (job, False)


async def test_an_orphan_is_counted_if_the_response_to_its_commit_is_lost(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its attempt is written, and the retry must recognise that write as its own."""
    monkeypatch.setattr("fleek.engine.apply.RETRY_SECONDS", (0.001,))
    job = await submit(rt, a_request())
    intended = await intend(rt, job.id)
    assert intended is not None
    provider.starts = [ProviderUnavailable("refused")]
    await carry_out(rt, *intended)
    failpoints.arm("waiting.written=dberror")

    await bind(rt, intended[1], Prediction(id=PredictionId("late")))

    assert rt.metrics.orphans._value.get() == 1
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.prediction_id, attempt.cancel_owed) == ("late", True)
