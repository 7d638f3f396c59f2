"""API keys and the tenants that they belong to."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, func, insert, literal, or_, select, text, update

from fleek.domain.access import Scope
from fleek.domain.api_keys import ApiKey, KeyId
from fleek.domain.audit import AuditEntry
from fleek.domain.errors import Conflict, FleekError, NotFound
from fleek.store import rows
from fleek.store.audit import record
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query
from fleek.store.tables import ApiKeyRow, Instant

MOST_KEYS: Final = 1000  # of a tenant, without revoked ones
LISTED: Final = 1000
ALL_SCOPES: Final = frozenset(Scope)
USE_PRECISION: Final = timedelta(minutes=1)

KEY: Final = rows.Mapper(ApiKey)
KEYS: Final = ApiKeyRow.__table__
SELECT_KEYS: Final = Query[Any](
    select(KEYS).where(ApiKeyRow.id.in_(bindparam("ids", expanding=True)))
)
ANY_KEY: Final = Query[Any](select(select(literal(1)).select_from(ApiKeyRow).exists()))
INSERT_TENANT: Final = text(
    "INSERT INTO tenants (id, created_at) VALUES (:id, :at) ON CONFLICT (id) DO NOTHING"
).bindparams(bindparam("at", type_=Instant()))


class StoredKey(NamedTuple):
    """A key, and the digest of what its owner has."""

    key: ApiKey
    digest: bytes


async def insert_key(
    db: Database, key: ApiKey, digest: bytes, *, audit: AuditEntry | None = None
) -> None:
    """Store a new key; its tenant is created if it is new.

    Raises:
        Conflict: The tenant has as many keys as it may.
    """
    number = select(func.count()).where(
        ApiKeyRow.tenant_id == key.tenant_id, ApiKeyRow.revoked_at.is_(None)
    )
    async with db.write() as tx:
        await tx.execute(INSERT_TENANT, {"id": key.tenant_id, "at": key.created_at})
        if int(await tx.scalar(number) or 0) >= MOST_KEYS:
            raise Conflict(
                f"a tenant may have at most {MOST_KEYS} keys: revoke one", code="too_many_keys"
            )
        await tx.execute(insert(ApiKeyRow).values({**KEY.values(key), "digest": digest}))
        await record(tx, audit)


async def find(db: Database, key_id: KeyId) -> StoredKey | None:
    """Return a key, valid or not; concurrent callers share a read."""
    return await db.grouped_read(_find_all, key_id, short=True)


async def _find_all(
    tx: Transaction, key_ids: Sequence[KeyId]
) -> list[StoredKey | FleekError | None]:
    found = await SELECT_KEYS.dicts(tx, ids=rows.padded(sorted(set(key_ids))))
    keys = {row["id"]: StoredKey(_read(row), row["digest"]) for row in found}
    return [keys.get(key_id) for key_id in key_ids]


async def exist(db: Database) -> bool:
    """Whether a key was ever created; concurrent callers share a read."""
    return await db.grouped_read(_exist, None, short=True)


async def _exist(tx: Transaction, callers: Sequence[None]) -> list[bool | FleekError]:
    return [bool(await ANY_KEY.scalar(tx))] * len(callers)


async def list_keys(db: Database, *, tenant_id: str | None = None) -> list[ApiKey]:
    """Return the latest keys, newest first, revoked ones included; with `tenant_id`, of that tenant."""
    newest = (ApiKeyRow.created_at.desc(), ApiKeyRow.id)
    statement = select(KEYS).order_by(*newest).limit(LISTED)
    if tenant_id is not None:
        statement = statement.where(ApiKeyRow.tenant_id == tenant_id)
    async with db.read() as tx:
        return [_read(row) for row in (await tx.execute(statement)).mappings()]


async def revoke(
    db: Database,
    key_id: KeyId,
    *,
    now: datetime,
    audit: Callable[[ApiKey], AuditEntry] | None = None,
) -> ApiKey:
    """Make a key invalid for good; one that was revoked before stays as it is.

    `audit` returns the line about it.

    Raises:
        NotFound: There is none.
    """
    async with db.write() as tx:
        statement = select(KEYS).where(ApiKeyRow.id == key_id).with_for_update()
        row = (await tx.execute(statement)).mappings().first()
        if row is None:
            raise NotFound("there is no such key")
        key = _read(row)
        if key.revoked_at is not None:
            return key
        await tx.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(revoked_at=now))
        await record(tx, None if audit is None else audit(key))
    return _read({**row, "revoked_at": now})


async def note_use(db: Database, key_id: KeyId, *, now: datetime) -> None:
    """Store when a key was used, unless that was stored within the last minute."""
    stale = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at <= now - USE_PRECISION)
    async with db.write() as tx:
        await tx.execute(
            update(ApiKeyRow).where(ApiKeyRow.id == key_id, stale).values(last_used_at=now)
        )


def _read(row: Any) -> ApiKey:
    known = [scope for scope in row["scopes"] if scope in ALL_SCOPES]  # a later release has others
    return KEY.read({**row, "scopes": known})
