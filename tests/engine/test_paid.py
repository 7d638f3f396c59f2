"""A paid result is given up only when it is removed, or when its bytes stay wrong."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from fakes import PNG, Clock, FakeProvider, RecallingProvider, a_request
from fleek.domain.errors import (
    DatabaseUnavailable,
    ErrorPage,
    OutputBroken,
    OutputInterrupted,
    OutputMissing,
    OutputUnsafe,
    ProviderUnavailable,
)
from fleek.domain.job import Job, JobError, Stage, Status
from fleek.domain.media import Key, Output
from fleek.engine.collect import collect
from fleek.engine.paid import ERROR_PAGES, MISSING, MISTAKES, UNKNOWN, WRONG_BYTES, Patience
from fleek.engine.recover import Recovery
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client, NotSent, Request, Response, ResponseLost
from fleek.providers.base import Failed, Succeeded
from fleek.providers.download import Limits, read_output
from fleek.storage.local import LocalStorage
from fleek.storage.local.tree import Disk
from fleek.store import attempts, events, jobs
from network import FakeNetwork, respond
from sampled import sampled

OUTAGE: Final = timedelta(minutes=10)
SHORT: Final = timedelta(seconds=20)  # time for a few tries


def of_system(number: int) -> OSError:
    """Return an error as the operating system raises it."""
    return OSError(number, os.strerror(number))


async def a_paid_job(rt: Runtime, provider: FakeProvider, **fields: Any) -> Job:
    """Submit and start a job whose prediction succeeds at once."""
    provider.at_once = True
    job = await submit(rt, a_request(**fields))
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def collect_for(rt: Runtime, clock: Clock, job: Job, period: timedelta) -> int:
    """Collect for a period whenever the job is due, and return the number of tries."""
    until, tries = clock() + period, 0
    while (current := await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING:
        clock.time = max(clock.time, current.run_at)
        if clock.time >= until:
            break
        await collect(rt, job.id)
        tries += 1
    return tries


class FailingHost(FakeNetwork):
    """A host of outputs that fails in one way until it has recovered."""

    def __init__(self, failure: Callable[[], Response]) -> None:
        super().__init__(self._give)
        self.failure = failure
        self.well = False

    def _give(self, _: Request) -> Response:
        return whole(PNG) if self.well else self.failure()


def whole(content: bytes) -> Response:
    """Return a response with these bytes and their length."""
    return respond(200, content, content_length=str(len(content)))


def cut() -> Response:
    """Return a response whose connection breaks in the middle."""
    return respond(200, PNG[:20], ResponseLost("reset by peer"))


def responds(status: int) -> Callable[[], Response]:
    """Return a function that creates a response with this status."""
    return lambda: respond(status)


def fails(error: Exception, cause: Exception | None = None) -> Callable[[], Response]:
    """Return a function that raises an error of the HTTP client with a system error as cause."""

    def fail() -> Response:
        raise error from cause

    return fail


HOST_OUTAGES: Final = {
    "503": (responds(503), "provider_unavailable"),
    "500": (responds(500), "provider_unavailable"),
    "429": (responds(429), "provider_unavailable"),
    "400": (responds(400), "provider_unavailable"),
    "401": (responds(401), "provider_unavailable"),
    "404": (responds(404), "output_missing"),
    "403": (responds(403), "output_missing"),
    "410": (responds(410), "output_missing"),
    "error page": (lambda: whole(b"<html>maintenance"), "output_broken"),
    "refused": (
        fails(NotSent("refused"), of_system(errno.ECONNREFUSED)),
        "provider_unavailable",
    ),
    "no such host": (fails(NotSent("DNS")), "provider_unavailable"),
    "TLS": (fails(NotSent("certificate expired")), "provider_unavailable"),
    "network down": (
        fails(NotSent("unreachable"), of_system(errno.ENETUNREACH)),
        "provider_unavailable",
    ),
    "no answer": (fails(ResponseLost("too long", late=True)), "provider_unavailable"),
    "reset": (fails(ResponseLost("reset")), "output_interrupted"),
    "cut": (cut, "output_interrupted"),
    "descriptors": (
        fails(NotSent("failed"), of_system(errno.EMFILE)),
        "resources_exhausted",
    ),
    "memory": (fails(ResponseLost("failed"), of_system(errno.ENOMEM)), "resources_exhausted"),
}


@pytest.fixture
def hosted(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> FailingHost:
    """Return the host of the provider's outputs, used through the real download."""
    host = FailingHost(responds(503))

    client = Client(Policy(), host)

    def read(_job: Job, output: Output) -> AsyncIterator[bytes]:
        return read_output(client, output, Limits())

    monkeypatch.setattr(provider, "read", read)
    provider.outcome = Succeeded((Output(uri="https://files.example.com/cat.png"),))
    return host


