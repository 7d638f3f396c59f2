"""The SDK: `Client` and `AsyncClient`, synchronous and asynchronous.

::

    from fleek import Client

    with Client() as client:
        job = client.wait(client.generate("A cat riding a bicycle").id)
        client.download(job.id, "cat.png")
"""

import warnings
from typing import Any

from fleek.client._async.client import AsyncClient
from fleek.client._sync.client import Client
from fleek.client.errors import (
    ClientError,
    JobFailed,
    NotSaved,
    ResponseLost,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    WaitTimeout,
)
from fleek.client.events import Event, LogPiece
from fleek.client.retry_policy import RetryPolicy

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Event",
    "JobFailed",
    "LogPiece",
    "NotSaved",
    "ResponseLost",
    "RetryPolicy",
    "ServerBusy",
    "ServerError",
    "ServerUnreachable",
    "WaitTimeout",
]


def __getattr__(name: str) -> Any:
    """Accept the name that `ResponseLost` had before 0.2."""
    if name != "AnswerLost":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("AnswerLost is now ResponseLost", DeprecationWarning, stacklevel=2)
    return ResponseLost
