"""The tables and their indexes. Migrations make the tables; a test compares the two.

Each index exists for one loop or one list. It is partial where only live rows matter, so that a
million finished jobs cost the loops nothing. `fleek.store.migrate` builds those that a database
lacks, without holding up writers: a migration makes no index on a table that another one has made.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, ClassVar, Final, NamedTuple
from uuid import UUID

import sqlalchemy
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnClause,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

LENGTH: Final = len("2026-12-24 18:00:00.000000")


class Instant(TypeDecorator[datetime]):
    """An aware UTC time; microseconds. SQLite keeps it as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """Return the function that encodes a value."""
        return super().bind_processor(dialect) if dialect.name == "postgresql" else _to_text

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[Any], datetime | None] | None:
        """Return the function that decodes a value."""
        if dialect.name == "postgresql":
            return super().result_processor(dialect, coltype)
        return _from_text


@lru_cache(maxsize=1024)
def _to_text(value: datetime | None) -> str | None:
    """Return a time as text; those of a job are written again with each of its steps."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:LENGTH]


def _from_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value + "+00:00")


Document = JSON(none_as_null=True)
"""Kept as the text that was written: JSONB would reorder keys and turn 1e300 into an integer."""


class Base:
    """A table, with its columns as attributes; a statement takes the class for its table.

    Nothing of the ORM describes it: its mapping of all tables takes 6 % of the start. Attributes are annotated
    with `ColumnClause`, as SQLAlchemy lets nobody read a `Column` from a class of their own.
    """

    metadata: ClassVar = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __tablename__: ClassVar[str]
    __table__: ClassVar[Table]
    __table_args__: ClassVar[tuple[UniqueConstraint, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Make the table; a column without a name of its own has that of its attribute."""
        columns = {name: held for name, held in vars(cls).items() if isinstance(held, Column)}
        for name, column in columns.items():
            column.name = column.name or name
            column.key = column.key or name
        cls.__table__ = Table(
            cls.__tablename__, Base.metadata, *columns.values(), *cls.__table_args__
        )

    @classmethod
    def __clause_element__(cls) -> Table:
        """Return what SQLAlchemy takes for the class in a statement."""
        return cls.__table__


def _column(*args: Any, **options: Any) -> ColumnClause[Any]:
    return Column(*args, nullable=False, **options)


def _nullable(*args: Any, **options: Any) -> ColumnClause[Any]:
    return Column(*args, **options)


# What is pending does not imply what is live: after a quiet time PostgreSQL takes both for equally
# small, and would look for what is due among all that lives.
LIVE = "completed_at IS NULL"
BOUND = "prediction_id IS NOT NULL AND verdict IS NULL"
UNSETTLED = "prediction_id IS NULL AND verdict IS NULL"
OWED = "cancel_owed AND verdict IS NULL"
ENDED = "completed_at IS NOT NULL"
MEDIA_KEPT = "status = 'completed' AND purged_at IS NULL"
METADATA_KEPT = "status = 'completed' AND metadata_purged_at IS NULL"
PURGING = "purging"
KEPT = "kept_sha256 IS NOT NULL"
BEING_REMOVED = "kept_sha256 IS NULL"
UNDELIVERED = "state = 'pending'"
UNDELIVERABLE = "state = 'failed'"
FAVOURITE = "favourite"
OF_A_KIND = "kind IS NOT NULL"
OF_A_BATCH = "batch_id IS NOT NULL"
REUSABLE = (
    "content IS NOT NULL AND status = 'completed' AND purged_at IS NULL AND reused_from IS NULL"
)
ROUTED = "status = 'pending' AND routing IS NOT NULL"