@pytest.mark.parametrize("outage", sampled(HOST_OUTAGES, every=3))
async def test_an_outage_of_the_output_host_loses_nothing(
    rt: Runtime,
    provider: FakeProvider,
    clock: Clock,
    hosted: FailingHost,
    outage: str,
) -> None:
    """The job shows the reason, and no second prediction is created."""
    hosted.failure, code = HOST_OUTAGES[outage]
    job = await a_paid_job(rt, provider)
    await collect_for(rt, clock, job, SHORT)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.error and waiting.error.code) == (Stage.COLLECTING, code)
    assert waiting.attempt == 1

    hosted.well = True
    await collect_for(rt, clock, job, timedelta(minutes=2))

    done = await jobs.get_any_tenant(rt.db, job.id)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert len(provider.started) == 1


@pytest.mark.parametrize("outage", ["503", "404", "error page", "cut", "descriptors"])
async def test_ten_minutes_of_an_outage_are_survived(
    rt: Runtime, provider: FakeProvider, clock: Clock, hosted: FailingHost, outage: str
) -> None:
    """Tries are at most a minute apart, and never in quick succession."""
    hosted.failure, _ = HOST_OUTAGES[outage]
    job = await a_paid_job(rt, provider)

    tries = await collect_for(rt, clock, job, OUTAGE)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING
    assert 12 <= tries <= 40


@pytest.mark.usefixtures("_full_suite")
async def test_an_outage_of_hours_loses_nothing(
    rt: Runtime, provider: FakeProvider, clock: Clock, hosted: FailingHost
) -> None:
    """The deadline does not end a job whose result is paid for and still available."""
    job = await a_paid_job(rt, provider, deadline=timedelta(hours=1))
    await collect_for(rt, clock, job, timedelta(hours=3))
    await Recovery(rt).turn()

    hosted.well = True
    await collect_for(rt, clock, job, timedelta(minutes=2))

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


@pytest.fixture
async def askable(rt: Runtime, hosted: FailingHost, provider: FakeProvider) -> RecallingProvider:
    """Return a provider that supports recall; its outputs respond with 404."""
    hosted.failure = responds(404)
    askable = RecallingProvider(outcome=provider.outcome)
    askable.read = provider.read  # type: ignore[method-assign]  # through the failing host
    rt.providers["placeholder"] = askable  # type: ignore[index]  # a dict, as the fixture made it
    return askable


@pytest.mark.parametrize("status", [403, 404, 410, 503])
async def test_a_job_with_removed_outputs_fails_at_once(
    rt: Runtime, clock: Clock, hosted: FailingHost, askable: RecallingProvider, status: int
) -> None:
    """The error code is clear, and nothing is left to collect."""
    hosted.failure = responds(status)
    job = await a_paid_job(rt, askable)
    askable.now = Failed("output_expired", "it has removed the output", retryable=False)

    await collect_for(rt, clock, job, timedelta(seconds=5))

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.status is Status.FAILED
    assert ended.error == JobError("output_expired", "it has removed the output")
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.result is None


async def test_a_removed_prediction_ends_its_job_within_seconds(
    rt: Runtime, clock: Clock, askable: RecallingProvider
) -> None:
    """It is polled three times, because a replica may lag behind."""
    job = await a_paid_job(rt, askable)
    askable.knows = False

    tries = await collect_for(rt, clock, job, timedelta(seconds=15))

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert (ended.error and ended.error.code, tries) == ("output_expired", UNKNOWN.tries)


