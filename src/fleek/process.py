"""What every process of the service sets for itself before it opens anything."""

import os
import resource
from contextlib import suppress
from typing import Final

PRIVATE: Final = 0o077  # files are for the service's own user


def prepare() -> None:
    """Keep what is made to the service's own user, and use all file descriptors that are granted.

    The soft limit is 1024 in many places, for the sake of programs that use select().
    """
    os.umask(PRIVATE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS grants less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