class JobRow(Base):
    """One job; see `fleek.domain.job.Job` for the meaning of each column."""

    __tablename__ = "jobs"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    provider: ColumnClause[str] = _column(String(100))
    model: ColumnClause[str] = _column(String(400))
    prompt: ColumnClause[str] = _column(Text)
    input: ColumnClause[dict[str, Any]] = _column(Document)
    caller_metadata: ColumnClause[dict[str, Any]] = _column("metadata", Document)
    priority: ColumnClause[int] = _column(Integer)
    max_attempts: ColumnClause[int] = _column(Integer)
    run_at: ColumnClause[datetime] = _column(Instant)
    deadline: ColumnClause[datetime] = _column(Instant)
    # a release before this column does not write it
    deadline_after_seconds: ColumnClause[float | None] = _nullable(Float)
    created_at: ColumnClause[datetime] = _column(Instant)
    updated_at: ColumnClause[datetime] = _column(Instant)
    status: ColumnClause[str] = _column(String(16))
    stage: ColumnClause[str | None] = _nullable(String(16))
    attempt: ColumnClause[int] = _column(Integer)
    retries: ColumnClause[int] = _column(Integer)
    deferrals: ColumnClause[int] = _column(Integer)
    crashes: ColumnClause[int] = _column(Integer)
    collects: ColumnClause[int] = _column(Integer)
    worker_id: ColumnClause[UUID | None] = _nullable(Uuid)
    attempt_id: ColumnClause[UUID | None] = _nullable(Uuid)
    prediction_id: ColumnClause[str | None] = _nullable(String(400))
    progress: ColumnClause[float | None] = _nullable(Float)
    error_code: ColumnClause[str | None] = _nullable(String(64))
    error_message: ColumnClause[str | None] = _nullable(Text)
    started_at: ColumnClause[datetime | None] = _nullable(Instant)
    completed_at: ColumnClause[datetime | None] = _nullable(Instant)
    purged_at: ColumnClause[datetime | None] = _nullable(Instant)
    metadata_purged_at: ColumnClause[datetime | None] = _nullable(Instant)
    retry_of: ColumnClause[UUID | None] = _nullable(Uuid)
    # a release before these four columns does not write them
    reused_from: ColumnClause[UUID | None] = _nullable(Uuid)
    content: ColumnClause[bytes | None] = _nullable(LargeBinary)
    batch_id: ColumnClause[UUID | None] = _nullable(Uuid)
    batch_index: ColumnClause[int | None] = _nullable(Integer)
    # a release before these two columns does not write them
    inputs: ColumnClause[list[Any] | None] = _nullable(Document)
    on_input_cancel: ColumnClause[str] = _column(String(8), server_default="fail")
    # a release before this column does not write it
    routing: ColumnClause[dict[str, Any] | None] = _nullable(Document)
    # a release before this column does not write it
    key_id: ColumnClause[str | None] = _nullable(String(80))
    traceparent: ColumnClause[str | None] = _nullable(String(55))
    webhook: ColumnClause[dict[str, Any] | None] = _nullable(Document)
    # a release before these two columns does not write them
    favourite: ColumnClause[bool] = _column(Boolean, server_default=false())
    kind: ColumnClause[str | None] = _nullable(String(16))
    tags: ColumnClause[list[str] | None] = _nullable(Document)
    # a release before these four columns does not write them
    # a release before this column does not write it
    max_cost: ColumnClause[int | None] = _nullable(BigInteger)
    estimate: ColumnClause[int | None] = _nullable(BigInteger)
    charged: ColumnClause[int] = _column(Integer, server_default="0")
    charged_on: ColumnClause[str | None] = _nullable(String(10))
    cost: ColumnClause[int | None] = _nullable(BigInteger)
    # a release before this column does not write it
    purging: ColumnClause[bool] = _column(Boolean, server_default=false())
    # a release before this column does not write it
    search_since: ColumnClause[datetime | None] = _nullable(Instant)
    version: ColumnClause[int] = _column(Integer)


class BatchRow(Base):
    """Requests that were accepted together; see `fleek.domain.batch.Batch`."""

    __tablename__ = "batches"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    key_id: ColumnClause[str | None] = _nullable(String(80))
    total: ColumnClause[int] = _column(Integer)
    accepted: ColumnClause[int] = _column(Integer)
    created_at: ColumnClause[datetime] = _column(Instant)
    cancelled_at: ColumnClause[datetime | None] = _nullable(Instant)


class TagRow(Base):
    """One tag of a job: for lists. The job itself has all of its tags."""

    __tablename__ = "job_tags"

    tenant_id: ColumnClause[str] = _column(String(64), primary_key=True)
    tag: ColumnClause[str] = _column(String(64), primary_key=True)
    job_id: ColumnClause[UUID] = _column(ForeignKey("jobs.id"), primary_key=True)


