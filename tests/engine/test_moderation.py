"""Moderation before a start: what is flagged is never paid for, and silence is not consent."""

import json
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final

import pytest

from fakes import PNG, FakeProvider, TakingProvider, a_request
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import Job, Stage, Status
from fleek.domain.media import Output, metadata_key
from fleek.engine.collect import collect
from fleek.engine.moderation import MAX_ANSWER, Moderator
from fleek.engine.recollect import recollect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.uploads import accept_upload
from fleek.environment import read
from fleek.outbound.addresses import AllowedHost, Policy
from fleek.outbound.client import CallFailed, Client, NotSent, Request, Response
from fleek.providers.base import Succeeded
from fleek.settings import Settings
from fleek.store import attempts, jobs
from fleek.store.jobs import JobView

URL: Final = "https://moderation.example.com/check"
GOOD: Final = b'{"flagged": false}'
BAD: Final = b'{"flagged": true, "reason": "a\\nbanned word"}'


@dataclass
class Service:
    """A moderation service with one response to every question."""

    answer: bytes | CallFailed = GOOD
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[Response]:
        """Respond."""
        self.asked.append(json.loads(request.content))
        if isinstance(self.answer, CallFailed):
            raise self.answer
        yield Response(self.status, {}, _bytes(self.answer))

    async def close(self) -> None:
        """Do nothing."""


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


def moderated(
    rt: Runtime, service: Service, *, fails_open: bool = False, outputs: bool = False
) -> Runtime:
    """Return a runtime that asks this service."""
    client = Client(Policy(patterns=(), named=(AllowedHost.of(URL),)), service)
    moderator = Moderator(client, URL, seconds=30, fails_open=fails_open, outputs=outputs)
    return replace(rt, moderator=moderator)


async def started(rt: Runtime, **fields: Any) -> Job:
    """Return a job after its first start."""
    job = await submit(rt, a_request(**fields))
    await start(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


async def test_what_is_flagged_is_not_paid_for(rt: Runtime, provider: FakeProvider) -> None:
    """The reason is the service's, as one line; there is not even an intent."""
    job = await started(moderated(rt, Service(BAD)))

    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "moderation_flagged"
    assert job.error.message == "flagged by moderation: a banned word"
    assert provider.started == []
    assert await attempts.of_job(rt.db, job.id) == []


async def test_everything_else_starts(rt: Runtime, provider: FakeProvider) -> None:
    """The service has seen what the provider gets."""
    service = Service()

    job = await started(moderated(rt, service), parameters={"seed": 7})

    assert job.stage is Stage.WAITING
    assert len(provider.started) == 1
    assert service.asked == [
        {
            "stage": "input",
            "job_id": str(job.id),
            "tenant_id": job.tenant_id,
            "provider": job.provider,
            "model": job.model,
            "prompt": job.prompt,
            "parameters": {"seed": 7},
            "inputs": [],
        }
    ]
    (attempt,) = await attempts.of_job(rt.db, job.id)
    assert attempt.inputs is None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (NotSent("no connection"), 200),
        (GOOD, 503),
        (GOOD, 302),
        (b"", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b'{"flagged": "no"}', 200),
        (b'{"flagged": false, "reason": "' + b"x" * MAX_ANSWER + b'"}', 200),
    ],
)
async def test_without_an_answer_a_job_waits_unless_it_may_start(
    rt: Runtime, provider: FakeProvider, answer: bytes | CallFailed, status: int
) -> None:
    """As the operator has decided."""
    service = Service(answer, status)

    closed = await started(moderated(rt, service))
    before = len(provider.started)
    opened = await started(moderated(rt, service, fails_open=True))

    assert (closed.status, before) == (Status.PENDING, 0)
    assert closed.error is not None
    assert closed.error.code == "moderation_unavailable"
    assert closed.run_at > closed.created_at
    assert (opened.stage, len(provider.started)) == (Stage.WAITING, 1)


