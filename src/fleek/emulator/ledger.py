"""The ledger of requests, predictions, callbacks and downloads; append-only."""

import json
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

KEPT: Final = 100_000  # rows of each kind held in memory; the file has them all


class Ledger:
    """Rows in memory and, with a path, as JSON lines in a file.

    A row is handed to the operating system before the answer that it describes is sent, so
    nothing is lost when the process is killed; `sync` makes it survive a power cut as well.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: dict[str, deque[dict[str, Any]]] = {}
        self.counts: Counter[str] = Counter()  # rows ever added, by kind
        self._file: int | None = None
        self._unsynced = False
        self._lock = threading.Lock()  # between closing and a sync in another thread
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            _end_last_line(self._file)

    def add(self, kind: str, **row: Any) -> dict[str, Any]:
        """Add a row; it is in the file when this returns."""
        self.counts[kind] += 1
        self._rows.setdefault(kind, deque(maxlen=KEPT)).append(row)
        if self._file is not None:
            line = json.dumps({"row": kind, **row}, separators=(",", ":")) + "\n"
            os.write(self._file, line.encode())
            self._unsynced = True
        return row

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Give the rows of a kind, oldest first, the last `KEPT` at most."""
        return list(self._rows.get(kind, ()))

    def forget(self) -> None:
        """Start anew. The file keeps what it has and says where the new start is."""
        self._rows.clear()
        self.counts.clear()
        self.add("reset")

    def replay(self) -> Iterator[dict[str, Any]]:
        """Give the file's rows since its last reset and take them into memory.

        A last line that was cut off by a kill is passed over.
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
        """Wait until the disk has the file; may be called from any thread."""
        with self._lock:
            if self._file is not None and self._unsynced:
                self._unsynced = False
                os.fsync(self._file)

    def close(self) -> None:
        """Sync and close the file. Rows are still kept in memory afterwards."""
        self.sync()
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _end_last_line(file: int) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
