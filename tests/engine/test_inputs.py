"""Media inputs: uploaded before a start, recorded by their hashes, kept while they are needed."""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final

import pytest

from backing_services import both_databases
from fakes import PNG, Clock, TakingProvider, a_request
from fleek import failpoints
from fleek.domain.errors import (
    Conflict,
    InputUnusable,
    InvalidInput,
    OutcomeUnknown,
    ProviderUnavailable,
)
from fleek.domain.job import Job, OnInputCancel, Stage, Status
from fleek.domain.uploads import Upload
from fleek.engine.cancel import cancel
from fleek.engine.chains import Chains
from fleek.engine.collect import collect
from fleek.engine.purge import Retention, purge
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import retry, submit
from fleek.engine.uploads import accept_upload, expire_uploads, remove_upload
from fleek.outbound.addresses import Policy
from fleek.outbound.client import CallFailed, Client, NotSent, Request, Response
from fleek.store import attempts, inputs, jobs, queue
from recovering import Recovering
from stored_outputs import completed, days_pass, every_key

DIGEST: Final = sha256(PNG).hexdigest()
DATA: Final = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
PAGE: Final = b"<!doctype html><html><body>Sign in</body></html>"


@pytest.fixture
def provider() -> TakingProvider:
    """Return a provider that takes files."""
    return TakingProvider()


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed."""
    yield
    failpoints.arm("")


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def uploaded(rt: Runtime, content: bytes = PNG, *, tenant_id: str = "default") -> Upload:
    """Store an upload."""
    return await accept_upload(rt, _bytes(content), tenant_id=tenant_id)


async def with_input(rt: Runtime, value: Any, **fields: Any) -> Job:
    """Submit a job with an input."""
    return await submit(rt, a_request(parameters={"image": value, "seed": 7}, **fields))


async def now(rt: Runtime, job: Job) -> Job:
    """Return a job as it is now."""
    return await jobs.get_any_tenant(rt.db, job.id)


async def attempt_of(rt: Runtime, job: Job) -> Any:
    """Return a job's only attempt."""
    (attempt,) = await attempts.of_job(rt.db, job.id)
    return attempt


async def test_an_upload_is_passed_before_the_start(rt: Runtime, provider: TakingProvider) -> None:
    """The job keeps the reference, and the attempt records the bytes."""
    upload = await uploaded(rt)
    job = await with_input(rt, upload.reference)

    await start(rt, job.id)

    attempt = await attempt_of(rt, job)
    assert provider.inputs == [{"image": DATA, "seed": 7}]
    assert (await now(rt, job)).stage is Stage.WAITING
    assert (await now(rt, job)).input["image"] == upload.reference
    assert attempt.inputs == {
        "/image": {"sha256": DIGEST, "size_bytes": len(PNG), "content_type": "image/png"}
    }


async def test_the_provider_s_address_of_a_file_is_recorded(
    rt: Runtime, provider: TakingProvider
) -> None:
    """A search for a lost prediction compares it."""
    provider.inline = False
    job = await with_input(rt, (await uploaded(rt)).reference)

    await start(rt, job.id)

    attempt = await attempt_of(rt, job)
    assert attempt.inputs["/image"]["address"] == provider.inputs[0]["image"]


async def test_jobs_with_the_same_bytes_are_duplicates(rt: Runtime) -> None:
    """For any reference to them, because the provider's records may look the same."""
    ours, theirs = await uploaded(rt), await uploaded(rt, tenant_id="acme")
    made = [
        await with_input(rt, ours.reference),
        await with_input(rt, theirs.reference, tenant_id="acme"),
        await with_input(rt, DATA),
        await with_input(rt, (await uploaded(rt, PNG + b"x")).reference),
    ]

    for job in made:
        await start(rt, job.id)

    hashes = [(await attempt_of(rt, job)).request_hash for job in made]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("upload:0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41", "unknown_upload"),
        ("job:0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41", "unknown_job"),
        ("https://127.0.0.1/a.png", "input_unsafe"),
        ("https://localhost/a.png", "input_unsafe"),
        ("https://user@example.com/a.png", "input_unsafe"),
        ("data:image/png;base64,%%%", "input_unreadable"),
        ("data:image/png;base64,", "input_unreadable"),
        (f"data:text/plain,{'x' * 300_000}", "input_too_large"),
        (["data:,x"] * 33, "too_many_inputs"),
        ("upload:nope", "malformed_reference"),
        ("Upload:0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41", "malformed_reference"),
        ("job:0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41/x", "malformed_reference"),
    ],
)
async def test_an_invalid_input_is_refused(rt: Runtime, value: Any, code: str) -> None:
    """At the submission, with the name of the parameter."""
    with pytest.raises(InvalidInput) as caught:
        await with_input(rt, value)

    assert caught.value.code == code
    assert caught.value.errors[0].pointer.startswith("/parameters/image")


