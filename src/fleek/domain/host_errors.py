"""What an error of this machine means: the one place that reads its error numbers.

Storages, the spool and outbound calls ask here, so that the disk, this process and another
host are never confused.
"""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from fleek.domain.errors import HostError, ResourcesExhausted, StorageError, StorageFull

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
EXHAUSTED: Final = {
    errno.EMFILE: "file descriptors (raise its limit: ulimit -n)",
    errno.ENFILE: "file descriptors: the whole machine is out of them",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory for connections",
}
THREADS: Final = "threads"
NO_THREAD: Final = "can't start new thread"


@contextmanager
def host_errors(doing: str) -> Generator[None]:
    """Translate what the operating system refuses; `doing` goes after "cannot" in the message.

    Raises:
        ResourcesExhausted: This process has used up something that it needs.
        StorageFull: There is no room.
        StorageError: Anything else that the file system says.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        translated = host_error(error, doing)
        if translated is None:
            raise
        raise translated from error


def host_error(error: Exception, doing: str) -> HostError | None:
    """Return what `host_errors` would raise; None: this is no error of this machine."""
    exhausted = exhaustion(error)
    if exhausted is not None or not isinstance(error, OSError):
        return exhausted
    kind = StorageFull if error.errno in FULL else StorageError
    return kind(f"cannot {doing}: {error.strerror or type(error).__name__}")


def exhaustion(error: BaseException) -> ResourcesExhausted | None:
    """Return what this process has run out of, if that is what an error comes from, else None."""
    cause: BaseException | None = error
    seen = 0
    while cause is not None and seen < 20:  # a chain of causes may lead in a circle
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
    """Return what this process has run out of, if a library says so in words, else None."""
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        if f"(os error {number})" in words:
            return ResourcesExhausted(f"this process has no {EXHAUSTED[number]} left")
    return None
