"""Deliveries are stored in the commit of their event, and cost nothing without webhooks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import event, select
from uuid_utils.compat import uuid7

from backing_services import both_databases
from fleek.domain.job import Job, JobWebhook
from fleek.domain.media import Media
from fleek.domain.transitions import cancel
from fleek.domain.webhooks import Endpoint, EndpointId
from fleek.store import jobs
from fleek.store.database import Database
from fleek.store.endpoints import change_endpoint, insert_endpoint
from fleek.store.owed import DELIVERY
from fleek.store.tables import DeliveryRow
from fleek.store.updates import Update, apply
from samples import NOON, a_job


class Plain:
    """Presents every line but one as an event of that name."""

    def type_of(self, line: str) -> str | None:
        """Return the line itself."""
        return None if line == "internal" else line

    def body(
        self, line: str, job: Job, media: Sequence[Media], *, form: str | None = None
    ) -> bytes:
        """Return the arguments."""
        return f"{line} {job.status} {len(media)}{form or ''}".encode()


PLAIN = Plain()


@contextmanager
def counted(db: Database) -> Iterator[list[str]]:
    """Yield the statements that are executed in the meantime."""
    statements: list[str] = []

    def listen(*args: Any) -> None:
        statements.append(args[2])

    engine = db._writer
    event.listen(engine, "before_cursor_execute", listen)
    yield statements
    event.remove(engine, "before_cursor_execute", listen)


def _cancel(job: Job, _: object) -> Update:
    return Update(change=cancel(job, now=NOON))


async def owed(db: Database) -> list[tuple[str, object, bytes]]:
    """Return the stored deliveries, in the order of the events."""
    async with db.read() as tx:
        found = await tx.execute(select(DeliveryRow.__table__).order_by(DeliveryRow.id))
        read = [DELIVERY.read(row) for row in found.mappings()]
    return [(one.type, one.endpoint_id, one.body) for one in read]


def an_endpoint(**fields: Any) -> Endpoint:
    """Return an endpoint for every event of a cancelled job."""
    endpoint = Endpoint(
        id=EndpointId(uuid7()),
        tenant_id="default",
        url="https://example.com/hook",
        events=("submitted", "cancelled"),
        created_at=NOON,
    )
    return replace(endpoint, **fields)


@both_databases
async def test_without_webhooks_no_statement_is_added(db: Database) -> None:
    """Submissions and updates cost what they cost before there were webhooks."""
    job = a_job()

    with counted(db) as accepting:
        await jobs.insert_job(db, job, present=PLAIN)
    with counted(db) as changing:
        await apply(db, job.id, _cancel, present=PLAIN)

    assert [statement.split()[:3] for statement in accepting if "INTO" in statement] == [
        ["INSERT", "INTO", "jobs"],
        ["INSERT", "INTO", "events"],
        ["INSERT", "INTO", "tallies"],
    ]
    assert not [one for one in accepting + changing if "deliveries" in one]
    assert not [one for one in accepting + changing if one.startswith("SELECT endpoints")]


@both_databases
async def test_every_receiver_of_an_event_gets_a_delivery(db: Database) -> None:
    """The job's own URL, and each endpoint of its tenant for this type of event."""
    mine, lazy = an_endpoint(), an_endpoint(events=("completed",))
    for endpoint in (mine, lazy, an_endpoint(tenant_id="other")):
        await insert_endpoint(db, endpoint, "whsec_x")
    job = a_job(webhook=JobWebhook("https://example.com/own", ("cancelled",)))

    await jobs.insert_job(db, job, present=PLAIN)
    await apply(db, job.id, _cancel, present=PLAIN)

    assert await owed(db) == [
        ("submitted", mine.id, b"submitted pending 0"),
        ("cancelled", None, b"cancelled cancelled 0"),
        ("cancelled", mine.id, b"cancelled cancelled 0"),
    ]


async def test_a_disabled_endpoint_gets_no_deliveries(db: Database) -> None:
    """Until it is enabled again."""
    endpoint = an_endpoint()
    await insert_endpoint(db, endpoint, "whsec_x")
    changes = {"enabled": False}
    await change_endpoint(db, endpoint.id, tenant_id="default", changes=changes)

    await jobs.insert_job(db, a_job(), present=PLAIN)

    assert await owed(db) == []


async def test_a_retry_is_delivered_as_a_job_of_its_own(db: Database) -> None:
    """It is accepted by another statement."""
    await insert_endpoint(db, an_endpoint(events=("submitted",)), "whsec_x")
    job = a_job()
    await jobs.insert_job(db, job)
    await apply(db, job.id, _cancel)

    await jobs.insert_retry(db, a_job(retry_of=job.id), again=False, present=PLAIN)

    assert [kind for kind, _, _ in await owed(db)] == ["submitted"]