async def test_foreign_files_are_not_found(rt: Runtime, provider: TakingProvider) -> None:
    """Neither an upload nor an output."""
    upload, done = await uploaded(rt, tenant_id="acme"), await completed(rt, provider)

    with pytest.raises(InvalidInput, match="not there"):
        await with_input(rt, upload.reference)
    with pytest.raises(InvalidInput, match="not there"):
        await with_input(rt, f"job:{done.id}", tenant_id="acme")


async def test_an_output_of_a_completed_job_is_an_input(
    rt: Runtime, provider: TakingProvider
) -> None:
    """It is named by its index, and a missing index is refused at once."""
    done = await completed(rt, provider)
    job = await with_input(rt, f"job:{done.id}/0")

    await start(rt, job.id)

    assert provider.inputs[-1]["image"] == DATA
    with pytest.raises(InvalidInput) as caught:
        await with_input(rt, f"job:{done.id}/1")
    assert caught.value.code == "unknown_output"


async def test_a_provider_that_refuses_a_file_fails_the_job(
    rt: Runtime, provider: TakingProvider
) -> None:
    """Nothing is started, so nothing is paid for."""
    provider.refusals = [InputUnusable("too many pixels", code="input_refused")]
    job = await with_input(rt, DATA)

    await start(rt, job.id)

    failed = await now(rt, job)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.code == "input_refused"
    assert provider.started == []
    assert await attempts.of_job(rt.db, job.id) == []


async def test_a_failed_transfer_of_a_file_postpones_the_start(
    rt: Runtime, provider: TakingProvider, clock: Clock
) -> None:
    """The job shows the reason and is tried again, and no attempt is counted."""
    provider.refusals = [ProviderUnavailable("the files API is down")]
    job = await with_input(rt, DATA)

    await start(rt, job.id)
    waiting = await now(rt, job)
    await start(rt, job.id)
    clock.tick(seconds=60)
    await start(rt, job.id)

    assert (waiting.status, waiting.attempt) == (Status.PENDING, 0)
    assert waiting.error is not None
    assert waiting.error.code == "provider_unavailable"
    assert waiting.run_at > job.run_at
    assert (await now(rt, job)).stage is Stage.WAITING
    assert len(provider.started) == 1


async def test_a_lost_start_is_repeated_with_the_same_bytes(
    rt: Runtime, provider: TakingProvider
) -> None:
    """By the coordinator, which does not resolve the reference again."""
    provider.starts = [OutcomeUnknown("cut off")]
    job = await with_input(rt, (await uploaded(rt)).reference)
    await start(rt, job.id)

    await Recovering(rt).turn()

    assert [given["image"] for given in provider.inputs] == [DATA, DATA]
    assert (await now(rt, job)).stage is Stage.WAITING


