"""The service's time: the same for all processes on one database, whatever their wall clocks show.

Between two heartbeats time advances with the machine's steady clock, so a step of the wall clock
has no effect. With each heartbeat it is set to the database's time; a difference of more than
`STEP` is logged.

How much time has really passed cannot be derived from a step. A step ahead is stored as a leap,
and durations leave leaps out: what ends after an hour ends after an hour of steady time.

The machine's own two clocks are in `fleek.system_clock`, below the store, and the stored time in
`fleek.store.clock`.
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

STEP: Final = timedelta(seconds=2)  # a smaller difference between clocks is ignored
MAX_CORRECTION: Final = timedelta(
    seconds=0.1
)  # adjustment per heartbeat, towards the system clock
STANDS_SECONDS: Final = 60.0  # before a larger difference from the system clock is accepted
STABILIZES_SECONDS: Final = 120.0  # after a reboot, until NTP may have set the clock

log = structlog.get_logger(__name__)


def boot_id() -> str | None:
    """Return an id for this boot of the machine and its steady clock; None: there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = Path("/proc/self/ns/time").readlink()
    except OSError:
        return None
    return f"{boot} {space}"


class Clock:
    """The service's time. Its sources are arguments so that tests can replace them."""

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
        self._asked_at: datetime | None = None  # the database's time at the latest query
        self._differs: tuple[float, timedelta] | None = (
            None  # from the system clock: since when (steady), by how much
        )
        self._stable_at = float("-inf")
        self.leaps: tuple[Leap, ...] = ()
        self.steps = 0  # noticed by this process

    def __call__(self) -> datetime:
        """Return the time, aware, in UTC."""
        return self._reading.later(self._steady())

    @property
    def ahead(self) -> timedelta:
        """How far this process's wall clock is ahead of the time; negative if it is behind."""
        return self._wall() - self()

    @property
    def stable(self) -> bool:
        """Whether deadlines may be applied: not right after a reboot."""
        return self._steady() >= self._stable_at

    def back(self, now: datetime, age: timedelta) -> datetime:
        """Return the time `age` before `now`, leaps left out."""
        moment = now - age
        for leap in self.leaps:  # the latest first
            if leap.at <= moment:
                break
            moment -= leap.skipped
        return moment

    def lived(self, since: datetime, now: datetime) -> timedelta:
        """Return how much time has passed since then, leaps left out; never negative."""
        skipped = (leap.skipped for leap in self.leaps if since < leap.at)
        return max(now - since - sum(skipped, timedelta(0)), timedelta(0))

    async def set(self) -> None:
        """Set the time to the database's.

        Raises:
            DatabaseUnavailable: The query failed; time advances with the steady clock.
        """
        reading, asked_at = await self._ask(), self._asked_at
        error = reading.at - self._reading.later(reading.steady)
        known = asked_at is not None and abs(error).total_seconds() <= reading.uncertain
        if asked_at is not None and not known and abs(error) > STEP:
            await self._stepped(reading, error, since=asked_at)
        leaps = await stored.leaps(self._db)  # another process may have stored one
        if not known:
            self._reading = reading
        self.leaps, self._asked_at = leaps, reading.at  # with the reading: no loop may run between

    async def steer(self) -> None:
        """Adjust SQLite's stored time towards this machine's system clock.

        Only the coordinator calls this, so that two processes never adjust it in two directions.
        """
        if self._db.kind != "sqlite" or self._boot is None:
            return
        ahead = self.ahead
        if abs(ahead) <= STEP:
            self._differs = None
            if abs(ahead) < MAX_CORRECTION:
                return
            move = min(max(ahead, -MAX_CORRECTION), MAX_CORRECTION)
        elif self._is_lasting(ahead):
            move = ahead
        else:
            return
        await stored.move_anchor(
            self._db, self._boot, by=move, leaps=abs(move) > STEP, steady=self._steady()
        )
        await self.set()

    def _is_lasting(self, ahead: timedelta) -> bool:
        """Whether the system clock has differed by as much for `STANDS_SECONDS`."""
        now = self._steady()
        if self._differs is None or abs(ahead - self._differs[1]) > STEP:
            self._differs = now, ahead
        return now - self._differs[0] >= STANDS_SECONDS

    async def _ask(self) -> Reading:
        if self._db.kind != "sqlite":
            return await stored.ask_postgres(self._db, self._steady)
        if self._boot is None:  # the steady clock cannot be shared: use the system clock
            return Reading(self._wall(), self._steady())
        found = await stored.anchor(self._db, self._boot)
        if found is None:
            found = await stored.drop_anchor(
                self._db, self._boot, wall=self._wall, steady=self._steady
            )
        if self._asked_at is None and await stored.restarted(self._db, self._boot):
            self._stable_at = found.steady + STABILIZES_SECONDS
        return found

    async def _stepped(self, reading: Reading, error: timedelta, *, since: datetime) -> None:
        if self._db.kind != "sqlite":
            await stored.note_step(self._db, reading.at, by=error, since=since)
        self.steps += 1
        log.warning("clock_stepped", seconds=round(error.total_seconds(), 3))
