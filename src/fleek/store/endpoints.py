"""Webhook endpoints of tenants, and the secrets that webhooks are signed with."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import bindparam, delete, func, insert, or_, select, text, update
from uuid_utils.compat import uuid4

from fleek.domain.audit import AuditEntry
from fleek.domain.errors import Conflict, NotFound
from fleek.domain.webhooks import MAX_ENDPOINTS, ROTATION, Endpoint, EndpointId
from fleek.store import rows
from fleek.store.audit import record
from fleek.store.database import Database, Transaction
from fleek.store.tables import EndpointRow, SigningSecretRow

ENDPOINT: Final = rows.Mapper(Endpoint, fixed={"id", "tenant_id", "created_at"})
LOCK_ENDPOINT: Final = (
    select(EndpointRow.__table__).where(EndpointRow.id == bindparam("_id")).with_for_update()
)
LOCK_OWNER: Final = text("SELECT pg_advisory_xact_lock(hashtext(:owner))")
FIRST: Final = UUID("0b0c6a0e-31a0-4c3a-8c0c-6d3f9b1f7a55")  # namespace of first secrets
SELECT_SECRETS: Final = (
    select(SigningSecretRow.owner, SigningSecretRow.value)
    .where(
        SigningSecretRow.owner.in_(bindparam("owners", expanding=True)),
        or_(SigningSecretRow.expires_at.is_(None), SigningSecretRow.expires_at > bindparam("now")),
    )
    .order_by(SigningSecretRow.created_at.desc())
)


def owner_of(*, tenant_id: str, endpoint_id: EndpointId | None = None) -> str:
    """Return whose secret signs: an endpoint's, or the tenant's for the URLs of jobs."""
    return f"tenant:{tenant_id}" if endpoint_id is None else f"endpoint:{endpoint_id}"


async def secrets(db: Database, owner: str, *, now: datetime) -> list[str]:
    """Return the stored secrets that sign now, the latest first."""
    async with db.read() as tx:
        found = await tx.execute(SELECT_SECRETS, {"owners": [owner], "now": now})
        return [row.value for row in found]


async def first_secret(db: Database, owner: str, value: str, *, now: datetime) -> None:
    """Store an owner's first secret, unless another caller has done so."""
    values = {
        "id": uuid5(FIRST, owner),
        "owner": owner,
        "value": value,
        "created_at": now,
        "expires_at": None,
    }
    async with db.write() as tx:
        await tx.execute(rows.insert_absent(db.kind, SigningSecretRow), values)


async def rotate(
    db: Database, owner: str, value: str, *, now: datetime, audit: AuditEntry | None = None
) -> None:
    """Make this the secret of an owner; the previous one signs beside it for a day."""
    of_owner = SigningSecretRow.owner == owner
    live = SigningSecretRow.expires_at.is_(None)
    async with db.write() as tx:
        await _lock(tx, owner)
        await tx.execute(delete(SigningSecretRow).where(of_owner, ~live))
        previous = update(SigningSecretRow).where(of_owner, live)
        await tx.execute(previous.values(expires_at=now + ROTATION))
        await _insert_secret(tx, owner, value, now=now)
        await record(tx, audit)


