"""Process-wide limits and permissions, set before anything is opened."""

import os
import resource
from contextlib import suppress
from typing import Final

PRIVATE: Final = 0o077  # files are for the service's own user


def prepare() -> None:
    """Restrict new files to the service's user, and raise the limit of open files to the maximum.

    The soft limit is 1024 in many places, for the sake of programs that use select().
    """
    os.umask(PRIVATE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS grants less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
