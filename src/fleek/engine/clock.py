"""What time it is, for all processes on one database alike, whatever their wall clocks show.

Between two heartbeats time goes on by the machine's steady clock, so no step of a wall clock
changes anything in between. With each heartbeat it follows the database's time: small differences
in silence, a large one, a step, with a line in the log.

A step tells nothing of how much time has passed. One ahead is remembered as a leap, and `back`
leaves leaps out: what ends after an hour ends when an hour has been lived through.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from fleek.store import clock as stored
from fleek.store.clock import Leap, Reading
from fleek.store.database import Database
from fleek.system_clock import Steady, steady_seconds, wall_time

STEP: Final = timedelta(seconds=2)  # clocks that differ by less are the same
NUDGE: Final = timedelta(seconds=0.1)  # at each heartbeat, towards the system's clock
STANDS_SECONDS: Final = 60.0  # a larger difference to it is believed after that
SETTLES_SECONDS: Final = 120.0  # after a restart the machine's clock may have to be put right

log = structlog.get_logger(__name__)


def boot_id() -> str | None:
    """Return what names this start of the machine and its steady clock; None: nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/time").readlink()
    except OSError:
        return None
    return f"{boot} {space}"


class Clock:
    """The time. The sources are arguments for tests."""

    def __init__(
        self,
        db: Database,
        *,
        wall: Callable[[], datetime] = wall_time,
        steady: Steady = steady_seconds,
        boot: str | None = None,
    ) -> None:
        self._db = db
        self._wall = wall
        self._steady = steady
        self._boot = boot or boot_id()
        self._reading = Reading(wall(), steady())
        self._asked_at: datetime | None = None  # as the database told then
        self._differs: tuple[float, timedelta] | None = None  # since when, from the system's clock
        self._settled_at = float("-inf")
        self.leaps: tuple[Leap, ...] = ()
        self.steps = 0  # how many were noticed

    def __call__(self) -> datetime:
        """Return the time, aware, in UTC."""
        return self._reading.later(self._steady())

    @property
    def ahead(self) -> timedelta:
        """By how much this process's wall clock differs from the time; ahead if positive."""
        return self._wall() - self()

    @property
    def settled(self) -> bool:
        """Whether time may end anything: not just after the machine has been restarted."""
        return self._steady() >= self._settled_at

    def back(self, now: datetime, age: timedelta) -> datetime:
        """Return the moment that is so long ago; what was skipped does not count as time."""
        moment = now - age
        for leap in self.leaps:  # the latest first
            if leap.at <= moment:
                break
            moment -= leap.skipped
        return moment

    def lived(self, since: datetime, now: datetime) -> timedelta:
        """Return how much time has passed since then; what was skipped does not count."""
        skipped = (leap.skipped for leap in self.leaps if since < leap.at)
        return max(now - since - sum(skipped, timedelta(0)), timedelta(0))

    async def set(self) -> None:
        """Follow the database's time.

        Raises:
            DatabaseUnavailable: It cannot be asked; time goes on by the steady clock.
        """
        reading, asked_at = await self._ask(), self._asked_at
        error = reading.at - self._reading.later(reading.steady)
        known = asked_at is not None and abs(error).total_seconds() <= reading.uncertain
        if asked_at is not None and not known and abs(error) > STEP:
            await self._stepped(reading, error, since=asked_at)
        if not known:
            self._reading = reading
        self._asked_at = reading.at
        self.leaps = await stored.leaps(self._db)  # others may have seen one before we began

    async def steer(self) -> None:
        """Bring SQLite's time, which nobody else tells, towards this machine's clock.

        Only the coordinator does, so that two processes never pull in two directions.
        """
        if self._db.kind != "sqlite" or self._boot is None:
            return
        ahead = self.ahead
        if abs(ahead) <= STEP:
            self._differs = None
            if abs(ahead) < NUDGE:
                return
            move = min(max(ahead, -NUDGE), NUDGE)
        elif self._stands(ahead):
            move = ahead
        else:
            return
        await stored.move_anchor(
            self._db, self._boot, by=move, leaps=abs(move) > STEP, steady=self._steady()
        )
        await self.set()

    def _stands(self, ahead: timedelta) -> bool:
        """Whether the system's clock has differed by as much for long enough to be believed."""
        now = self._steady()
        if self._differs is None or abs(ahead - self._differs[1]) > STEP:
            self._differs = now, ahead
        return now - self._differs[0] >= STANDS_SECONDS

    async def _ask(self) -> Reading:
        if self._db.kind != "sqlite":
            return await stored.ask_postgres(self._db, self._steady)
        if self._boot is None:  # no way to share the steady clock: each goes by the system's
            return Reading(self._wall(), self._steady())
        found = await stored.anchor(self._db, self._boot)
        if found is None:
            found = await stored.drop_anchor(
                self._db, self._boot, wall=self._wall, steady=self._steady
            )
        if self._asked_at is None and await stored.restarted(self._db, self._boot):
            self._settled_at = found.steady + SETTLES_SECONDS
        return found

    async def _stepped(self, reading: Reading, error: timedelta, *, since: datetime) -> None:
        if self._db.kind != "sqlite":
            await stored.note_step(self._db, reading.at, by=error, since=since)
        self.steps += 1
        log.warning("clock_stepped", seconds=round(error.total_seconds(), 3))
