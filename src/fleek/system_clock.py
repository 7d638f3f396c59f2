"""The machine's two clocks: the wall clock, which may be wrong or step, and the steady clock.

This is the only module that reads the wall clock, so that a test can shift it for one process:

- In a process: set ``FLEEK_CLOCK_FILE`` to a path, and write seconds into that file, as in
  ``3600`` or ``-86400.5``. The process adds them to each reading of its wall clock; write again
  to make the clock step. Without a file, or with an empty one, there is no shift. Replace the file
  by renaming another one, so that no reading finds it empty.
- In a test's own process: ``system_clock.shift_from(path)``, and ``shift_from(None)`` afterwards.

`steady_seconds` is never shifted, as a step of the wall clock does not move it.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # suspended time counts

_shift_file: Path | None = None  # one per process, like its clocks
_last_shift: dict[Path, timedelta] = {}

Steady = Callable[[], float]
"""Seconds of a clock that never steps."""


def wall_time() -> datetime:
    """Return what this machine's clock shows, aware, in UTC. It may be wrong and may step."""
    now = datetime.now(UTC)
    return now if _shift_file is None else now + _shift(_shift_file)


def steady_seconds() -> float:
    """Return seconds since some moment, the same for all processes until the machine restarts."""
    return time.clock_gettime(_STEADY)


def shift_from(path: Path | None) -> None:
    """Shift this process's wall clock by the seconds in a file; None: no shift."""
    global _shift_file  # noqa: PLW0603 - there is one clock per process
    _shift_file = path


def _shift(path: Path) -> timedelta:
    """Return the shift in the file, or the latest one if the file cannot be opened now."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return _last_shift.get(path, timedelta(0))
    _last_shift[path] = timedelta(seconds=float(text or 0))
    return _last_shift[path]