class JobInputRow(Base):
    """What a job that has not ended needs: it is not removed; see `fleek.store.inputs`."""

    __tablename__ = "job_inputs"

    job_id: ColumnClause[UUID] = _column(ForeignKey("jobs.id"), primary_key=True)
    number: ColumnClause[int] = _column(Integer, primary_key=True)
    upload_id: ColumnClause[UUID | None] = _nullable(Uuid)
    source_id: ColumnClause[UUID | None] = _nullable(Uuid)  # the job whose output it is
    waiting: ColumnClause[bool] = _column(Boolean)  # whether that job may not have ended


class AttemptRow(Base):
    """One attempt; see `fleek.domain.attempt.Attempt`."""

    __tablename__ = "attempts"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    job_id: ColumnClause[UUID] = _column(ForeignKey("jobs.id"))
    number: ColumnClause[int] = _column("n", Integer)
    provider: ColumnClause[str] = _column(String(100))
    model: ColumnClause[str] = _column(String(400))
    nonce: ColumnClause[str] = _column(String(32))
    request_hash: ColumnClause[str] = _column(String(64))
    submitted_at: ColumnClause[datetime] = _column(Instant)
    # a release before this column does not write it
    provider_time: ColumnClause[datetime | None] = _nullable(Instant)
    timeout_seconds: ColumnClause[float] = _column(Float)
    worker_id: ColumnClause[UUID] = _column(Uuid)
    prediction_id: ColumnClause[str | None] = _nullable(String(400))
    first_look_at: ColumnClause[datetime | None] = _nullable(Instant)
    result: ColumnClause[dict[str, Any] | None] = _nullable(Document)
    verdict: ColumnClause[str | None] = _nullable(String(16))
    error_code: ColumnClause[str | None] = _nullable(String(64))
    error_message: ColumnClause[str | None] = _nullable(Text)
    # a release before these two columns does not write them
    empty_looks: ColumnClause[int] = _column(Integer, server_default="0")
    looked_at: ColumnClause[datetime | None] = _nullable(Instant)
    # a release before this column does not write it
    account: ColumnClause[str | None] = _nullable(String(40))
    # a release before this column does not write it
    inputs: ColumnClause[dict[str, Any] | None] = _nullable(Document)
    cancel_owed: ColumnClause[bool] = _column(Boolean)
    metrics: ColumnClause[dict[str, Any] | None] = _nullable(Document)
    # a release before these three columns does not write them
    estimate: ColumnClause[int | None] = _nullable(BigInteger)
    charged_on: ColumnClause[str | None] = _nullable(String(10))
    cost: ColumnClause[int | None] = _nullable(BigInteger)

    __table_args__ = (
        UniqueConstraint("job_id", "n"),
        UniqueConstraint("provider", "prediction_id"),
    )


class EventRow(Base):
    """One line of a job's history; ``seq`` is the version that the job reached with it."""

    __tablename__ = "events"

    job_id: ColumnClause[UUID] = _column(ForeignKey("jobs.id"), primary_key=True)
    seq: ColumnClause[int] = _column(Integer, primary_key=True)
    type: ColumnClause[str] = _column(String(32))
    data: ColumnClause[dict[str, Any]] = _column(Document)
    at: ColumnClause[datetime] = _column(Instant)
    # a release before these two columns does not write them; see `fleek.store.event_stream`
    tenant_id: ColumnClause[str | None] = _nullable(String(64))
    position: ColumnClause[int | None] = _nullable(BigInteger)


class JobLogRow(Base):
    """A piece of what providers logged of a job's predictions; see `fleek.store.job_logs`."""

    __tablename__ = "job_logs"

    job_id: ColumnClause[UUID] = _column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    seq: ColumnClause[int] = _column(Integer, primary_key=True)
    attempt: ColumnClause[int] = _column(Integer)  # its number
    position: ColumnClause[int] = _column(BigInteger)  # bytes of the job up to its end
    read: ColumnClause[int] = _column(BigInteger)  # characters of the attempt up to its end
    tail: ColumnClause[str] = _column(Text)  # the last of them
    text: ColumnClause[str] = _column(Text)


class EventStreamRow(Base):
    """The one row from which positions of events are counted; see `fleek.store.event_stream`."""

    __tablename__ = "event_stream"

    id: ColumnClause[int] = _column(Integer, primary_key=True)
    position: ColumnClause[int] = _column(BigInteger)


