"""Polling predictions: often enough, many at a time, until each has ended."""

import asyncio
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from fakes import BADLY, FOR_GOOD, WELL, Clock, FakeProvider, a_request
from fleek.domain.attempt import Verdict
from fleek.domain.errors import DispatcherUnavailable, ProviderUnavailable
from fleek.domain.job import Job, JobId, PredictionId, Stage, Status
from fleek.engine.cancel import cancel
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.watch import LONGEST, SCAN_SECONDS, SHORTEST, Watch, interval
from fleek.providers.base import Prediction, Succeeded
from fleek.store import attempts, events, job_logs, jobs, queue


async def a_waiting_job(rt: Runtime, **fields: Any) -> Job:
    """Submit and start a job."""
    job = await submit(rt, a_request(**fields))
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def test_a_successful_prediction_is_collected_next(rt: Runtime, clock: Clock) -> None:
    """Its result is stored, because the provider may delete it."""
    job = await a_waiting_job(rt)
    clock.tick(seconds=1)

    await Watch(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.verdict is Verdict.SUCCEEDED
    assert attempt.result == {"outputs": [{"uri": "fake:picture"}]}
    assert attempt.metrics == {"seed": 7}


async def test_nothing_is_polled_before_its_time(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Calls are limited; the first poll is half a second after the start."""
    await a_waiting_job(rt)
    watch = Watch(rt)
    clock.tick(seconds=0.4)
    await watch.turn()
    assert provider.polled == []

    clock.tick(seconds=0.2)
    await watch.turn()

    assert len(provider.polled) == 1


async def test_a_running_prediction_is_polled_again_later(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The longer it runs, the rarer the polls."""
    provider.outcome = None
    await a_waiting_job(rt)
    watch = Watch(rt)
    for _ in range(100):
        clock.tick(seconds=1)
        await watch.turn()

    assert 20 < len(provider.polled) < 45


async def test_a_log_is_written_when_it_has_grown(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """At most every two seconds; at the end of the prediction it is complete."""
    provider.outcome = None
    job = await a_waiting_job(rt)
    watch = Watch(rt)
    for log in ("a\n", "a\n", "a\n", "a\nb\n", "a\nb\n", "a\nb\nc\n"):
        provider.log = log
        clock.tick(seconds=1)
        await watch.turn()
    grown = [piece.text for piece in await job_logs.of_job(rt.db, job.id)]
    provider.outcome, provider.log = WELL, "a\nb\nc\nd\n"
    clock.tick(seconds=5)
    await watch.turn()

    assert grown == ["a\n", "b\n", "c\n"]
    assert "".join(piece.text for piece in await job_logs.of_job(rt.db, job.id)) == provider.log
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_new_coordinator_continues_a_log(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Its cache is empty, but the stored log contains the position."""
    provider.outcome = None
    job = await a_waiting_job(rt)
    for log in ("a\n", "a\nb\n", "a\nb\n"):
        provider.log = log
        clock.tick(seconds=5)
        await Watch(rt).turn()

    assert [piece.text for piece in await job_logs.of_job(rt.db, job.id)] == ["a\n", "b\n"]


async def test_progress_is_written_when_it_changes(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """At most every two seconds."""
    provider.outcome, provider.progress = None, 0.25
    job = await a_waiting_job(rt)
    watch = Watch(rt)
    for progress in (0.25, 0.25, 0.5, 0.5, 0.5):
        provider.progress = progress
        clock.tick(seconds=1)
        await watch.turn()

    written = [e.data for e in await events.of_job(rt.db, job.id) if e.type == "progress"]
    assert written == [{"progress": 0.25}, {"progress": 0.5}]
    assert (await jobs.get_any_tenant(rt.db, job.id)).progress == 0.5


async def test_a_temporary_failure_is_not_shown_as_failed(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The job returns to pending, with the error in its history."""
    provider.outcome = BADLY
    job = await a_waiting_job(rt)
    clock.tick(seconds=1)

    await Watch(rt).turn()

    again = await jobs.get_any_tenant(rt.db, job.id)
    assert (again.status, again.retries, again.attempt) == (Status.PENDING, 1, 1)
    assert again.run_at >= clock()
    assert (await events.of_job(rt.db, job.id))[-1].type == "retrying"


async def test_the_last_attempt_s_failure_is_final(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """No attempt is left."""
    provider.outcome = BADLY
    job = await a_waiting_job(rt, max_attempts=2)
    watch = Watch(rt)
    for _ in range(2):
        clock.tick(minutes=2)
        await watch.turn()
        clock.tick(minutes=2)
        await start(rt, job.id)

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert (failed.status, failed.retries) == (Status.FAILED, 1)
    assert failed.error is not None
    assert failed.error.code == "prediction_failed"


async def test_a_permanent_failure_is_not_retried(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Another prediction would cost the same and fail the same way."""
    provider.outcome = FOR_GOOD
    job = await a_waiting_job(rt)
    clock.tick(seconds=1)

    await Watch(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED


async def test_a_success_without_output_fails_the_job(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """There is nothing to complete the job with."""
    provider.outcome = Succeeded(())
    job = await a_waiting_job(rt)
    clock.tick(seconds=1)

    await Watch(rt).turn()

    failed = await jobs.get_any_tenant(rt.db, job.id)
    assert failed.error is not None
    assert failed.error.code == "empty_output"


async def test_a_late_success_does_not_move_a_cancelled_job(rt: Runtime, clock: Clock) -> None:
    """Terminal states are final, but the attempt still gets its verdict."""
    job = await a_waiting_job(rt)
    await cancel(rt, job.id, tenant_id="default")
    clock.tick(seconds=1)

    await Watch(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.verdict, attempt.cancel_owed) == (Verdict.SUCCEEDED, False)


async def test_an_overlong_prediction_is_cancelled_then_retried(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The next one is not created before the provider reports the end of this one."""
    provider.outcome = None
    job = await a_waiting_job(rt)
    watch = Watch(rt)
    clock.tick(seconds=rt.settings.attempt_timeout.total_seconds() + 1)
    await watch.turn()
    (owed,) = await attempts.pending_cancels(rt.db, "placeholder", limit=9)
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING

    provider.outcome = FOR_GOOD
    clock.tick(minutes=1)
    await watch.turn()

    again = await jobs.get_any_tenant(rt.db, job.id)
    assert again.status is Status.PENDING
    assert again.error is not None
    assert again.error.code == "attempt_timeout"
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (attempt.id, attempt.verdict) == (owed.id, Verdict.CANCELLED)


async def test_an_unreachable_provider_is_polled_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A failed poll says nothing about the prediction."""
    provider.poll_error = ProviderUnavailable("no answer")
    job = await a_waiting_job(rt)
    watch = Watch(rt)
    clock.tick(seconds=1)
    await watch.turn()
    provider.poll_error = None
    clock.tick(seconds=1)

    await watch.turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_new_coordinator_polls_all_waiting_predictions(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Waiting jobs belong to no worker, so nothing is lost with the previous coordinator."""
    made = [await a_waiting_job(rt) for _ in range(5)]
    provider.outcome = None
    clock.tick(minutes=1)
    await Watch(rt).turn()
    provider.outcome = Succeeded(FakeProvider().outcome.outputs)  # type: ignore[union-attr]  # the default succeeds

    successor = Watch(rt)
    for _ in range(3):
        clock.tick(seconds=1)
        await successor.turn()

    stages = {(await jobs.get_any_tenant(rt.db, job.id)).stage for job in made}
    assert stages == {Stage.COLLECTING}


async def test_a_row_committed_out_of_order_is_polled_in_time(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Two transactions end in any order; otherwise the second would wait for the next scan."""
    watch = Watch(rt)
    await a_waiting_job(rt)
    await watch.turn()
    clock.tick(seconds=-0.1)
    await a_waiting_job(rt)

    clock.tick(seconds=0.7)
    await watch.turn()

    assert len(provider.polled) == 2


async def test_a_row_committed_late_is_found_by_the_scan(
    rt: Runtime, clock: Clock, provider: FakeProvider
) -> None:
    """After a slow commit the time of the first poll may be over."""
    watch = Watch(rt)
    early = await a_waiting_job(rt)
    later = Clock()
    later.tick(seconds=20)
    await a_waiting_job(replace(rt, now=later))
    clock.tick(seconds=21)
    provider.outcome = None
    await watch.turn()
    assert len(set(provider.polled)) >= 1

    clock.tick(seconds=SCAN_SECONDS + 1)
    await watch.turn()

    assert early.prediction_id in provider.polled


async def test_an_unconfigured_provider_is_not_polled(rt: Runtime, clock: Clock) -> None:
    """Its predictions are kept until it is configured again."""
    job = await a_waiting_job(rt, provider="fake")
    assert isinstance(rt.providers, dict)
    del rt.providers["fake"]
    clock.tick(seconds=1)

    await Watch(rt).turn()

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_a_lost_dispatch_does_not_lose_the_result(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher may be unavailable; `admit` dispatches again."""

    async def away(*_: object) -> None:
        raise DispatcherUnavailable("no broker")

    job = await a_waiting_job(rt)
    monkeypatch.setattr(rt.dispatcher, "enqueue", away)
    clock.tick(seconds=1)

    await Watch(rt).turn()

    assert list(await queue.uncollected(rt.db, now=clock(), limit=9, postponed=False)) == [
        JobId(job.id)
    ]


@pytest.mark.parametrize(
    ("running", "eta", "least", "most"),
    [
        (timedelta(0), None, SHORTEST * 0.9, SHORTEST * 1.1),
        (timedelta(seconds=100), None, timedelta(seconds=9), timedelta(seconds=11)),
        (timedelta(days=1), None, LONGEST * 0.9, LONGEST * 1.1),
        (timedelta(seconds=100), timedelta(seconds=1), timedelta(seconds=1), timedelta(seconds=1)),
        (timedelta(0), timedelta(0), timedelta(milliseconds=10), timedelta(milliseconds=10)),
    ],
)
def test_polls_become_rarer_and_never_stop(
    running: timedelta, eta: timedelta | None, least: timedelta, most: timedelta
) -> None:
    """Between half a second and half a minute, unless the provider has a better interval."""
    assert least <= interval(running, eta) <= most


@dataclass
class Stopping(FakeProvider):
    """A provider that is polled while the process receives SIGTERM."""

    turn: asyncio.Task[Any] | None = None

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Respond; the following step is cancelled before it begins."""
        assert self.turn is not None
        asyncio.get_running_loop().call_soon(self.turn.cancel)
        return await super().poll(ids)


async def test_a_stop_between_poll_and_write_leaves_no_coroutine_behind(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """A coroutine that is never awaited is a warning, and an error here."""
    await a_waiting_job(rt)
    clock.tick(seconds=1)
    stopping = Stopping(created=provider.created)
    watch = Watch(replace(rt, providers=dict.fromkeys(rt.providers, stopping)))

    stopping.turn = asyncio.create_task(watch.turn())
    await asyncio.wait({stopping.turn})
    gc.collect()

    assert stopping.turn.cancelled()
    assert len(stopping.polled) == 1


def with_callbacks(rt: Runtime) -> Runtime:
    """Return a runtime of a service that providers can reach."""
    settings = rt.settings.model_copy(update={"public_url": "https://fleek.example"})
    return replace(rt, settings=settings)


async def a_job_ended_by_callback(rt: Runtime) -> None:
    """Start a job, and let a callback report the end of its prediction."""
    job = await a_waiting_job(rt)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert job.prediction_id is not None
    await conclude(rt, attempt, Prediction(id=job.prediction_id, outcome=WELL))


async def test_where_callbacks_come_looks_are_rare(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Each look costs a call of the provider's budget, and finds nothing that a callback does not report."""
    reachable = with_callbacks(rt)
    watch = Watch(reachable)
    for _ in range(10):
        await a_job_ended_by_callback(reachable)
        clock.tick(seconds=0.6)
        await watch.turn()
    without_look = list(provider.polled)
    await a_waiting_job(reachable)
    for _ in range(4):
        clock.tick(seconds=1)
        await watch.turn()
    before_its_time = list(provider.polled)

    clock.tick(seconds=1.1)
    await watch.turn()

    assert without_look == before_its_time == []
    assert len(provider.polled) == 1


async def test_an_end_that_no_callback_has_reported_makes_looks_frequent_again(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The provider may not reach the service any more; jobs must not wait for that."""
    reachable = with_callbacks(rt)
    watch = Watch(reachable)
    await a_job_ended_by_callback(reachable)
    clock.tick(seconds=0.6)
    await watch.turn()
    await a_waiting_job(reachable)
    await watch.turn()
    clock.tick(seconds=5)
    await watch.turn()
    lost = len(provider.polled)

    await a_waiting_job(reachable)
    await watch.turn()
    clock.tick(seconds=0.6)
    await watch.turn()

    assert (lost, len(provider.polled)) == (1, 2)


async def test_a_cancel_is_no_sign_of_callbacks(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The answer to the cancel reported its end."""
    reachable = with_callbacks(rt)
    watch = Watch(reachable)
    job = await a_waiting_job(reachable)
    await watch.turn()
    await cancel(reachable, job.id, tenant_id="default")
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert job.prediction_id is not None
    await conclude(rt, attempt, Prediction(id=job.prediction_id, outcome=BADLY))
    clock.tick(seconds=0.6)
    await watch.turn()

    await a_waiting_job(reachable)
    clock.tick(seconds=0.6)
    await watch.turn()

    assert len(provider.polled) == 1


async def test_what_this_process_has_bound_is_watched_without_a_query(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads are for what other processes bind, at most a few times a second."""
    watch = Watch(rt)
    await watch.turn()
    read: list[object] = []
    waiting = attempts.waiting

    async def counted(*arguments: Any, **options: Any) -> Any:
        read.append(options)
        return await waiting(*arguments, **options)

    monkeypatch.setattr(attempts, "waiting", counted)
    provider.outcome = None
    for _ in range(5):
        await a_waiting_job(rt)
        await watch.turn()
    clock.tick(seconds=0.6)
    await watch.turn()

    assert len(provider.polled) == 5
    assert len(read) == 1


async def test_a_new_coordinator_forgets_what_it_has_bound_before(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Others may have watched these predictions to their ends."""
    job = await a_waiting_job(rt)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert job.prediction_id is not None
    await conclude(rt, attempt, Prediction(id=job.prediction_id, outcome=WELL))
    clock.tick(seconds=0.6)

    await Watch(rt).turn()

    assert provider.polled == []