async def _lock(tx: Transaction, owner: str) -> None:
    """Let another transaction of this owner end first; SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        await tx.execute(LOCK_OWNER, {"owner": owner})


async def _insert_secret(tx: Transaction, owner: str, value: str, *, now: datetime) -> None:
    await tx.execute(
        insert(SigningSecretRow).values(
            id=uuid4(), owner=owner, value=value, created_at=now, expires_at=None
        )
    )


async def all_secrets(db: Database, *, limit: int) -> list[tuple[str, str]]:
    """Return stored secrets with their owners, the latest first, however old they are."""
    columns = (SigningSecretRow.owner, SigningSecretRow.value)
    statement = select(*columns).order_by(SigningSecretRow.created_at.desc()).limit(limit)
    async with db.read() as tx:
        return [(row.owner, row.value) for row in await tx.execute(statement)]


async def insert_endpoint(
    db: Database, endpoint: Endpoint, secret: str, *, audit: AuditEntry | None = None
) -> None:
    """Store a new endpoint and its secret.

    Raises:
        Conflict: The tenant has as many as it may.
    """
    number = select(func.count()).where(EndpointRow.tenant_id == endpoint.tenant_id)
    async with db.write() as tx:
        await _lock(tx, owner_of(tenant_id=endpoint.tenant_id))
        if int(await tx.scalar(number) or 0) >= MAX_ENDPOINTS:
            raise Conflict(
                f"there may be at most {MAX_ENDPOINTS} endpoints: delete one",
                code="too_many_endpoints",
            )
        await tx.execute(insert(EndpointRow).values(ENDPOINT.values(endpoint)))
        owner = owner_of(tenant_id=endpoint.tenant_id, endpoint_id=endpoint.id)
        await _insert_secret(tx, owner, secret, now=endpoint.created_at)
        await record(tx, audit)


async def list_endpoints(db: Database, *, tenant_id: str) -> list[Endpoint]:
    """Return all endpoints of a tenant, oldest first."""
    statement = (
        select(EndpointRow.__table__)
        .where(EndpointRow.tenant_id == tenant_id)
        .order_by(EndpointRow.id)
    )
    async with db.read() as tx:
        return [ENDPOINT.read(row) for row in (await tx.execute(statement)).mappings()]


async def get_endpoint(
    db: Database, endpoint_id: EndpointId, *, tenant_id: str | None = None
) -> Endpoint:
    """Return an endpoint; with `tenant_id`, only of that tenant.

    Raises:
        NotFound: There is none.
    """
    async with db.read() as tx:
        row = (await tx.execute(_endpoint(endpoint_id, tenant_id))).mappings().first()
    if row is None:
        raise NotFound("there is no such endpoint")
    return ENDPOINT.read(row)


def _endpoint(endpoint_id: EndpointId, tenant_id: str | None) -> Any:
    statement = select(EndpointRow.__table__).where(EndpointRow.id == endpoint_id)
    return statement if tenant_id is None else statement.where(EndpointRow.tenant_id == tenant_id)


async def change_endpoint(
    db: Database,
    endpoint_id: EndpointId,
    *,
    tenant_id: str,
    changes: Mapping[str, Any],
    audit: AuditEntry | None = None,
) -> Endpoint:
    """Change fields of an endpoint; enabling it, or another URL, forgets its failures.

    Raises:
        NotFound: There is none.
    """
    async with db.write() as tx:
        statement = _endpoint(endpoint_id, tenant_id).with_for_update()
        row = (await tx.execute(statement)).mappings().first()
        if row is None:
            raise NotFound("there is no such endpoint")
        endpoint = replace(ENDPOINT.read(row), **changes)
        if "enabled" in changes or "url" in changes:
            endpoint = replace(endpoint, failing_since=None, last_failure_at=None)
        if "enabled" in changes:
            endpoint = replace(endpoint, disabled_reason=None)
        changed = update(EndpointRow).where(EndpointRow.id == endpoint_id)
        await tx.execute(changed.values(ENDPOINT.changes(endpoint)))
        await record(tx, audit)
    return endpoint


async def delete_endpoint(
    db: Database, endpoint_id: EndpointId, *, tenant_id: str, audit: AuditEntry | None = None
) -> None:
    """Delete an endpoint and its secrets. What is pending for it is given up.

    Raises:
        NotFound: There is none.
    """
    gone = delete(EndpointRow).where(
        EndpointRow.id == endpoint_id, EndpointRow.tenant_id == tenant_id
    )
    owner = owner_of(tenant_id=tenant_id, endpoint_id=endpoint_id)
    async with db.write() as tx:
        if not (await tx.execute(gone)).rowcount:
            raise NotFound("there is no such endpoint")
        await tx.execute(delete(SigningSecretRow).where(SigningSecretRow.owner == owner))
        await record(tx, audit)