class MediaRow(Base):
    """One stored file; see `fleek.domain.media.Media`."""

    __tablename__ = "media"

    job_id: ColumnClause[UUID] = _column(ForeignKey("jobs.id"), primary_key=True)
    attempt_id: ColumnClause[UUID] = _column(ForeignKey("attempts.id"), primary_key=True)
    index: ColumnClause[int] = _column(Integer, primary_key=True)
    key: ColumnClause[str] = _column(String(400))
    sha256: ColumnClause[str] = _column(String(64))
    size_bytes: ColumnClause[int] = _column(BigInteger)
    content_type: ColumnClause[str] = _column(String(100))
    width: ColumnClause[int | None] = _nullable(Integer)
    height: ColumnClause[int | None] = _nullable(Integer)
    duration_seconds: ColumnClause[float | None] = _nullable(Float)
    placeholder: ColumnClause[str | None] = _nullable(String(300))


class WorkerRow(Base):
    """One process that works, from its first heartbeat on."""

    __tablename__ = "workers"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    host: ColumnClause[str] = _column(String(255))
    pid: ColumnClause[int] = _column(Integer)
    version: ColumnClause[str] = _column(String(32))
    slots: ColumnClause[int] = _column(Integer)
    started_at: ColumnClause[datetime] = _column(Instant)
    heartbeat_at: ColumnClause[datetime] = _column(Instant)
    ended_at: ColumnClause[datetime | None] = _nullable(
        Instant
    )  # it stopped, or its lease expired
    # whether it has ended by itself; a release before this column does not write it
    resigned: ColumnClause[bool] = _column(Boolean, server_default=false())
    freed: ColumnClause[bool] = _column(Boolean, default=False)  # read by releases before 0.2 only


class RoleRow(Base):
    """A role that one worker holds at a time."""

    __tablename__ = "roles"

    name: ColumnClause[str] = _column(String(32), primary_key=True)
    worker_id: ColumnClause[UUID | None] = _nullable(Uuid)
    expires_at: ColumnClause[datetime] = _column(Instant)


class ClockRow(Base):
    """A change of the time that processes share; see `fleek.store.clock`."""

    __tablename__ = "clock"

    id: ColumnClause[int] = _column(Integer, primary_key=True)
    at: ColumnClause[datetime] = _column(Instant)
    skipped_seconds: ColumnClause[float] = _column(Float)  # the clock leapt ahead by so much
    boot: ColumnClause[str | None] = _nullable(String(100))  # SQLite: of the machine
    steady: ColumnClause[float | None] = _nullable(Float)  # SQLite: its steady clock at that time


class ProviderHealthRow(Base):
    """Failures and pauses of a provider; see `fleek.store.provider_health.ProviderHealth`."""

    __tablename__ = "accounts"

    provider: ColumnClause[str] = _column(String(100), primary_key=True)
    model: ColumnClause[str] = _column(String(400), primary_key=True)
    paused_until: ColumnClause[datetime | None] = _nullable(Instant)
    reason: ColumnClause[str] = _column(String(64))
    failures: ColumnClause[int] = _column(Integer)
    updated_at: ColumnClause[datetime] = _column(Instant)


class QueuePauseRow(Base):
    """A pause by an operator; see `fleek.store.queue_pauses`."""

    __tablename__ = "queue_pauses"

    provider: ColumnClause[str] = _column(String(100), primary_key=True)
    model: ColumnClause[str] = _column(String(400), primary_key=True)
    since: ColumnClause[datetime] = _column(Instant)


class BulkOperationRow(Base):
    """An operation on many jobs; see `fleek.store.bulk.BulkOperation`."""

    __tablename__ = "bulk_operations"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    # a release before this column does not write it
    key_id: ColumnClause[str | None] = _nullable(String(80))
    action: ColumnClause[str] = _column(String(16))
    ids: ColumnClause[list[str]] = _column(Document)
    wanted: ColumnClause[dict[str, Any] | None] = _nullable(Document)
    matched: ColumnClause[int] = _column(Integer)
    created_at: ColumnClause[datetime] = _column(Instant)
    position: ColumnClause[UUID | None] = _nullable(Uuid)
    pages: ColumnClause[int] = _column(Integer)
    changed: ColumnClause[int] = _column(Integer)
    skipped: ColumnClause[int] = _column(Integer)
    failed: ColumnClause[int] = _column(Integer)
    ended_at: ColumnClause[datetime | None] = _nullable(Instant)