async def test_a_temporarily_missing_prediction_loses_no_output(
    rt: Runtime, clock: Clock, hosted: FailingHost, askable: RecallingProvider
) -> None:
    """The file may be available again when its host has recovered."""
    hosted.failure = responds(503)
    job = await a_paid_job(rt, askable)
    askable.knows = False
    await collect_for(rt, clock, job, OUTAGE)

    hosted.well = True
    await collect_for(rt, clock, job, timedelta(minutes=2))

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_an_unreachable_provider_decides_nothing(
    rt: Runtime, clock: Clock, askable: RecallingProvider
) -> None:
    """The output may still be available."""
    job = await a_paid_job(rt, askable)
    askable.recall_error = ProviderUnavailable("no answer")

    await collect_for(rt, clock, job, timedelta(hours=1))

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING
    assert askable.recalled


async def test_a_moved_output_is_fetched_from_its_new_address(
    rt: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed addresses expire after about an hour, and the provider returns new ones."""
    askable = RecallingProvider()
    rt.providers["placeholder"] = askable  # type: ignore[index]  # a dict, as the fixture made it

    async def read(_job: Job, output: Output) -> AsyncIterator[bytes]:
        if output.uri != "fake:fresh":
            raise OutputMissing("403")
        yield PNG

    monkeypatch.setattr(askable, "read", read)
    job = await a_paid_job(rt, askable)
    askable.now = Succeeded((Output(uri="fake:fresh"),))

    tries = await collect_for(rt, clock, job, timedelta(minutes=1))

    assert ((await jobs.get_any_tenant(rt.db, job.id)).status, tries) == (Status.COMPLETED, 1)


@pytest.mark.parametrize(
    ("error", "patience", "code"),
    [
        (OutputBroken("not whole"), WRONG_BYTES, "output_broken"),
        (ErrorPage("a page"), ERROR_PAGES, "output_broken"),
        (OutputMissing("404"), MISSING, "output_expired"),
    ],
    ids=["bytes", "page", "missing"],
)
async def test_persistently_wrong_output_fails_the_job(
    rt: Runtime, clock: Clock, error: OutputBroken, patience: Patience, code: str
) -> None:
    """Only after a number of tries and a period."""
    provider = FakeProvider(reads=[error] * 100)
    rt.providers["placeholder"] = provider  # type: ignore[index]  # a dict, as the fixture made it
    job = await a_paid_job(rt, provider)
    began = clock()

    tries = await collect_for(rt, clock, job, timedelta(hours=2))

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert (ended.status, ended.error and ended.error.code) == (Status.FAILED, code)
    assert tries >= patience.tries
    assert clock() - began >= patience.period


async def test_only_consecutive_failures_count(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Other failures in between start the count again."""
    job = await a_paid_job(rt, provider)
    broken, away = OutputBroken("not whole"), ProviderUnavailable("away")
    provider.reads = [broken, broken, away] * (WRONG_BYTES.tries + 2)

    await collect_for(rt, clock, job, timedelta(hours=2))

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_a_database_outage_fails_no_job(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is released, too, so that another worker can take it."""
    provider.reads = [OutputBroken("not whole")]
    job = await a_paid_job(rt, provider)

    async def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(events, "streak", away)
    await collect(rt, job.id)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.worker_id) == (Stage.COLLECTING, None)


@pytest.mark.usefixtures("_full_suite")
async def test_an_internal_error_is_retried_for_an_hour(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The result is kept at the end, so that a fixed release can collect it."""
    job = await a_paid_job(rt, provider)
    provider.reads = [ZeroDivisionError("a mistake")] * 200  # type: ignore[list-item]  # no provider raises it
    began, tries = clock(), 0
    while (current := await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING:
        clock.time = max(clock.time, current.run_at)
        with pytest.raises(ZeroDivisionError):
            await collect(rt, job.id)
        tries += 1

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (current.error and current.error.code) == "internal_error"
    assert tries >= MISTAKES.tries
    assert clock() - began >= MISTAKES.period
    assert attempt.result is not None


EVERY_STEP: Final = ("open", "spool", "fsync", "sniff", "unlink", "document")
STORAGE_OUTAGES: Final = [
    *((step, errno.EROFS, "storage_unavailable") for step in EVERY_STEP),
    *((step, errno.EMFILE, "resources_exhausted") for step in EVERY_STEP),
    ("open", errno.ENOSPC, "storage_full"),
    ("document", errno.ENOSPC, "storage_full"),
    ("spool", errno.ENOSPC, "storage_full"),
    ("fsync", errno.EDQUOT, "storage_full"),
    ("fsync", errno.EIO, "storage_unavailable"),
    ("open", errno.EACCES, "storage_unavailable"),
    ("sniff", errno.ESTALE, "storage_unavailable"),
    ("open", errno.ENFILE, "resources_exhausted"),
    ("fsync", errno.ENOMEM, "resources_exhausted"),
]


Break = Callable[[str, int], pytest.MonkeyPatch]


@pytest.fixture
def break_disk(  # noqa: C901 - one small fake per call of the system
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> Break:
    """Return a function that makes one step of storing a file fail until the patch is undone."""
    assert isinstance(rt.storage, LocalStorage)
    tree, areas = rt.storage._tree, [""]  # the last one is written to

    def refuse(number: int, path: Path) -> None:
        if ".spool" in path.parts:
            raise of_system(number)

    def break_it(step: str, number: int) -> pytest.MonkeyPatch:  # noqa: C901 - likewise
        real_open, real_unlink, real_descriptor = Path.open, Path.unlink, os.open
        real_write = tree.write

        def writes(key: Key, content: bytes) -> None:
            areas.append(key.partition("/")[0])
            real_write(key, content)

        def opens(path: Path, mode: str = "r", *more: Any) -> Any:
            if mode == "rb":
                refuse(number, path)
            return real_open(path, mode, *more)

        def opens_descriptor(path: Any, flags: int, *more: Any, **options: Any) -> int:
            if step == "spool":
                if flags & os.O_APPEND:
                    refuse(number, Path(path))
            elif flags & os.O_EXCL and (areas[-1] == "metadata") == (step == "document"):
                refuse(number, Path(path))
            return real_descriptor(path, flags, *more, **options)

        def unlink(path: Path, *, missing_ok: bool = False) -> None:
            if number != errno.EMFILE:  # needs no descriptor
                refuse(number, path)
            real_unlink(path, missing_ok=missing_ok)

        def fsync(_fd: int) -> None:
            raise of_system(number)

        if step in {"open", "document", "spool"}:
            monkeypatch.setattr(tree, "write", writes)
            monkeypatch.setattr(os, "open", opens_descriptor)
        if step in {"sniff", "spool"}:  # else it stays in memory
            monkeypatch.setattr("fleek.engine.spool.BUFFER_BYTES", 1)
        if step == "sniff":
            monkeypatch.setattr(Path, "open", opens)
        if step == "fsync":
            monkeypatch.setattr(tree, "_disk", Disk(fsync=fsync))
        monkeypatch.setattr(Path, "unlink", unlink)
        return monkeypatch

    return break_it


@pytest.mark.parametrize(
    ("outage", "code"),
    sampled((((step, number), code) for step, number, code in STORAGE_OUTAGES), every=3),
    ids=[f"{step} {errno.errorcode[number]}" for step, number, _ in STORAGE_OUTAGES],
)
async def test_an_outage_of_the_storage_loses_nothing(
    rt: Runtime,
    clock: Clock,
    break_disk: Break,
    outage: tuple[str, int],
    code: str,
) -> None:
    """Any step may fail, and the remains cannot be removed either."""
    provider = rt.providers["placeholder"]
    assert isinstance(provider, FakeProvider)
    job = await a_paid_job(rt, provider)
    broken = break_disk(*outage)
    await collect_for(rt, clock, job, SHORT)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    broken.undo()

    await collect_for(rt, clock, job, timedelta(minutes=2))

    if outage[0] != "unlink":  # an irremovable file is no reason to wait
        assert waiting.error is not None
        assert (waiting.stage, waiting.error.code) == (Stage.COLLECTING, code)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED
    assert len(provider.started) == 1


async def test_a_removed_storage_folder_is_created_again(
    rt: Runtime, provider: FakeProvider, tmp_path: Path
) -> None:
    """No restart is needed."""
    done = await a_paid_job(rt, provider)
    await collect(rt, done.id)
    storage = tmp_path / "storage"
    storage.rename(tmp_path / "elsewhere")

    job = await a_paid_job(rt, provider)
    await collect(rt, job.id)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED
    await rt.storage.check()


async def test_a_lack_of_threads_counts_as_exhausted_resources(
    rt: Runtime, provider: FakeProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises a plain RuntimeError for it."""
    job = await a_paid_job(rt, provider)

    async def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(asyncio, "to_thread", no_thread)
        await collect_for(rt, clock, job, OUTAGE)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    await collect_for(rt, clock, job, timedelta(minutes=2))

    assert (waiting.error and waiting.error.code) == "resources_exhausted"
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_a_paid_result_waits_for_its_provider_setting(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """The operator may configure the provider again."""
    job = await a_paid_job(rt, provider)
    without = replace(rt, providers={})

    await collect_for(without, clock, job, OUTAGE)
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    await collect_for(rt, clock, job, timedelta(minutes=2))

    assert (waiting.error and waiting.error.code) == "provider_not_configured"
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.COMPLETED


async def test_the_total_size_of_outputs_is_limited(rt: Runtime, provider: FakeProvider) -> None:
    """One job must not fill the disk with many files that are each within the limit."""
    provider.outcome = Succeeded(tuple(Output(uri=f"fake:{number}") for number in range(20)))
    job = await a_paid_job(rt, provider)
    small = replace(rt, settings=rt.settings.model_copy(update={"max_job_bytes": 10 * len(PNG)}))

    await collect(small, job.id)

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "output_too_large")
    assert "MAX_JOB_BYTES" in ended.error.message


async def test_outputs_leave_free_space_on_the_disk(rt: Runtime, provider: FakeProvider) -> None:
    """The database may be on the same disk."""
    job = await a_paid_job(rt, provider)
    greedy = replace(rt, settings=rt.settings.model_copy(update={"min_free_bytes": 10**18}))

    await collect(greedy, job.id)

    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert (waiting.stage, waiting.error and waiting.error.code) == (
        Stage.COLLECTING,
        "storage_full",
    )


async def test_a_local_refusal_fails_the_job_and_keeps_the_result(
    rt: Runtime, provider: FakeProvider
) -> None:
    """A retry is useless until the operator has changed a setting."""
    provider.reads = [OutputUnsafe("its host is not allowed")]
    job = await a_paid_job(rt, provider)

    await collect(rt, job.id)

    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED
    assert attempt.result is not None


async def test_the_history_contains_the_reason_and_the_time_of_the_next_try(
    rt: Runtime, provider: FakeProvider
) -> None:
    """There is one line for each try."""
    provider.reads = [OutputInterrupted("cut")]
    job = await a_paid_job(rt, provider)

    await collect(rt, job.id)

    last = (await events.of_job(rt.db, job.id))[-1]
    waiting = await jobs.get_any_tenant(rt.db, job.id)
    assert last.type == "postponed"
    assert last.data == {
        "code": "output_interrupted",
        "message": "cut",
        "run_at": waiting.run_at.isoformat(),
    }


@pytest.mark.usefixtures("_full_suite")
async def test_persistently_wrong_bytes_end_the_job_with_short_pauses(
    rt: Runtime, provider: FakeProvider, clock: Clock
) -> None:
    """Hundreds of tries lie within the period for which such a failure is retried."""
    backoff = {
        "retry_backoff_base": timedelta(seconds=6),
        "retry_backoff_max": timedelta(seconds=6),
    }
    rt = replace(rt, settings=rt.settings.model_copy(update=backoff))
    provider.reads = [ErrorPage("maintenance") for _ in range(5000)]
    job = await a_paid_job(rt, provider)

    await collect_for(rt, clock, job, ERROR_PAGES.period * 2)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.FAILED
