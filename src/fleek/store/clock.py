"""The time for all processes on one database, independent of their wall clocks.

On PostgreSQL it is the time of the server. SQLite has no clock; its processes run on one machine
and share its steady clock: a row, the anchor, maps one reading of that clock to a time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, text, update

from fleek.domain.values import dataclass
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query
from fleek.store.tables import ENDED, LIVE, ClockRow, JobRow, WorkerRow
from fleek.system_clock import Steady

SAME: Final = timedelta(seconds=2)  # two processes that measure one leap differ by less
ONE_WRITER: Final = text("LOCK TABLE clock IN SHARE ROW EXCLUSIVE MODE")
KEPT: Final = timedelta(days=30)  # at least: files without a job are younger
OLDEST_LIVE: Final = select(func.min(JobRow.created_at)).where(text(LIVE))
OLDEST_END: Final = (
    select(JobRow.completed_at)
    .where(text(ENDED))
    .order_by(JobRow.completed_at, JobRow.id)
    .limit(1)
)
LATEST: Final = Query[Any](
    select(ClockRow.at, ClockRow.steady, ClockRow.boot).order_by(ClockRow.id.desc()).limit(1)
)
LEAPS: Final = Query[Any](
    select(ClockRow.id, ClockRow.at, ClockRow.skipped_seconds)
    .where(ClockRow.skipped_seconds > 0)
    .order_by(ClockRow.at.desc())
)
NEWEST: Final = select(func.max(ClockRow.id)).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Reading:
    """The time at a reading of the steady clock."""

    at: datetime
    steady: float
    uncertain: float = 0.0  # by how many seconds it may be wrong

    def later(self, steady: float) -> datetime:
        """Return the time at another reading of the same steady clock."""
        return self.at + timedelta(seconds=steady - self.steady)


@dataclass(frozen=True, slots=True)
class Leap:
    """Once the time went ahead by more than had passed."""

    at: datetime  # right after it
    skipped: timedelta


async def ask_postgres(db: Database, steady: Steady) -> Reading:
    """Return PostgreSQL's time, exact to half of the time that the question takes.

    Raises:
        DatabaseUnavailable: It cannot be asked.
    """
    async with db.read() as tx:  # takes a connection; only then is it a question of time
        asked = steady()
        server_time = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        took = steady() - asked
    return Reading(server_time, asked + took / 2, uncertain=took / 2)


async def anchor(db: Database, boot: str) -> Reading | None:
    """Return SQLite's anchor, or None if there is none since the machine has started."""
    async with db.read(short=True) as tx:
        return await _anchor(tx, boot)


async def drop_anchor(
    db: Database, boot: str, *, wall: Callable[[], datetime], steady: Steady
) -> Reading:
    """Return SQLite's anchor, made from the wall clock if there is none for this boot.

    Time does not go back over a restart of the machine: it begins no earlier than the last
    heartbeat that was written.
    """
    async with db.write() as tx:
        found = await _anchor(tx, boot)
        if found is None:
            last = await tx.scalar(select(func.max(WorkerRow.heartbeat_at)))
            at = wall() if last is None else max(wall(), last)
            found = Reading(at, steady())
            await _insert(tx, found, boot=boot, skipped=timedelta(0))
    return found


async def move_anchor(
    db: Database, boot: str, *, by: timedelta, leaps: bool, steady: float
) -> None:
    """Move SQLite's time; if it `leaps` ahead, that is remembered, as of this steady reading."""
    async with db.write() as tx:
        found = await _anchor(tx, boot)
        if found is None:
            return
        if leaps:
            leapt = Reading(found.later(steady) + by, steady)
            await _insert(tx, leapt, boot=boot, skipped=max(by, timedelta(0)))
            if by < timedelta(0):
                await _take_back(tx, leapt.at, by=-by)
            await _forget(tx, now=leapt.at)
            return
        await tx.execute(update(ClockRow).where(ClockRow.id == NEWEST).values(at=found.at + by))


async def restarted(db: Database, boot: str) -> bool:
    """Whether this database was used before the machine's last start."""
    async with db.read() as tx:
        return (
            await tx.scalar(select(ClockRow.id).where(ClockRow.boot != boot).limit(1)) is not None
        )


async def note_step(db: Database, now: datetime, *, by: timedelta, since: datetime) -> None:
    """Remember that PostgreSQL's time has stepped, unless other processes have done so.

    `since`: what time it was when this process last asked. Processes notice a step each at its own
    next heartbeat, or all at once when a server is back: what one has noted since then is known.
    """
    async with db.write() as tx:
        await tx.execute(ONE_WRITER)
        if by < timedelta(0):
            await _take_back(tx, now, by=-by)
            return
        known = (leap.skipped for _, leap in await _leaps(tx) if leap.at > since)
        rest = by - sum(known, timedelta(0))
        if rest > SAME:
            values = {"at": now, "skipped_seconds": rest.total_seconds()}
            await tx.execute(insert(ClockRow).values(values))
            await _forget(tx, now=now)


async def leaps(db: Database) -> tuple[Leap, ...]:
    """Return all leaps, the latest first."""
    async with db.read(short=True) as tx:
        return tuple(leap for _, leap in await _leaps(tx))


async def _leaps(tx: Transaction) -> list[tuple[int, Leap]]:
    return [
        (key, Leap(at, timedelta(seconds=skipped))) for key, at, skipped in await LEAPS.rows(tx)
    ]


async def _forget(tx: Transaction, *, now: datetime) -> None:
    """Remove leaps that are older than a month and than all that is measured of any job.

    A live job is measured from its creation on, one that has ended from its end.
    """
    moments = (now - KEPT, await tx.scalar(OLDEST_LIVE), await tx.scalar(OLDEST_END))
    oldest = min(moment for moment in moments if moment is not None)
    await tx.execute(delete(ClockRow).where(ClockRow.at < oldest, ClockRow.id < NEWEST))


async def _take_back(tx: Transaction, now: datetime, *, by: timedelta) -> None:
    """Let leaps that lie ahead of `now` skip less: time has gone back behind them.

    Else whatever begins before their time comes again would seem to have skipped it.
    """
    for key, leap in await _leaps(tx):
        if leap.at <= now:
            return
        undone = min(by, leap.skipped)
        by -= undone
        left = (leap.skipped - undone).total_seconds()
        row = update(ClockRow).where(ClockRow.id == key)
        await tx.execute(row.values(at=now, skipped_seconds=left))


async def _anchor(tx: Transaction, boot: str) -> Reading | None:
    for at, steady, of_boot in await LATEST.rows(tx):
        if of_boot == boot and steady is not None:
            return Reading(at, steady)
    return None


async def _insert(tx: Transaction, found: Reading, *, boot: str, skipped: timedelta) -> None:
    await tx.execute(
        insert(ClockRow).values(
            at=found.at, steady=found.steady, boot=boot, skipped_seconds=skipped.total_seconds()
        )
    )
