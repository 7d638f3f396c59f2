"""Deliveries of an event are stored in its own commit; secrets of receivers."""

import asyncio
import base64
from dataclasses import replace

import pytest
from sqlalchemy import select
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fakes import FakeProvider, a_request
from fleek.domain.errors import ConfigurationError, NotFound
from fleek.domain.job import Job, JobError, JobFilter, JobWebhook, Status
from fleek.domain.media import Part
from fleek.domain.webhooks import EndpointId
from fleek.engine.bulk import IDLE, BulkOperations, accept
from fleek.engine.cancel import cancel
from fleek.engine.collect import collect
from fleek.engine.edit import edit
from fleek.engine.purge import mark, purge
from fleek.engine.runtime import Runtime
from fleek.engine.signing import SecretBox
from fleek.engine.start import start
from fleek.engine.submit import retry, submit
from fleek.engine.webhooks import create_endpoint, rotate_secret, signing_secrets
from fleek.providers.base import Failed
from fleek.schemas.events import PUBLIC, EventType
from fleek.store import jobs
from fleek.store.bulk import BulkAction
from fleek.store.tables import DeliveryRow, EventRow

ALL = tuple(EventType)
URL = "https://example.com/hook"
OLD, NEW = bytes(32), bytes(range(32))


async def owed(rt: Runtime) -> list[tuple[object, ...]]:
    """Return the stored deliveries: job, version, type, whether to an endpoint."""
    columns = (DeliveryRow.job_id, DeliveryRow.seq, DeliveryRow.type, DeliveryRow.endpoint_id)
    async with rt.db.read() as tx:
        found = await tx.execute(select(*columns))
        return sorted((str(row[0]), row[1], row[2], row[3] is not None) for row in found)


async def happened(rt: Runtime) -> list[tuple[str, int, str]]:
    """Return all public events of all jobs: job, version, type."""
    async with rt.db.read() as tx:
        found = await tx.execute(select(EventRow.job_id, EventRow.seq, EventRow.type))
        return [(str(row[0]), row[1], PUBLIC[row[2]].value) for row in found if row[2] in PUBLIC]


async def in_bulk(rt: Runtime, action: BulkAction, **wanted: object) -> None:
    """Apply a bulk operation to many jobs."""
    chosen = JobFilter(**wanted)  # type: ignore[arg-type]  # fields of a filter
    await accept(rt, action, tenant_id="default", wanted=chosen)
    turns = BulkOperations(rt)
    while await turns.turn() < IDLE:
        pass


async def completed(rt: Runtime, provider: FakeProvider) -> Job:
    """Return a job that has completed."""
    provider.at_once = True
    job = await submit(rt, a_request())
    await start(rt, job.id)
    await collect(rt, job.id)
    return await jobs.get_any_tenant(rt.db, job.id)


@both_databases
async def test_every_event_is_delivered_for_every_operation(
    rt: Runtime, provider: FakeProvider
) -> None:
    """To the endpoint and the job's URL: single and bulk operations, retries, changes, purges."""
    await create_endpoint(rt, tenant_id="default", url=URL, events=ALL, description="")
    await create_endpoint(rt, tenant_id="other", url=URL, events=ALL, description="")
    made = await asyncio.gather(
        *(submit(rt, a_request(webhook=JobWebhook(URL, ALL))) for _ in range(5))
    )
    await cancel(rt, made[0].id, tenant_id="default")
    await retry(rt, made[0].id, tenant_id="default")
    await edit(rt, made[1].id, {"tags": ("sea",)}, tenant_id="default")
    await in_bulk(rt, BulkAction.CANCEL)
    await in_bulk(rt, BulkAction.RETRY, statuses=frozenset({Status.CANCELLED}))
    done = await completed(rt, provider)
    await mark(rt, done.id, [Part.METADATA], cause="metadata")
    await purge(rt, made[2].id, tenant_id="default")
    await in_bulk(rt, BulkAction.PURGE)

    found = await owed(rt)

    events = await happened(rt)
    assert {kind for _, _, kind in events} >= {
        *("job.created", "job.started", "job.cancelled", "job.completed", "job.purged"),
        "job.updated",
    }
    assert [row[:3] for row in found if row[3]] == sorted(events)
    own = [event for event in events if event[0] != str(done.id)]
    assert [row[:3] for row in found if not row[3]] == sorted(own)


async def test_a_body_is_the_job_after_the_event(rt: Runtime, provider: FakeProvider) -> None:
    """Events of a completed job contain its files until they are purged."""
    await create_endpoint(rt, tenant_id="default", url=URL, events=ALL, description="")
    job = await completed(rt, provider)
    await edit(rt, job.id, {"favourite": True}, tenant_id="default")
    await purge(rt, job.id, tenant_id="default")

    async with rt.db.read() as tx:
        found = await tx.execute(select(DeliveryRow.type, DeliveryRow.body))
        bodies = {row.type: row.body for row in found}

    files = {kind: body.count(b'"sha256"') for kind, body in bodies.items()}
    assert (files["job.completed"], files["job.updated"], files["job.purged"]) == (1, 1, 0)
    assert files["job.started"] == 0


async def test_an_unprintable_reason_of_a_provider_blocks_no_job(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Text that cannot be written as JSON would make its transaction fail each time."""
    provider.outcome = Failed("prediction_failed", "broken \ud800", retryable=False)
    provider.at_once = True
    await create_endpoint(rt, tenant_id="default", url=URL, events=ALL, description="")
    job = await submit(rt, a_request())

    await start(rt, job.id)

    job = await jobs.get_any_tenant(rt.db, job.id)
    assert job.status is Status.FAILED
    assert job.error == JobError("prediction_failed", "broken \ufffd")
    assert [row[2] for row in await owed(rt)] == ["job.created", "job.started", "job.failed"]


def sealing(rt: Runtime, *keys: bytes) -> Runtime:
    """Return the runtime with these master keys."""
    return replace(rt, secret_box=SecretBox(keys))


async def test_a_lost_master_key_is_survived_by_a_rotation(rt: Runtime) -> None:
    """The secret that cannot be read any more is left out."""
    endpoint, _ = await create_endpoint(
        sealing(rt, OLD), tenant_id="default", url=URL, events=ALL, description=""
    )
    lost = sealing(rt, NEW)
    with pytest.raises(ConfigurationError, match="MASTER_KEY"):
        await signing_secrets(lost, tenant_id="default", endpoint_id=endpoint.id)

    new = await rotate_secret(lost, endpoint.id, tenant_id="default")

    found = await signing_secrets(lost, tenant_id="default", endpoint_id=endpoint.id)
    assert found == [new]


async def test_the_master_key_is_changed_without_losing_a_secret(rt: Runtime) -> None:
    """The new key is listed before the old one."""
    endpoint, secret = await create_endpoint(
        sealing(rt, OLD), tenant_id="default", url=URL, events=ALL, description=""
    )

    changed = sealing(rt, NEW, OLD)

    found = await signing_secrets(changed, tenant_id="default", endpoint_id=endpoint.id)
    assert found == [secret]
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


async def test_a_missing_endpoint_has_no_signature(rt: Runtime) -> None:
    """No secret is created for it."""
    with pytest.raises(NotFound):
        await signing_secrets(rt, tenant_id="default", endpoint_id=EndpointId(uuid7()))
