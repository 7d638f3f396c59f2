"""The SDK: `Client` and `AsyncClient`, synchronous and asynchronous.

::

    from fleek import Client

    with Client() as client:
        result = client.generate("A cat riding a bicycle")
        result.save("cat.png")
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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


HOMES: Final = {
    **dict.fromkeys(("AsyncClient",), "fleek.client._async.client"),
    **dict.fromkeys(("AsyncOutput", "AsyncResult"), "fleek.client._async.results"),
    **dict.fromkeys(("Client",), "fleek.client._sync.client"),
    **dict.fromkeys(("Output", "Result"), "fleek.client._sync.results"),
    **dict.fromkeys(
        (
            "ClientError",
            "InvalidSignature",
            "JobFailed",
            "NotSaved",
            "ResponseLost",
            "ServerBusy",
            "ServerError",
            "ServerUnreachable",
            "WaitTimeout",
        ),
        "fleek.client.errors",
    ),
    **dict.fromkeys(("Event", "LogPiece"), "fleek.client.events"),
    **dict.fromkeys(("JobOptions",), "fleek.client.job_options"),
    **dict.fromkeys(("RetryPolicy",), "fleek.client.retry_policy"),
    **dict.fromkeys(("WebhookEvent", "verify_webhook"), "fleek.client.webhooks"),
}
"""Where a public name is; it is imported when it is asked for, as nobody needs both clients."""


def __getattr__(name: str) -> Any:
    """Hand out a public name, and the name that `ResponseLost` had before 0.2."""
    if name == "AnswerLost":
        warnings.warn("AnswerLost is now ResponseLost", DeprecationWarning, stacklevel=2)
        name = "ResponseLost"
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
