"""What a process of a storm has to live with from its birth: a bad disk, and later no descriptors."""

import random
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Final

BAD_DISK: Final = 0.3  # of the processes
DISK: Final = ("enospc", "erofs", "oserror")
PLACES: Final = ("keep.spooled", "keep.saved", "document.spooled", "storage.place")
SPARE: Final = 2  # descriptors that a process that starves may open
ELSEWHERE: Final = {"PROVIDER": "placeholder"}
"""Settings of a worker on which the provider is not configured."""


def hardship(chance: random.Random, command: Sequence[str]) -> dict[str, str]:
    """Choose the environment of a process that is about to start."""
    env: dict[str, str] = {}
    if command != ("serve", "--no-worker") and chance.random() < BAD_DISK:
        env["FLEEK_FAILPOINTS"] = bad_disk(chance)
    return env


def bad_disk(chance: random.Random) -> str:
    """Choose how storage fails: after a few files, for a while, in one way wherever it is used."""
    action, first = chance.choice(DISK), chance.randint(1, 4)
    last = first + chance.randint(3, 12)
    return ",".join(f"{place}={action}@{first}-{last}" for place in PLACES)


def starve(pid: int) -> tuple[int, int]:
    """Leave a process hardly a descriptor to open; returns its limits as they were."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + SPARE, before[1]))
    return before


def feed(pid: int, limits: tuple[int, int]) -> None:
    """Give them back."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
