"""Repeated requests: the job of an earlier request, by its key or by its content.

A request claims its key in the transaction that accepts its job. Of several with one key, whichever
transaction, process or batch they are in, one makes a job and the others find it. A refused request
leaves nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    LargeBinary,
    String,
    Uuid,
    bindparam,
    delete,
    insert,
    select,
    text,
)

from fleek.domain.errors import FleekError, IdempotencyKeyReused
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import Job, JobId
from fleek.domain.values import dataclass
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query, Write
from fleek.store.tables import IdempotencyKeyRow, Instant, JobRow, UnkeyedRequestRow

LOCKS: Final = 1024  # few enough for PostgreSQL's lock table; two digests may share one
LOCK_SPACE: Final = 0x666C6B  # ours, among the advisory locks of the database
EXPIRED_PAGE: Final = 1000  # rows

CLAIM_KEYS: Final = Write(
    text(
        "INSERT INTO idempotency_keys (tenant_id, key, digest, job_id, created, created_at)"
        " VALUES (:tenant_id, :key, :digest, :job_id, :created, :created_at)"
        " ON CONFLICT (tenant_id, key) DO NOTHING"
    ).bindparams(
        bindparam("tenant_id", type_=String),
        bindparam("key", type_=String),
        bindparam("digest", type_=LargeBinary),
        bindparam("job_id", type_=Uuid),
        bindparam("created", type_=Boolean),
        bindparam("created_at", type_=Instant),
    )
)
SELECT_KEYS: Final = Query[Any](
    select(
        *(IdempotencyKeyRow.tenant_id, IdempotencyKeyRow.key, IdempotencyKeyRow.digest),
        *(IdempotencyKeyRow.job_id, IdempotencyKeyRow.created),
    ).where(
        IdempotencyKeyRow.tenant_id.in_(bindparam("tenants", expanding=True)),
        IdempotencyKeyRow.key.in_(bindparam("keys", expanding=True)),
    )
)
INSERT_UNKEYED: Final = Write(
    insert(UnkeyedRequestRow), columns=("job_id", "digest", "created_at")
)
SELECT_UNKEYED: Final = Query[Any](
    select(UnkeyedRequestRow.digest, UnkeyedRequestRow.job_id, UnkeyedRequestRow.created_at)
    .join(JobRow, JobRow.id == UnkeyedRequestRow.job_id)
    .where(
        UnkeyedRequestRow.digest.in_(bindparam("digests", expanding=True)),
        UnkeyedRequestRow.created_at > bindparam("since"),
    )
    .order_by(UnkeyedRequestRow.created_at)
)
LOCK_DIGESTS: Final = Query[Any](
    text(
        f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, number)"  # noqa: S608 - a constant
        " FROM unnest(CAST(:numbers AS integer[])) AS number"
    )
)

Key = tuple[str, str]
"""A tenant and its key."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is about to be accepted."""

    identity: RequestIdentity
    job_id: JobId  # that it creates or, if it retries a job, finds
    created: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Earlier:
    """The outcome of the request that this one repeats."""

    job_id: JobId
    created: bool  # whether that request created the job, or found it


def claim_order(identity: RequestIdentity) -> tuple[int, str, str]:
    """Return what transactions with several claims sort by, so that two never wait in a ring."""
    if identity.key is None:
        return _lock_number(identity), "", ""
    return LOCKS, identity.tenant_id, identity.key


async def claim(tx: Transaction, claims: Sequence[Claim]) -> list[Earlier | FleekError | None]:
    """Claim keys and record contents; returns for each request what it repeats, None if nothing.

    Instead of a result, a request gets `IdempotencyKeyReused` if its key is that of another one.
    """
    unkeyed = await _claim_contents(tx, [each for each in claims if each.identity.key is None])
    keyed = await _claim_keys(tx, [each for each in claims if each.identity.key is not None])
    results = {**unkeyed, **keyed}
    return [results[id(each)] for each in claims]


async def release(tx: Transaction, jobs: Sequence[Job]) -> None:
    """Undo the claims for jobs that are not accepted after all, in the transaction of the claims."""
    job_ids = rows.padded([job.id for job in jobs])
    times = rows.padded([job.created_at for job in jobs])
    await tx.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.job_id.in_(job_ids)))
    await tx.execute(
        delete(UnkeyedRequestRow).where(
            UnkeyedRequestRow.created_at.in_(times), UnkeyedRequestRow.job_id.in_(job_ids)
        )
    )


async def find(db: Database, identity: RequestIdentity, *, now: datetime) -> Earlier | None:
    """Return what a request repeats, before it is checked; None if nothing.

    Raises:
        IdempotencyKeyReused: Its key is that of another request.
    """
    if identity.key is None and not identity.window:
        return None
    return await db.grouped_read(_find_all, (identity, now), short=True)


async def remove_expired(db: Database, *, keys_before: datetime, unkeyed_before: datetime) -> int:
    """Forget requests that were accepted before then; returns how many, a page of each at most."""
    keys = await _remove(db, IdempotencyKeyRow, before=keys_before)
    return keys + await _remove(db, UnkeyedRequestRow, before=unkeyed_before)