class IdempotencyKeyRow(Base):
    """A key that a request was accepted with; see `fleek.store.idempotency`."""

    __tablename__ = "idempotency_keys"

    tenant_id: ColumnClause[str] = _column(String(64), primary_key=True)
    key: ColumnClause[str] = _column(String(255), primary_key=True)
    digest: ColumnClause[bytes] = _column(LargeBinary)
    job_id: ColumnClause[UUID] = _column(Uuid)
    created: ColumnClause[bool] = _column(
        Boolean
    )  # whether the request created the job, or found it
    created_at: ColumnClause[datetime] = _column(Instant)


class UnkeyedRequestRow(Base):
    """A request that created a job and had no key; see `fleek.store.idempotency`."""

    __tablename__ = "unkeyed_requests"

    created_at: ColumnClause[datetime] = _column(Instant, primary_key=True)
    job_id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    digest: ColumnClause[bytes] = _column(LargeBinary)


class RequestRateRow(Base):
    """The requests that a caller may still send; see `fleek.store.request_rates`."""

    __tablename__ = "request_rates"

    id: ColumnClause[str] = _column(String(100), primary_key=True)  # of a key, or an address
    full_at: ColumnClause[datetime] = _column(Instant)


class CounterRow(Base):
    """A counter of jobs by status; the sum over all lanes is their number."""

    __tablename__ = "tallies"

    lane: ColumnClause[int] = _column(Integer, primary_key=True)
    status: ColumnClause[str] = _column(String(16), primary_key=True)
    jobs: ColumnClause[int] = _column(BigInteger)


class TenantRow(Base):
    """Whose jobs they are; see `fleek.domain.tenant.Tenant`."""

    __tablename__ = "tenants"

    id: ColumnClause[str] = _column(String(64), primary_key=True)
    created_at: ColumnClause[datetime] = _column(Instant)
    # a release before these two columns does not write them
    disabled_at: ColumnClause[datetime | None] = _nullable(Instant)
    limits: ColumnClause[dict[str, Any] | None] = _nullable(Document)


class ApiKeyRow(Base):
    """A key of a tenant; see `fleek.domain.api_keys.ApiKey`."""

    __tablename__ = "api_keys"

    id: ColumnClause[str] = _column(String(12), primary_key=True)
    tenant_id: ColumnClause[str] = _column(ForeignKey("tenants.id"))
    name: ColumnClause[str] = _column(String(64))
    digest: ColumnClause[bytes] = _column(LargeBinary)
    scopes: ColumnClause[list[str]] = _column(Document)
    created_at: ColumnClause[datetime] = _column(Instant)
    created_by: ColumnClause[str | None] = _nullable(String(80))
    expires_at: ColumnClause[datetime | None] = _nullable(Instant)
    revoked_at: ColumnClause[datetime | None] = _nullable(Instant)
    last_used_at: ColumnClause[datetime | None] = _nullable(Instant)


class AuditRow(Base):
    """A line of the audit log; see `fleek.domain.audit.AuditEntry`."""

    __tablename__ = "audit"

    number: ColumnClause[int] = _column(BigInteger, primary_key=True, autoincrement=False)
    at: ColumnClause[datetime] = _column(Instant)
    actor: ColumnClause[str] = _column(String(80))
    request_id: ColumnClause[str | None] = _nullable(String(128))
    tenant_id: ColumnClause[str] = _column(String(64))
    action: ColumnClause[str] = _column(String(32))
    target: ColumnClause[str] = _column(Text)
    detail: ColumnClause[dict[str, Any]] = _column(Document)
    hash: ColumnClause[bytes] = _column(LargeBinary)


class AuditHeadRow(Base):
    """The latest line of the audit log: its row is the lock under which lines are written."""

    __tablename__ = "audit_head"

    id: ColumnClause[int] = _column(Integer, primary_key=True)
    number: ColumnClause[int] = _column(BigInteger)
    hash: ColumnClause[bytes] = _column(LargeBinary)


