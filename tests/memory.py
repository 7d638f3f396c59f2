"""Folders of tests in memory."""

import os
import shutil
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")  # an in-memory file system on Linux
ROOM_BYTES: Final = 4 * 1024**3  # a container's default is 64 MB


def in_memory() -> Path | None:
    """Return a folder in memory, or None if there is none with enough room."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        return MEMORY
    return None
