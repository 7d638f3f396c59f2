"""The folder for files that are not complete yet."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

STALE_SECONDS: Final = 24 * 60 * 60  # no download takes longer; what is older was left by a crash


def remove_stale(spool: Path) -> None:
    """Remove what lies there for a day.

    Raises:
        OSError: The folder cannot be read or changed.
    """
    with tempfile.TemporaryFile(dir=spool) as probe:  # files tell their age by the same clock
        oldest = os.fstat(probe.fileno()).st_mtime - STALE_SECONDS
    with os.scandir(spool) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process removes them too
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry).unlink()