class EndpointRow(Base):
    """Where a tenant's webhooks go; see `fleek.domain.webhooks.Endpoint`."""

    __tablename__ = "endpoints"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    url: ColumnClause[str] = _column(Text)
    events: ColumnClause[list[str]] = _column(Document)
    description: ColumnClause[str] = _column(Text)
    enabled: ColumnClause[bool] = _column(Boolean)
    disabled_reason: ColumnClause[str | None] = _nullable(String(32))
    failing_since: ColumnClause[datetime | None] = _nullable(Instant)
    # a release before this column does not write it
    last_failure_at: ColumnClause[datetime | None] = _nullable(Instant)
    created_at: ColumnClause[datetime] = _column(Instant)


class SigningSecretRow(Base):
    """A secret that webhooks are signed with: an endpoint's, or a tenant's for the URLs of jobs."""

    __tablename__ = "signing_secrets"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    owner: ColumnClause[str] = _column(String(100))
    value: ColumnClause[str] = _column(Text)  # encrypted if there is a `MASTER_KEY`
    created_at: ColumnClause[datetime] = _column(Instant)
    expires_at: ColumnClause[datetime | None] = _nullable(Instant)  # None: the latest


class DeliveryRow(Base):
    """A webhook and its state; see `fleek.domain.webhooks.Delivery`.

    It refers to no job: an event is delivered although its job has been removed meanwhile.
    """

    __tablename__ = "deliveries"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    lane: ColumnClause[UUID] = _column(Uuid)
    endpoint_id: ColumnClause[UUID | None] = _nullable(Uuid)
    url: ColumnClause[str | None] = _nullable(Text)
    job_id: ColumnClause[UUID | None] = _nullable(Uuid)
    seq: ColumnClause[int] = _column(Integer)
    type: ColumnClause[str] = _column(String(32))
    body: ColumnClause[bytes] = _column(LargeBinary)
    form: ColumnClause[str | None] = _nullable(String(16))
    created_at: ColumnClause[datetime] = _column(Instant)
    state: ColumnClause[str] = _column(String(16))
    failures: ColumnClause[int] = _column(Integer)
    attempts: ColumnClause[int] = _column(Integer)
    next_at: ColumnClause[datetime | None] = _nullable(Instant)
    last_status: ColumnClause[int | None] = _nullable(Integer)
    last_reason: ColumnClause[str | None] = _nullable(String(200))
    ended_at: ColumnClause[datetime | None] = _nullable(Instant)


