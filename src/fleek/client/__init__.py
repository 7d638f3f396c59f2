"""The SDK: `Client` and `AsyncClient`, synchronous and asynchronous.

::

    from fleek import Client

    with Client() as client:
        result = client.generate("A cat riding a bicycle")
        result.save("cat.png")
"""

import warnings
from typing import Any

from fleek.client._async.client import AsyncClient
from fleek.client._async.results import AsyncOutput, AsyncResult
from fleek.client._sync.client import Client
from fleek.client._sync.results import Output, Result
from fleek.client.errors import (
    ClientError,
    InvalidSignature,
    JobFailed,
    NotSaved,
    ResponseLost,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    WaitTimeout,
)
from fleek.client.events import Event, LogPiece
from fleek.client.job_options import JobOptions
from fleek.client.retry_policy import RetryPolicy
from fleek.client.webhooks import WebhookEvent, verify_webhook

__all__ = [
    "AsyncClient",
    "AsyncOutput",
    "AsyncResult",
    "Client",
    "ClientError",
    "Event",
    "InvalidSignature",
    "JobFailed",
    "JobOptions",
    "LogPiece",
    "NotSaved",
    "Output",
    "ResponseLost",
    "Result",
    "RetryPolicy",
    "ServerBusy",
    "ServerError",
    "ServerUnreachable",
    "WaitTimeout",
    "WebhookEvent",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    """Accept the name that `ResponseLost` had before 0.2."""
    if name != "AnswerLost":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("AnswerLost is now ResponseLost", DeprecationWarning, stacklevel=2)
    return ResponseLost
