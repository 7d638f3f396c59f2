"""Limits of connections: number, durations and sizes."""

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from fleek.domain.values import dataclass
from fleek.settings import Settings

MIN_CONNECTIONS: Final = 64
MAX_CONNECTIONS: Final = 10_000
CONNECTION_BYTES: Final = 64 * 1024  # maximum memory of a connection outside of the budgets
MEMORY_SHARE: Final = 8  # connections may take an eighth of the memory
MIN_UNSENT_BYTES: Final = 64 * 1024 * 1024
CGROUP_MEMORY: Final = Path("/sys/fs/cgroup/memory.max")  # a container's limit


@dataclass(frozen=True, slots=True)
class Limits:
    """Durations in seconds, sizes in bytes."""

    header_seconds: float  # from the first byte of a request, or from the start of the connection
    body_seconds: float
    response_seconds: float  # how long a client may read nothing of a response
    keep_alive_seconds: float
    connections: int
    connections_per_peer: int
    body_bytes: int  # in total for all requests

    head_bytes: int = 32 * 1024
    url_bytes: int = 16 * 1024
    fields: int = 100
    pipelined: int = 32  # requests after the current one
    min_rate: float = 512.0  # bytes per second of a body or a response
    framing_bytes: int = 16 * 1024  # chunk sizes, extensions and trailers; plus the body's size
    unsent_bytes: int = MIN_UNSENT_BYTES  # in total for all responses
    linger_seconds: float = 2.0  # how long a refused client may send, so that it reads the refusal
    linger_bytes: int = 1024 * 1024  # maximum bytes that are read in that time

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits from the settings, with defaults for this machine."""
        connections = settings.max_connections or default_connections()
        per_peer = settings.max_connections_per_peer or max(connections // 4, 1)
        return cls(
            header_seconds=settings.request_header_seconds.total_seconds(),
            body_seconds=settings.request_body_seconds.total_seconds(),
            response_seconds=settings.response_stall_seconds.total_seconds(),
            keep_alive_seconds=settings.keep_alive_seconds.total_seconds(),
            connections=connections,
            connections_per_peer=per_peer,
            body_bytes=settings.max_held_body_bytes,
            unsent_bytes=max(_memory_bytes() // (2 * MEMORY_SHARE), MIN_UNSENT_BYTES),
        )


def default_connections() -> int:
    """Return the default maximum of connections, by file descriptors and memory.

    Half of the descriptors are reserved for files, the database and outbound calls.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = 2 * MAX_CONNECTIONS
    by_memory = _memory_bytes() // MEMORY_SHARE // CONNECTION_BYTES
    return max(MIN_CONNECTIONS, min(descriptors // 2, by_memory, MAX_CONNECTIONS))


def _memory_bytes() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        memory = min(memory, int(CGROUP_MEMORY.read_text()))
    return memory
