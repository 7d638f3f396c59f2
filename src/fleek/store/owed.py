"""The deliveries that an event owes: written in its own transaction, so none is forgotten.

Tenants without an enabled endpoint and jobs without a URL of their own cost no statement: whether
there is any endpoint is told by a statement that the transaction needs anyway.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, exists, insert, select
from uuid_utils.compat import uuid7

from fleek.domain.job import Job, Status
from fleek.domain.media import Media
from fleek.domain.values import dataclass
from fleek.domain.webhooks import Delivery, DeliveryId, EndpointId, lane_of
from fleek.store import rows
from fleek.store.database import Transaction
from fleek.store.prepared import Query, Write
from fleek.store.tables import DeliveryRow, EndpointRow, MediaRow

DELIVERY: Final = rows.Mapper(
    Delivery,
    fixed={
        *("id", "tenant_id", "lane", "endpoint_id", "url", "job_id", "seq", "type", "body"),
        "form",
        "created_at",
    },
)
WATCHED: Final[ColumnElement[bool]] = exists(
    select(EndpointRow.id).where(EndpointRow.enabled)
).label("watched")
"""Whether any endpoint is enabled, as a column of a statement that is made anyway."""

INSERT_DELIVERIES: Final = Write(insert(DeliveryRow), mapper=DELIVERY)
SELECT_ENDPOINTS: Final = Query[Any](
    select(EndpointRow.id, EndpointRow.tenant_id, EndpointRow.events).where(
        EndpointRow.tenant_id.in_(bindparam("tenants", expanding=True)), EndpointRow.enabled
    )
)


class Presenter(Protocol):
    """Presents lines of a job's history as public events."""

    def type_of(self, line: str) -> str | None:
        """Return the type of the event that a line of this type is; None: it is internal."""
        ...

    def body(
        self, line: str, job: Job, media: Sequence[Media], *, form: str | None = None
    ) -> bytes:
        """Return the body of a webhook about a line: the job after it, with its stored files.

        `form`: see `fleek.domain.job.JobWebhook`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A line of a job's history, and the job after it."""

    line: str
    job: Job
    media: Sequence[Media] = ()  # that were stored with it


class _Receiver(NamedTuple):
    lane: UUID
    endpoint_id: EndpointId | None
    url: str | None
    form: str | None = None


async def insert_owed(
    tx: Transaction, occurrences: Sequence[Occurrence], present: Presenter, *, watched: bool
) -> None:
    """Write what is to be delivered about these occurrences. `watched`: see `WATCHED`."""
    public = [(present.type_of(occurrence.line), occurrence) for occurrence in occurrences]
    endpoints: Mapping[str, Sequence[Mapping[str, Any]]] = {}
    if watched:
        tenants = {occurrence.job.tenant_id for kind, occurrence in public if kind is not None}
        endpoints = await _endpoints(tx, tenants)
    deliveries: list[Delivery] = []
    for kind, occurrence in public:
        if kind is None:
            continue
        job = occurrence.job
        if receivers := list(_receivers(job, kind, endpoints.get(job.tenant_id, ()))):
            media = await _media(tx, occurrence)
            bodies = {
                form: present.body(occurrence.line, job, media, form=form)
                for form in {receiver.form for receiver in receivers}
            }
            deliveries += [_owed(job, kind, bodies[each.form], each) for each in receivers]
    await INSERT_DELIVERIES.run(tx, deliveries)


async def _endpoints(
    tx: Transaction, tenants: Collection[str]
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    if tenants:
        for row in await SELECT_ENDPOINTS.dicts(tx, tenants=rows.padded(sorted(tenants))):
            found[row["tenant_id"]].append(row)
    return found


def _receivers(job: Job, kind: str, endpoints: Sequence[Mapping[str, Any]]) -> Iterator[_Receiver]:
    if job.webhook is not None and kind in job.webhook.events:
        url = job.webhook.url
        lane = lane_of(url, tenant_id=job.tenant_id)
        yield _Receiver(lane, None, url, job.webhook.form)
    for row in endpoints:
        if kind in row["events"]:
            yield _Receiver(row["id"], EndpointId(row["id"]), None)


async def _media(tx: Transaction, occurrence: Occurrence) -> Sequence[Media]:
    """Return the files that the job has after an occurrence."""
    job = occurrence.job
    if job.status is not Status.COMPLETED or job.purged_at is not None or occurrence.media:
        return occurrence.media
    stored = select(MediaRow.__table__).where(MediaRow.job_id == job.id).order_by(MediaRow.index)
    return [rows.MEDIA.read(row) for row in (await tx.execute(stored)).mappings()]


def _owed(job: Job, kind: str, body: bytes, receiver: _Receiver) -> Delivery:
    return Delivery(
        id=DeliveryId(uuid7()),
        tenant_id=job.tenant_id,
        lane=receiver.lane,
        endpoint_id=receiver.endpoint_id,
        url=receiver.url,
        job_id=job.id,
        seq=job.version,
        type=kind,
        body=body,
        form=receiver.form,
        created_at=job.updated_at,
        next_at=job.updated_at,
    )