class DeliveryAttemptRow(Base):
    """One attempt to deliver; see `fleek.domain.webhooks.DeliveryAttempt`."""

    __tablename__ = "delivery_attempts"

    delivery_id: ColumnClause[UUID] = _column(
        ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: ColumnClause[int] = _column("n", Integer, primary_key=True)
    at: ColumnClause[datetime] = _column(Instant)
    seconds: ColumnClause[float] = _column(Float)
    status: ColumnClause[int | None] = _nullable(Integer)
    reason: ColumnClause[str] = _column(String(200))


class ChargeRow(Base):
    """What an attempt costs; see `fleek.domain.charges.Charge`. It outlives its job."""

    __tablename__ = "charges"

    job_id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    number: ColumnClause[int] = _column(Integer, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    key_id: ColumnClause[str | None] = _nullable(String(80))
    provider: ColumnClause[str] = _column(String(100))
    model: ColumnClause[str] = _column(String(400))
    day: ColumnClause[str] = _column(String(10))
    estimate: ColumnClause[int | None] = _nullable(BigInteger)
    actual: ColumnClause[int | None] = _nullable(BigInteger)
    state: ColumnClause[str] = _column(String(16))


class BudgetRow(Base):
    """The most that may be spent in each period; see `fleek.domain.budgets.Budget`."""

    __tablename__ = "budgets"

    tenant_id: ColumnClause[str] = _column(String(64), primary_key=True)  # empty: everybody
    key_id: ColumnClause[str] = _column(String(80), primary_key=True)  # empty: all of the tenant
    period: ColumnClause[str] = _column(String(8), primary_key=True)
    limit_micros: ColumnClause[int] = _column(BigInteger)


class SpendRow(Base):
    """What is spent and reserved in one period of a budget; see `fleek.store.spend`."""

    __tablename__ = "spend"

    tenant_id: ColumnClause[str] = _column(String(64), primary_key=True)
    key_id: ColumnClause[str] = _column(String(80), primary_key=True)
    period: ColumnClause[str] = _column(String(8), primary_key=True)
    start: ColumnClause[str] = _column(String(10), primary_key=True)
    reserved: ColumnClause[int] = _column(BigInteger)
    spent: ColumnClause[int] = _column(BigInteger)


class UploadRow(Base):
    """An uploaded file; see `fleek.domain.uploads.Upload`.

    `kept_sha256` is its SHA-256 until it is being removed: the same bytes are then uploaded anew. If its id was
    reserved, it is that id, so that the upload is another than that of the same bytes.
    """

    __tablename__ = "uploads"

    id: ColumnClause[UUID] = _column(Uuid, primary_key=True)
    tenant_id: ColumnClause[str] = _column(String(64))
    key: ColumnClause[str] = _column(String(400))
    sha256: ColumnClause[str] = _column(String(64))
    kept_sha256: ColumnClause[str | None] = _nullable(String(64))
    size_bytes: ColumnClause[int] = _column(BigInteger)
    content_type: ColumnClause[str] = _column(String(100))
    width: ColumnClause[int | None] = _nullable(Integer)
    height: ColumnClause[int | None] = _nullable(Integer)
    duration_seconds: ColumnClause[float | None] = _nullable(Float)
    created_at: ColumnClause[datetime] = _column(Instant)
    expires_at: ColumnClause[datetime] = _column(Instant)
    stored: ColumnClause[bool] = _column(Boolean)

    __table_args__ = (UniqueConstraint("tenant_id", "kept_sha256"),)


class Index(NamedTuple):
    """An index on some columns of a table, of the rows that a condition holds for."""

    table: str
    name: str
    columns: tuple[str, ...]
    where: str | None
    words: bool = False  # whether it is of the words of its one column, and for PostgreSQL alone

    def is_for(self, dialect: str) -> bool:
        """Whether this kind of database has it."""
        return dialect == "postgresql" or not self.words

    def statement(self, *, concurrently: bool = False) -> str:
        """Return the statement that makes it; with `concurrently`, PostgreSQL locks no writer out."""
        way = "CONCURRENTLY IF NOT EXISTS " if concurrently else ""
        condition = "" if self.where is None else f" WHERE {self.where}"
        columns = f"({', '.join(self.columns)})"
        if self.words:
            columns = f"USING gin (to_tsvector('simple'::regconfig, {self.columns[0]}))"
        return f"CREATE INDEX {way}{self.name} ON {self.table} {columns}{condition}"


def _index(table: str, name: str, *columns: str, where: str | None = None) -> Index:
    return Index(table, name, columns, where)


INDEXES: Final = (
    _index("jobs", "ix_jobs_list", "tenant_id", "id"),
    _index("jobs", "ix_jobs_list_by_status", "tenant_id", "status", "id"),
    _index("jobs", "ix_jobs_list_by_model", "tenant_id", "model", "id"),
    _index("jobs", "ix_jobs_list_by_provider", "tenant_id", "provider", "id"),
    _index("jobs", "ix_jobs_list_by_kind", "tenant_id", "kind", "id", where=OF_A_KIND),
    _index(*("jobs", "ix_jobs_reusable", "tenant_id", "content", "completed_at"), where=REUSABLE),
    _index("jobs", "ix_jobs_list_by_batch", "tenant_id", "batch_id", "id", where=OF_A_BATCH),
    _index("jobs", "ix_jobs_members", "batch_id", "batch_index", "id", where=OF_A_BATCH),
    _index("batches", "ix_batches_list", "tenant_id", "id"),
    _index("batches", "ix_batches_age", "created_at", "id"),
    _index("jobs", "ix_jobs_created", "tenant_id", "created_at", "id"),
    Index("jobs", "ix_jobs_words", ("prompt",), None, words=True),
    _index("jobs", "ix_jobs_favourites", "tenant_id", "id", where=FAVOURITE),
    _index("job_tags", "ix_job_tags_job", "job_id"),
    _index(
        "jobs", "ix_jobs_due", "provider", "priority", "run_at", "id", where="status = 'pending'"
    ),
    _index(
        "jobs",
        "ix_jobs_due_by_tenant",
        *("tenant_id", "provider", "priority", "run_at", "id"),
        where="status = 'pending'",
    ),
    _index("jobs", "ix_jobs_routed", "provider", "run_at", "id", where=ROUTED),
    _index("jobs", "ix_jobs_held", "worker_id", where="worker_id IS NOT NULL"),
    _index(
        "jobs", "ix_jobs_uncollected", "run_at", where="stage = 'collecting' AND worker_id IS NULL"
    ),
    _index("jobs", "ix_jobs_deadline", "deadline", where=LIVE),
    _index("jobs", "ix_jobs_ended", "completed_at", "id", where=ENDED),
    _index("jobs", "ix_jobs_ended_by_tenant", "tenant_id", "completed_at", where=ENDED),
    _index("jobs", "ix_jobs_media_kept", "completed_at", "id", where=MEDIA_KEPT),
    _index("jobs", "ix_jobs_metadata_kept", "completed_at", "id", where=METADATA_KEPT),
    _index("jobs", "ix_jobs_purging", "updated_at", "id", where=PURGING),
    _index("jobs", "ix_jobs_retries", "retry_of", "id", where="retry_of IS NOT NULL"),
    _index(
        *("events", "ix_events_stream", "tenant_id", "position", "job_id", "seq"),
        where="position IS NOT NULL",
    ),
    _index("attempts", "ix_attempts_bound", "first_look_at", "id", where=BOUND),
    _index("attempts", "ix_attempts_unsettled", "submitted_at", "id", where=UNSETTLED),
    _index("attempts", "ix_attempts_owed", "submitted_at", where=OWED),
    _index("bulk_operations", "ix_bulk_open", "pages", "id", where="ended_at IS NULL"),
    _index("bulk_operations", "ix_bulk_ended", "ended_at", where="ended_at IS NOT NULL"),
    _index("idempotency_keys", "ix_idempotency_keys_age", "created_at"),
    _index("idempotency_keys", "ix_idempotency_keys_job", "job_id"),
    _index("unkeyed_requests", "ix_unkeyed_requests_digest", "digest", "created_at"),
    _index("request_rates", "ix_request_rates_full", "full_at"),
    _index("media", "ix_media_attempt", "attempt_id"),  # or removing an attempt scans
    _index("workers", "ix_workers_alive", "heartbeat_at", where="ended_at IS NULL"),
    _index("api_keys", "ix_api_keys_tenant", "tenant_id", "created_at"),
    _index("audit", "ix_audit_tenant", "tenant_id", "number"),
    _index("endpoints", "ix_endpoints_tenant", "tenant_id", "id"),
    _index("signing_secrets", "ix_signing_secrets_owner", "owner", "created_at"),
    _index("job_inputs", "ix_job_inputs_upload", "upload_id", where="upload_id IS NOT NULL"),
    _index("job_inputs", "ix_job_inputs_source", "source_id", where="source_id IS NOT NULL"),
    _index("job_inputs", "ix_job_inputs_waiting", "job_id", "number", where="waiting"),
    _index("charges", "ix_charges_usage", "tenant_id", "day"),
    _index("uploads", "ix_uploads_expiry", "expires_at", "id", where=KEPT),
    _index("uploads", "ix_uploads_being_removed", "id", where=BEING_REMOVED),
    _index("deliveries", "ix_deliveries_due", "lane", "next_at", "id", where=UNDELIVERED),
    _index("deliveries", "ix_deliveries_order", "lane", "job_id", "seq", where=UNDELIVERED),
    _index("deliveries", "ix_deliveries_list", "tenant_id", "id"),
    _index("deliveries", "ix_deliveries_failed", "tenant_id", "id", where=UNDELIVERABLE),
    _index("deliveries", "ix_deliveries_endpoint", "endpoint_id", "id"),
    _index("deliveries", "ix_deliveries_job", "job_id", "id"),
    _index("deliveries", "ix_deliveries_ended", "ended_at", "id", where="ended_at IS NOT NULL"),
)


@cache
def declared() -> MetaData:
    """Return the tables with their indexes.

    For comparisons: no statement needs them, and a condition makes SQLAlchemy load the dialects of
    both databases, and the modules of their drivers.
    """
    schema: MetaData = Base.metadata
    for index in INDEXES:
        if index.words:
            continue  # one on an expression cannot be compared
        table = schema.tables[index.table]
        partial: dict[str, Any] = {}
        if index.where is not None:
            condition = text(index.where)
            partial = {"sqlite_where": condition, "postgresql_where": condition}
        sqlalchemy.Index(index.name, *(table.c[column] for column in index.columns), **partial)
    return schema
