"""The audit log: each line is written in the transaction of its action, and none is changed.

Lines are a chain: each has a SHA-256 over its content and the hash of the line before it. So a line that
was changed, removed or inserted later is found, unless all later lines were made anew, too.
"""

from datetime import UTC
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, select, text, update

from fleek import strict
from fleek.domain.audit import AuditEntry
from fleek.store.database import Database, Transaction
from fleek.store.rows import Mapper
from fleek.store.tables import AuditHeadRow, AuditRow

ENTRY: Final = Mapper(AuditEntry)
ENTRIES: Final = AuditRow.__table__
ONE: Final = 1  # the id of the head's only row
PAGE: Final = 1000
LOCK_HEAD: Final = (
    select(AuditHeadRow.number, AuditHeadRow.hash).where(AuditHeadRow.id == ONE).with_for_update()
)

INSERT_HEAD: Final = text(
    "INSERT INTO audit_head (id, number, hash) VALUES (:id, :number, :hash)"
    " ON CONFLICT (id) DO NOTHING"
)
HEAD_NUMBER: Final = select(AuditHeadRow.number).where(AuditHeadRow.id == ONE)


class Numbered(NamedTuple):
    """A line with its number, from 1."""

    number: int
    entry: AuditEntry


async def record(tx: Transaction, *given: AuditEntry | None) -> None:
    """Write lines in the transaction of their actions: last, as it holds up other transactions."""
    entries = [entry for entry in given if entry is not None]
    if not entries:
        return
    number, last = await _locked_head(tx)
    lines = []
    for entry in entries:
        number, last = number + 1, _hash(number + 1, last, entry)
        lines.append({**ENTRY.values(entry), "number": number, "hash": last})
    await tx.execute(insert(AuditRow), lines)
    head = update(AuditHeadRow).where(AuditHeadRow.id == ONE)
    await tx.execute(head.values(number=number, hash=last))


async def write(db: Database, *entries: AuditEntry) -> None:
    """Write lines about what changes nothing else in the database."""
    async with db.write() as tx:
        await record(tx, *entries)


async def _locked_head(tx: Transaction) -> tuple[int, bytes]:
    """Return the number and the hash of the latest line; other transactions wait from now on."""
    head = (await tx.execute(LOCK_HEAD)).one_or_none()
    if head is None:  # before the first line
        await tx.execute(INSERT_HEAD, {"id": ONE, "number": 0, "hash": bytes(32)})
        head = (await tx.execute(LOCK_HEAD)).one()
    return head.number, head.hash


def _hash(number: int, before: bytes, entry: AuditEntry) -> bytes:
    content = {
        "number": number,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "request_id": entry.request_id,
        "tenant_id": entry.tenant_id,
        "action": str(entry.action),
        "target": entry.target,
        "detail": dict(entry.detail),
    }
    return sha256(before + strict.canonical(content)).digest()


async def latest(db: Database, *, limit: int, tenant_id: str | None = None) -> list[Numbered]:
    """Return the latest lines, newest first; with `tenant_id`, of that tenant."""
    statement = select(ENTRIES).order_by(AuditRow.number.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(AuditRow.tenant_id == tenant_id)
    async with db.read() as tx:
        return [_read(row) for row in (await tx.execute(statement)).mappings()]


class Verification(NamedTuple):
    """The result of a check of the chain."""

    lines: int  # that are right, from the first on
    broken: int | None  # the number of the first line that is wrong or missing


async def verify(db: Database) -> Verification:
    """Check every line."""
    number, last = 0, bytes(32)
    while True:
        statement = select(ENTRIES).where(AuditRow.number > number).order_by(AuditRow.number)
        async with db.read() as tx:
            head = await tx.scalar(HEAD_NUMBER)
            rows = (await tx.execute(statement.limit(PAGE))).mappings().all()
        for row in rows:
            line = _read(row)
            expected = _hash(number + 1, last, line.entry)
            if line.number != number + 1 or row["hash"] != expected:
                return Verification(number, number + 1)
            number, last = line.number, expected
        if not rows:
            return Verification(number, number + 1 if (head or 0) > number else None)


def _read(row: Any) -> Numbered:
    return Numbered(row["number"], ENTRY.read(row))