class TestInputs:
    """A provider that takes files."""

    @pytest.fixture
    def provider(self) -> TakingProvider:
        """Return it."""
        return TakingProvider()

    async def test_inputs_are_named_by_their_hashes(self, rt: Runtime) -> None:
        """The bytes stay here; a service that knows them recognizes them."""
        service = Service()
        upload = await accept_upload(rt, _bytes(PNG), tenant_id="default")
        reference = f"upload:{upload.id}"

        await started(moderated(rt, service), parameters={"image": reference})

        (asked,) = service.asked
        digest = sha256(PNG).hexdigest()
        assert asked["parameters"] == {"image": f"sha256:{digest}"}
        assert asked["inputs"] == [
            {
                "pointer": "/image",
                "reference": reference,
                "sha256": digest,
                "size_bytes": len(PNG),
                "content_type": "image/png",
            }
        ]


THREE: Final = Succeeded(tuple(Output(uri=f"fake:{n}") for n in range(3)))


async def collected(rt: Runtime, provider: FakeProvider, service: Service, **how: bool) -> JobView:
    """Return a job with three outputs, and its files, after it was collected once."""
    provider.at_once, provider.outcome = True, THREE
    job = await started(rt)
    await collect(moderated(rt, service, outputs=True, **how), job.id)
    return await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)


async def test_outputs_are_shown_with_their_bytes(rt: Runtime, provider: FakeProvider) -> None:
    """Links would not work before the job has completed."""
    service = Service()

    view = await collected(rt, provider, service)

    (asked,) = service.asked
    assert view.job.status is Status.COMPLETED
    assert (asked["stage"], asked["job_id"]) == ("output", str(view.job.id))
    assert [row["index"] for row in asked["outputs"]] == [0, 1, 2]
    assert b64decode(asked["outputs"][0]["content"]) == PNG
    assert asked["outputs"][0]["sha256"] == sha256(PNG).hexdigest()


async def test_a_flagged_output_is_withheld(rt: Runtime, provider: FakeProvider) -> None:
    """The others stay under their numbers; the document says which one is missing, and why."""
    rows: list[Any] = [
        {"index": 1, "flagged": True, "reason": "no"},
        {"index": [], "flagged": True},
    ]
    rows += [{"index": 0, "flagged": False}, {"index": 9, "flagged": True}, 7]
    answer = json.dumps({"flagged": False, "outputs": rows}).encode()

    view = await collected(rt, provider, Service(answer))

    assert view.job.status is Status.COMPLETED
    assert [file.index for file in view.media] == [0, 2]
    document = b"".join([part async for part in rt.storage.read(metadata_key(view.job.id))])
    assert json.loads(document)["withheld"] == [
        {"index": 1, "code": "moderation_flagged", "reason": "no"}
    ]


async def test_a_job_whose_outputs_are_all_flagged_can_be_collected_again(
    rt: Runtime, provider: FakeProvider
) -> None:
    """It was paid for, and the service may have been wrong."""
    view = await collected(rt, provider, Service(BAD))
    failed = view.job.error

    await recollect(rt, view.job.id, tenant_id=view.job.tenant_id)
    await collect(moderated(rt, Service(), outputs=True), view.job.id)
    after = await jobs.get(rt.db, view.job.id, tenant_id=view.job.tenant_id)

    assert (view.job.status, view.media) == (Status.FAILED, ())
    assert failed is not None
    assert failed.code == "moderation_flagged"
    assert "can be collected again" in failed.message
    assert (after.job.status, len(after.media)) == (Status.COMPLETED, 3)


async def test_a_paid_result_waits_for_an_answer(rt: Runtime, provider: FakeProvider) -> None:
    """It is collected later, or at once if the operator prefers that."""
    closed = await collected(rt, provider, Service(status=503))
    opened = await collected(rt, provider, Service(status=503), fails_open=True)

    assert closed.job.stage is Stage.COLLECTING
    assert closed.job.error is not None
    assert closed.job.error.code == "moderation_unavailable"
    assert (opened.job.status, len(opened.media)) == (Status.COMPLETED, 3)


def test_its_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, not with the first job."""
    monkeypatch.setenv("MODERATION_URL", "moderation.example.com")

    with pytest.raises(ConfigurationError, match="MODERATION_URL: must be an address"):
        read(Settings)
