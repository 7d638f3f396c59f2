"""Run a `fleek` command and count what it does: ``python -m benchmarks.counted FILE serve``.

The numbers are in FILE, in shared memory, so that another process reads them at any time. Counting
costs time: nothing else is measured of such a process.
"""

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event

COUNTS: Final = ("statements", "commits", "fsyncs", "connections", "opens", "unlinks")
SIZE: Final = 8  # bytes of a number
AUDITED: Final = {"socket.connect": "connections", "open": "opens", "os.remove": "unlinks"}


class Counts:
    """Numbers in a file that processes share."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SIZE * len(COUNTS)))
        with path.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def add(self, name: str) -> None:
        """Count one; two threads at once may count one less."""
        self._numbers[COUNTS.index(name)] += 1

    def read(self) -> dict[str, int]:
        """Return the numbers so far."""
        return dict(zip(COUNTS, self._numbers, strict=True))


def count(counts: Counts) -> None:
    """Count from now on what this process does."""

    @event.listens_for(Engine, "before_cursor_execute")
    def _statement(*_arguments: Any) -> None:
        counts.add("statements")

    @event.listens_for(Engine, "commit")
    def _commit(*_arguments: Any) -> None:
        counts.add("commits")

    def counting(sync: Callable[[int], None]) -> Callable[[int], None]:
        def counted(descriptor: int) -> None:
            counts.add("fsyncs")
            sync(descriptor)

        return counted

    os.fsync, os.fdatasync = counting(os.fsync), counting(os.fdatasync)

    def audit(name: str, _arguments: Any) -> None:
        if name in AUDITED:
            counts.add(AUDITED[name])

    sys.addaudithook(audit)


if __name__ == "__main__":
    from fleek.cli import main

    count(Counts(Path(sys.argv[1])))
    sys.argv = ["fleek", *sys.argv[2:]]
    main()
