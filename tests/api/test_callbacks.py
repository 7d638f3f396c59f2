"""The callback route: it serves providers only, and reveals nothing to other callers."""

from collections.abc import Callable
from dataclasses import replace

import httpx2
import pytest

from fakes import FakeProvider, a_request
from fleek.api import callbacks
from fleek.domain.attempt import Attempt
from fleek.domain.job import Stage
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.store import attempts, jobs

ClientOf = Callable[[Runtime], httpx2.AsyncClient]
UNKNOWN = f"0198f0c2-0000-4000-8000-000000000000.{'0' * 32}"
SIGNED = {"webhook-signature": "fake", "webhook-id": "msg_1"}


@pytest.fixture
async def working(rt: Runtime) -> Runtime:
    """Return the runtime as a worker's, with the scripted provider."""
    await rt.lease.register()
    return replace(rt, providers={"placeholder": FakeProvider()})


async def started(rt: Runtime) -> Attempt:
    """Submit and start a job, and return its attempt."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    (attempt,) = await attempts.of_job(rt.db, job.id)
    return attempt


async def test_a_callback_continues_its_job(working: Runtime, client_of: ClientOf) -> None:
    """The provider gets a success response, however often it calls."""
    attempt = await started(working)
    address = f"/webhooks/placeholder/{attempt.id}.{attempt.nonce}"

    async with client_of(working) as client:
        answers = [
            await client.post(address, content=str(attempt.prediction_id), headers=SIGNED)
            for _ in range(2)
        ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert (await jobs.get_any_tenant(working.db, attempt.job_id)).stage is Stage.COLLECTING


async def test_a_forged_callback_is_refused(working: Runtime, client_of: ClientOf) -> None:
    """The address alone is not enough without the provider's signature."""
    attempt = await started(working)
    address = f"/webhooks/placeholder/{attempt.id}.{attempt.nonce}"

    async with client_of(working) as client:
        answer = await client.post(address, content=str(attempt.prediction_id))

    assert (answer.status_code, answer.json()["code"]) == (401, "callback_rejected")
    assert (await jobs.get_any_tenant(working.db, attempt.job_id)).stage is Stage.WAITING


@pytest.mark.parametrize(
    "address",
    ["placeholder/x", f"placeholder/{UNKNOWN}", f"nobody/{UNKNOWN}"],
    ids=["no token", "unknown token", "unknown provider"],
)
async def test_an_unknown_address_is_not_found(
    working: Runtime, client_of: ClientOf, address: str
) -> None:
    """All wrong addresses get the same response."""
    async with client_of(working) as client:
        answer = await client.post(f"/webhooks/{address}", content=b"{}", headers=SIGNED)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_endless_body_is_refused(
    working: Runtime, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even from a provider that signs it."""
    monkeypatch.setattr(callbacks, "MAX_ANSWER_BYTES", 1000)
    attempt = await started(working)
    address = f"/webhooks/placeholder/{attempt.id}.{attempt.nonce}"

    async with client_of(working) as client:
        answer = await client.post(address, content=b"x" * 1001, headers=SIGNED)

    assert answer.status_code == 413