async def test_a_removed_file_is_not_replaced_by_another_at_a_repeat(
    rt: Runtime, provider: TakingProvider
) -> None:
    """Other bytes would make another prediction, so the outcome stays unknown."""
    web = Web({"https://example.com/a": (200, PNG)})
    rt = replace(rt, inputs=web.client())
    provider.starts = [OutcomeUnknown("cut off")]
    job = await with_input(rt, "https://example.com/a")
    await start(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")
    web.answers = {"https://example.com/a": (200, PNG + b"x")}

    await Recovering(rt).turn()

    assert len(provider.started) == 1


@both_databases
async def test_an_upload_stays_while_a_job_needs_it(
    rt: Runtime, provider: TakingProvider, clock: Clock
) -> None:
    """Beyond its expiry or a removal; it is removed afterwards."""
    upload = await uploaded(rt)
    job = await with_input(rt, upload.reference)
    clock.tick(hours=100)

    await expire_uploads(rt)
    with pytest.raises(Conflict, match="needs"):
        await remove_upload(rt, upload.id, tenant_id="default")
    kept = await every_key(rt)
    await rt.lease.beat()
    await start(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")
    clock.tick(hours=2)
    await expire_uploads(rt)

    assert kept == {upload.key}
    assert provider.inputs == [{"image": DATA, "seed": 7}]
    assert await every_key(rt) == set()


async def test_an_upload_being_removed_is_refused_for_new_jobs(rt: Runtime) -> None:
    """The first of the two requests wins."""
    upload = await uploaded(rt)
    await remove_upload(rt, upload.id, tenant_id="default")

    with pytest.raises(InvalidInput, match="not there"):
        await with_input(rt, upload.reference)


async def test_a_retry_needs_its_inputs_again(
    rt: Runtime, provider: TakingProvider, clock: Clock
) -> None:
    """They are checked as at the first submission."""
    upload = await uploaded(rt)
    job = await with_input(rt, upload.reference)
    await cancel(rt, job.id, tenant_id="default")

    again, _ = await retry(rt, job.id, tenant_id="default")
    await cancel(rt, again.id, tenant_id="default")
    clock.tick(hours=100)
    await expire_uploads(rt)

    assert again.inputs == job.inputs
    assert provider.started == []
    with pytest.raises(InvalidInput):
        await retry(rt, job.id, tenant_id="default")


# --- chains -------------------------------------------------------------------------------------


async def due(rt: Runtime) -> set[Any]:
    """Return the ids of jobs that may start."""
    found = await queue.due(rt.db, providers=rt.providers, now=rt.now(), limit=9)
    return {job.job_id for job in found}


async def test_the_end_of_a_job_is_a_reason_to_look_while_one_may_wait_for_it(
    rt: Runtime, provider: TakingProvider
) -> None:
    """Each end would cost a query otherwise, also where no job ever waits for another."""
    chains = Chains(rt)
    await chains.turn()
    looked: list[bool] = []
    with rt.wakeups.listen("chain") as bell:
        bell.notify = lambda: looked.append(True)  # type: ignore[method-assign]  # recorded
        await _run(rt, provider, await with_input(rt, DATA))
        without_any = list(looked)
        first = await with_input(rt, DATA)
        await with_input(rt, f"job:{first.id}")
        await chains.turn()
        await _run(rt, provider, first)

    assert without_any == []
    assert looked == [True]


@both_databases
async def test_a_job_waits_for_the_output_of_another(
    rt: Runtime, provider: TakingProvider
) -> None:
    """It starts with the output when the other job has completed."""
    first = await with_input(rt, DATA)
    second = await with_input(rt, f"job:{first.id}")
    await Chains(rt).turn()
    before = await due(rt)

    await _run(rt, provider, first)
    await Chains(rt).turn()
    released = await now(rt, second)
    await start(rt, second.id)

    assert second.status is Status.PENDING
    assert second.error is not None
    assert (second.error.code, second.error.message) == (
        "waiting_for_input",
        f"waits for job {first.id}",
    )
    assert before == {first.id}
    assert (released.error, released.run_at <= rt.now()) == (None, True)
    assert provider.inputs[-1]["image"] == DATA


async def _run(rt: Runtime, provider: TakingProvider, job: Job) -> None:
    """Run a job to completion."""
    await rt.lease.beat()
    provider.at_once = True
    await start(rt, job.id)
    await collect(rt, job.id)
    assert (await now(rt, job)).status is Status.COMPLETED


async def test_a_job_waits_for_all_its_inputs(rt: Runtime, provider: TakingProvider) -> None:
    """They may end in any order."""
    sources = [await with_input(rt, DATA) for _ in range(2)]
    job = await with_input(rt, [f"job:{source.id}" for source in sources])

    await _run(rt, provider, sources[1])
    await Chains(rt).turn()
    halfway = (await now(rt, job)).waits_for_input
    await _run(rt, provider, sources[0])
    await Chains(rt).turn()

    assert halfway
    assert not (await now(rt, job)).waits_for_input
    assert await due(rt) == {job.id}


@pytest.mark.parametrize(
    ("on_cancel", "expected"),
    [(OnInputCancel.FAIL, Status.FAILED), (OnInputCancel.CANCEL, Status.CANCELLED)],
)
async def test_a_cancelled_input_ends_dependent_jobs(
    rt: Runtime, on_cancel: OnInputCancel, expected: Status
) -> None:
    """As failed, or as cancelled if the caller wants it; the whole chain follows."""
    first = await with_input(rt, DATA)
    second = await with_input(rt, f"job:{first.id}", on_input_cancel=on_cancel)
    third = await with_input(rt, f"job:{second.id}", on_input_cancel=on_cancel)
    await cancel(rt, first.id, tenant_id="default")

    chains = Chains(rt)
    await chains.turn()
    await chains.turn()

    assert [(await now(rt, job)).status for job in (second, third)] == [expected] * 2
    if expected is Status.FAILED:
        ended = await now(rt, second)
        assert ended.error is not None
        assert (ended.error.code, str(first.id) in ended.error.message) == ("input_failed", True)


async def test_a_failed_input_fails_dependent_jobs(rt: Runtime, provider: TakingProvider) -> None:
    """It is refused for new jobs, too."""
    provider.refusals = [InputUnusable("no")]
    first = await with_input(rt, DATA)
    second = await with_input(rt, f"job:{first.id}", on_input_cancel=OnInputCancel.CANCEL)
    await start(rt, first.id)

    await Chains(rt).turn()

    ended = await now(rt, second)
    assert (ended.status, ended.error and ended.error.code) == (Status.FAILED, "input_failed")
    with pytest.raises(InvalidInput) as caught:
        await with_input(rt, f"job:{first.id}")
    assert caught.value.code == "input_failed"


async def test_a_requested_time_is_kept(rt: Runtime, provider: TakingProvider) -> None:
    """A job that has waited starts no earlier than its `run_at`."""
    first = await with_input(rt, DATA)
    wanted = rt.now().replace(hour=23)
    second = await with_input(rt, f"job:{first.id}", run_at=wanted)

    await _run(rt, provider, first)
    await Chains(rt).turn()

    assert (await now(rt, second)).run_at == wanted


async def test_waiting_jobs_are_checked_in_pages(
    rt: Runtime, provider: TakingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last page is reached, too."""
    monkeypatch.setattr("fleek.engine.chains.PAGE", 2)
    slow, quick = await with_input(rt, DATA), await with_input(rt, DATA)
    waiting = [await with_input(rt, f"job:{source.id}") for source in (slow, slow, slow, quick)]
    await _run(rt, provider, quick)
    chains = Chains(rt)

    for _ in range(3):
        await chains.turn()

    assert await due(rt) == {slow.id, waiting[-1].id}


@pytest.mark.parametrize("point", ["inputs_ready.write", "inputs_ready.written"])
async def test_an_interrupted_release_is_repeated(
    rt: Runtime, provider: TakingProvider, point: str
) -> None:
    """The next turn releases the job."""
    first = await with_input(rt, DATA)
    second = await with_input(rt, f"job:{first.id}")
    await _run(rt, provider, first)
    failpoints.arm(f"{point}=dberror@1")
    chains = Chains(rt)

    await chains.turn()
    await chains.turn()

    assert await due(rt) == {second.id}
    assert await inputs.waiting(rt.db, after=None, limit=9) == []


# --- retention ----------------------------------------------------------------------------------


async def test_the_files_of_a_job_stay_while_another_needs_them(
    rt: Runtime, provider: TakingProvider
) -> None:
    """A purge hides them from callers at once, and removes them later."""
    done = await completed(rt, provider)
    job = await with_input(rt, f"job:{done.id}")
    await purge(rt, done.id, tenant_id="default")
    retention = Retention(rt)
    await retention.turn()
    kept = await every_key(rt)

    await start(rt, job.id)
    await cancel(rt, job.id, tenant_id="default")
    await retention.turn()

    assert any(str(done.id) in key for key in kept)
    assert provider.inputs[-1]["image"] == DATA
    assert not any(str(done.id) in key for key in await every_key(rt))
    assert not (await now(rt, done)).purging


async def test_retention_skips_files_that_a_job_needs(
    rt: Runtime, provider: TakingProvider, clock: Clock
) -> None:
    """They stay visible, too."""
    rt = replace(rt, settings=rt.settings.model_copy(update={"media_retention_days": 1.0}))
    done = await completed(rt, provider)
    await with_input(rt, f"job:{done.id}", run_at=None)
    days_pass(clock, 2)

    await Retention(rt).turn()

    assert (await now(rt, done)).purged_at is None


# --- addresses ----------------------------------------------------------------------------------


@dataclass
class Web:
    """Hosts with a table of responses by address; others cannot be reached."""

    answers: Mapping[str, tuple[int, bytes]]
    requests: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[Response]:
        """Respond."""
        address = str(request.url)
        self.requests.append(address)
        if address not in self.answers:
            raise NotSent("the host cannot be resolved")
        status, content = self.answers[address]
        headers = {"location": content.decode()} if status == 302 else {}
        yield Response(status, headers, _bytes(content))

    async def close(self) -> None:
        """Do nothing."""

    def client(self) -> Client:
        """Return a client for these hosts."""
        return Client(Policy(), self)


async def test_a_file_at_an_address_is_fetched_once(
    rt: Runtime, provider: TakingProvider, clock: Clock
) -> None:
    """It is stored for further attempts, even if it changes or its host is down."""
    web = Web(
        {
            "https://example.com/a": (302, b"https://cdn.example.com/b"),
            "https://cdn.example.com/b": (200, PNG),
        }
    )
    rt = replace(rt, inputs=web.client())
    provider.starts = [ProviderUnavailable("busy")]
    job = await with_input(rt, "https://example.com/a")

    await start(rt, job.id)
    web.answers = {}
    clock.tick(hours=100)
    await expire_uploads(rt)
    await rt.lease.beat()
    await start(rt, job.id)

    assert [given["image"] for given in provider.inputs] == [DATA, DATA]
    assert web.requests == ["https://example.com/a", "https://cdn.example.com/b"]


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"https://example.com/a": (404, b"no")}, "input_gone"),
        ({"https://example.com/a": (403, b"no")}, "input_gone"),
        ({"https://example.com/a": (200, b"")}, "input_gone"),
        ({"https://example.com/a": (200, PAGE)}, "input_not_media"),
        ({"https://example.com/a": (200, b"x" * 2000)}, "input_too_large"),
        ({"https://example.com/a": (302, b"https://127.0.0.1/x")}, "input_unsafe"),
        ({"https://example.com/a": (302, b"http://example.com/x")}, "input_unsafe"),
        ({"https://example.com/a": (302, b"https://example.com/a")}, "input_unsafe"),
    ],
)
async def test_an_address_without_a_file_fails_the_job(
    rt: Runtime, provider: TakingProvider, answers: Mapping[str, tuple[int, bytes]], code: str
) -> None:
    """Nothing is paid for, and a redirect to an unsafe address is not followed."""
    web = Web(answers)
    small = rt.settings.model_copy(update={"max_upload_bytes": 1024})
    rt = replace(rt, inputs=web.client(), settings=small)
    job = await with_input(rt, "https://example.com/a")

    await start(rt, job.id)

    failed = await now(rt, job)
    assert (failed.status, failed.error and failed.error.code) == (Status.FAILED, code)
    assert provider.started == []
    assert not any("127.0.0.1" in address for address in web.requests)


@pytest.mark.parametrize("answers", [{}, {"https://example.com/a": (503, b"")}])
async def test_an_unreachable_host_is_tried_again(
    rt: Runtime, provider: TakingProvider, clock: Clock, answers: Mapping[str, tuple[int, bytes]]
) -> None:
    """It does not count for the provider's circuit breaker."""
    web = Web(answers)
    rt = replace(rt, inputs=web.client())
    job = await with_input(rt, "https://example.com/a")

    for _ in range(8):
        await start(rt, job.id)
        clock.tick(seconds=120)
    waiting = await now(rt, job)
    await rt.lease.beat()
    web.answers = {"https://example.com/a": (200, PNG)}
    await start(rt, job.id)

    assert (waiting.status, waiting.error and waiting.error.code) == (
        Status.PENDING,
        "input_unreachable",
    )
    assert provider.inputs[0]["image"] == DATA


async def test_a_broken_download_is_tried_again(rt: Runtime, provider: TakingProvider) -> None:
    """An incomplete file is never used."""

    async def broken() -> AsyncIterator[bytes]:
        yield PNG[:10]
        raise CallFailed("cut off")

    class Broken(Web):
        @asynccontextmanager
        async def send(self, request: Request) -> AsyncGenerator[Response]:
            self.requests.append(str(request.url))
            yield Response(200, {}, broken())

    rt = replace(rt, inputs=Client(Policy(), Broken({})))
    job = await with_input(rt, "https://example.com/a")

    await start(rt, job.id)

    assert (await now(rt, job)).status is Status.PENDING
    assert provider.started == []