async def _remove(
    db: Database, table: type[IdempotencyKeyRow | UnkeyedRequestRow], *, before: datetime
) -> int:
    page = (
        select(table.created_at)
        .where(table.created_at < before)
        .order_by(table.created_at)
        .limit(EXPIRED_PAGE)
    )
    async with db.read() as tx:
        expired = (await tx.scalars(page)).all()
    if expired:
        async with db.write() as tx:
            await tx.execute(delete(table).where(table.created_at <= expired[-1]))
    return len(expired)


async def _claim_keys(
    tx: Transaction, claims: Sequence[Claim]
) -> Mapping[int, Earlier | FleekError | None]:
    first: dict[Key, Claim] = {}
    for each in claims:
        first.setdefault(_key(each.identity), each)
    if not first:
        return {}
    await CLAIM_KEYS.run(tx, [_key_values(first[key]) for key in sorted(first)])
    stored = await _stored_keys(tx, list(first))
    results: dict[int, Earlier | FleekError | None] = {}
    for each in claims:
        earlier = _repeated(stored[_key(each.identity)], each.identity)
        is_first = isinstance(earlier, Earlier) and earlier.job_id == each.job_id
        results[id(each)] = None if is_first else earlier
    return results


async def _claim_contents(
    tx: Transaction, claims: Sequence[Claim]
) -> Mapping[int, Earlier | FleekError | None]:
    await _lock_contents(tx, [each.identity for each in claims])
    latest = await _latest(tx, [(each.identity, each.at) for each in claims])
    results: dict[int, Earlier | FleekError | None] = {}
    new: list[Claim] = []
    for each in claims:
        digest, window = each.identity.digest, each.identity.window
        found = latest.get(digest)
        if window and found is not None and found[1] > each.at - window:
            results[id(each)] = Earlier(found[0], created=True)
            continue
        results[id(each)] = None
        if each.created:
            new.append(each)
            latest[digest] = (each.job_id, each.at)
    await INSERT_UNKEYED.run(tx, [_unkeyed_values(each) for each in new])
    return results


async def _find_all(
    tx: Transaction, wanted: Sequence[tuple[RequestIdentity, datetime]]
) -> list[Earlier | FleekError | None]:
    keys = {_key(identity) for identity, _ in wanted if identity.key is not None}
    stored = await _stored_keys(tx, list(keys)) if keys else {}
    latest = await _latest(tx, [each for each in wanted if each[0].key is None])
    results: list[Earlier | FleekError | None] = []
    for identity, now in wanted:
        if identity.key is not None:
            row = stored.get(_key(identity))
            results.append(None if row is None else _repeated(row, identity))
            continue
        found = latest.get(identity.digest)
        is_repeated = found is not None and found[1] > now - identity.window
        results.append(Earlier(found[0], created=True) if found and is_repeated else None)
    return results


async def _stored_keys(tx: Transaction, keys: Sequence[Key]) -> dict[Key, tuple[bytes, Earlier]]:
    tenants = rows.padded(sorted({tenant for tenant, _ in keys}))
    names = rows.padded(sorted({key for _, key in keys}))
    return {
        (tenant_id, key): (digest, Earlier(JobId(job_id), created))
        for tenant_id, key, digest, job_id, created in await SELECT_KEYS.rows(
            tx, tenants=tenants, keys=names
        )
    }


def _repeated(stored: tuple[bytes, Earlier], identity: RequestIdentity) -> Earlier | FleekError:
    digest, earlier = stored
    if digest != identity.digest:
        return IdempotencyKeyReused(
            "this Idempotency-Key was sent with another request before: use a new key for a new "
            "request"
        )
    return earlier


async def _latest(
    tx: Transaction, wanted: Sequence[tuple[RequestIdentity, datetime]]
) -> dict[bytes, tuple[JobId, datetime]]:
    """Return the latest job of each digest that may be repeated."""
    looking = [(identity, at - identity.window) for identity, at in wanted if identity.window]
    if not looking:
        return {}
    digests = rows.padded(sorted({identity.digest for identity, _ in looking}))
    since = min(begin for _, begin in looking)
    found = await SELECT_UNKEYED.rows(tx, digests=digests, since=since)
    return {digest: (JobId(job_id), at) for digest, job_id, at in found}


async def _lock_contents(tx: Transaction, identities: Sequence[RequestIdentity]) -> None:
    """Wait for transactions with the same contents; SQLite has one writer anyway."""
    if tx.dialect.name != "postgresql":
        return
    waiting = {_lock_number(each) for each in identities if each.ordered or each.window}
    if waiting:
        await LOCK_DIGESTS.rows(tx, numbers=sorted(waiting))


def _lock_number(identity: RequestIdentity) -> int:
    return int.from_bytes(identity.digest[:4]) % LOCKS


def _key(identity: RequestIdentity) -> Key:
    assert identity.key is not None
    return identity.tenant_id, identity.key


def _key_values(each: Claim) -> rows.Values:
    return {
        "tenant_id": each.identity.tenant_id,
        "key": each.identity.key,
        "digest": each.identity.digest,
        "job_id": each.job_id,
        "created": each.created,
        "created_at": each.at,
    }


def _unkeyed_values(each: Claim) -> rows.Values:
    return {"job_id": each.job_id, "digest": each.identity.digest, "created_at": each.at}
