"""Fleek: the media-generation service that never loses a job and never pays twice."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleek.client import (
        AsyncClient,
        AsyncOutput,
        AsyncResult,
        Client,
        ClientError,
        InvalidSignature,
        JobFailed,
        NotSaved,
        Output,
        ResponseLost,
        Result,
        ServerBusy,
        ServerError,
        ServerUnreachable,
        WaitTimeout,
        WebhookEvent,
        verify_webhook,
    )
    from fleek.domain.errors import (
        ConfigurationError,
        Conflict,
        FleekError,
        Forbidden,
        Gone,
        InvalidInput,
        NotFound,
        RequestError,
        TooLarge,
        TooMany,
        Unauthorized,
        Unreadable,
        Unsupported,
    )

__version__ = "0.3.0.dev0"

__all__ = [
    "AsyncClient",
    "AsyncOutput",
    "AsyncResult",
    "Client",
    "ClientError",
    "ConfigurationError",
    "Conflict",
    "FleekError",
    "Forbidden",
    "Gone",
    "InvalidInput",
    "InvalidSignature",
    "JobFailed",
    "NotFound",
    "NotSaved",
    "Output",
    "RequestError",
    "ResponseLost",
    "Result",
    "ServerBusy",
    "ServerError",
    "ServerUnreachable",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "Unreadable",
    "Unsupported",
    "WaitTimeout",
    "WebhookEvent",
    "verify_webhook",
]


def __getattr__(name: str) -> Any:
    """Hand out a public name when it is asked for: a worker never loads the client."""
    if name not in {*__all__, "AnswerLost"}:  # the name of ResponseLost before 0.2
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    errors = import_module("fleek.domain.errors")
    home = errors if hasattr(errors, name) else import_module("fleek.client")
    return getattr(home, name)
