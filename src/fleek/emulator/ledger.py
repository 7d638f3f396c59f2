"""The ledger of requests, predictions, callbacks and downloads; append-only."""

import json
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

KEPT: Final = 100_000  # rows of each kind in memory; the file has all


class Ledger:
    """Rows in memory and, with a path, as JSON lines in a file.

    A row is written to the file before the response that it describes is sent, so nothing is lost
    when the process is killed. After `sync`, it also survives a power failure.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: dict[str, deque[dict[str, Any]]] = {}
        self.counts: Counter[str] = Counter()  # all added rows, by kind
        self._file: int | None = None
        self._unsynced = False
        self._lock = threading.Lock()  # between closing and a sync in another thread
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            _end_last_line(self._file)

    def add(self, kind: str, **row: Any) -> dict[str, Any]:
        """Add a row, also to the file."""
        self.counts[kind] += 1
        self._rows.setdefault(kind, deque(maxlen=KEPT)).append(row)
        if self._file is not None:
            line = json.dumps({"row": kind, **row}, separators=(",", ":")) + "\n"
            os.write(self._file, line.encode())
            self._unsynced = True
        return row

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return the rows of a kind, oldest first, at most the last `KEPT`."""
        return list(self._rows.get(kind, ()))

    def forget(self) -> None:
        """Reset the rows in memory. The file keeps its rows and gets a row that marks the reset."""
        self._rows.clear()
        self.counts.clear()
        self.add("reset")

    def replay(self) -> Iterator[dict[str, Any]]:
        """Load the file's rows since its last reset, and yield them.

        An incomplete last line, after a kill, is skipped.
        """
        if self.path is None:
            return
        since: list[dict[str, Any]] = []
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if row["row"] == "reset":
                    since.clear()
                else:
                    since.append(row)
        for row in since:
            kind = row.pop("row")
            self.counts[kind] += 1
            self._rows.setdefault(kind, deque(maxlen=KEPT)).append(row)
            yield {"row": kind, **row}

    def sync(self) -> None:
        """Write the file to disk; may be called from any thread."""
        with self._lock:
            if self._file is not None and self._unsynced:
                self._unsynced = False
                os.fsync(self._file)

    def close(self) -> None:
        """Sync and close the file. Later rows are only kept in memory."""
        self.sync()
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _end_last_line(file: int) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
