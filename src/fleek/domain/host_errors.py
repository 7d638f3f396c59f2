"""Translation of the operating system's error numbers, for all parts of the service.

Storages, the spool and outbound calls use it, so that errors of the disk, of this process and of
other hosts are never confused.
"""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from fleek.domain.errors import HostError, ResourcesExhausted, StorageError, StorageFull

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
EXHAUSTED: Final = {
    errno.EMFILE: "file descriptors (raise its limit: ulimit -n)",
    errno.ENFILE: "file descriptors: the whole machine has none left",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory for connections",
}
THREADS: Final = "threads"
NO_THREAD: Final = "can't start new thread"


@contextmanager
def host_errors(doing: str) -> Generator[None]:
    """Translate errors of the operating system; `doing` is for the message, after "cannot".

    Raises:
        ResourcesExhausted: This process has no free descriptors, memory or threads.
        StorageFull: There is no free space.
        StorageError: Any other error of the file system.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        translated = host_error(error, doing)
        if translated is None:
            raise
        raise translated from error


def host_error(error: Exception, doing: str) -> HostError | None:
    """Return the error that `host_errors` raises; None: it is not an error of this machine."""
    exhausted = exhaustion(error)
    if exhausted is not None or not isinstance(error, OSError):
        return exhausted
    kind = StorageFull if error.errno in FULL else StorageError
    return kind(f"cannot {doing}: {error.strerror or type(error).__name__}")


def exhaustion(error: BaseException) -> ResourcesExhausted | None:
    """Return the exhausted resource that caused an error; None: another cause."""
    cause: BaseException | None = error
    seen = 0
    while cause is not None and seen < 20:  # a chain of causes may be circular
        missing = _missing(cause)
        if missing is not None:
            return ResourcesExhausted(f"this process has no {missing} left")
        cause, seen = cause.__cause__ or cause.__context__, seen + 1
    return None


def _missing(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return EXHAUSTED[errno.ENOMEM]
    if isinstance(error, RuntimeError) and NO_THREAD in str(error):
        return THREADS
    return EXHAUSTED.get(error.errno or 0) if isinstance(error, OSError) else None


def reported(words: str) -> HostError | None:
    """Return the exhausted resource named in a library's message; None: there is none."""
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        if f"(os error {number})" in words:
            return ResourcesExhausted(f"this process has no {EXHAUSTED[number]} left")
    return None
