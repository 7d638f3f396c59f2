"""The SDK: `Client` and `AsyncClient`, the same in both worlds.

::

    from fleek import Client

    with Client() as client:
        job = client.wait(client.generate("A cat riding a bicycle").id)
        client.download(job.id, "cat.png")
"""

from fleek.client._async.client import AsyncClient
from fleek.client._sync.client import Client
from fleek.client.errors import (
    AnswerLost,
    ClientError,
    JobFailed,
    NotSaved,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    WaitTimeout,
)
from fleek.client.retry_policy import RetryPolicy

__all__ = [
    "AnswerLost",
    "AsyncClient",
    "Client",
    "ClientError",
    "JobFailed",
    "NotSaved",
    "RetryPolicy",
    "ServerBusy",
    "ServerError",
    "ServerUnreachable",
    "WaitTimeout",
]
