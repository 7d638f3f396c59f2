"""The environment of a process in a storm: a wrong clock, a faulty disk, no descriptors."""

import random
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Final

WRONG_CLOCK: Final = 0.6  # of the processes, and of the steps of a running clock
SHIFTS: Final = (60.0, 3600.0, 86_400.0)  # seconds: a minute, an hour, a day or so, either way
BAD_DISK: Final = 0.4  # of the processes
DISK: Final = ("enospc", "erofs", "oserror")
PLACES: Final = ("output.spooled", "output.stored", "document.made", "storage.place")
SPARE: Final = 2  # free descriptors of a starved process
ELSEWHERE: Final = {"PROVIDERS": "placeholder"}
"""Settings of a worker on which the provider is not configured."""


def hardship(chance: random.Random, command: Sequence[str], clock: Path) -> dict[str, str]:
    """Choose the environment of a process before its start, and set its clock."""
    set_clock(chance, clock)
    env = {"FLEEK_CLOCK_FILE": str(clock)}
    if command != ("serve", "--no-worker") and chance.random() < BAD_DISK:
        env["FLEEK_FAILPOINTS"] = bad_disk(chance)
    return env


def set_clock(chance: random.Random, clock: Path) -> None:
    """Set the clock of one process wrong, or right."""
    wrong = chance.choice(SHIFTS) * chance.uniform(0.5, 1.5) * chance.choice((-1, 1))
    fresh = clock.with_suffix(".new")
    fresh.write_text(f"{wrong if chance.random() < WRONG_CLOCK else 0.0}", encoding="ascii")
    fresh.replace(clock)


def bad_disk(chance: random.Random) -> str:
    """Choose how storage fails for a while after the start, in the same way at each place."""
    action, last = chance.choice(DISK), chance.randint(3, 11)
    return ",".join(f"{place}={action}@1-{last}" for place in PLACES)


def starve(pid: int) -> tuple[int, int]:
    """Leave a process few descriptors, and return its previous limits."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + SPARE, before[1]))
    return before


def restore_limits(pid: int, limits: tuple[int, int]) -> None:
    """Restore the limits of descriptors."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
