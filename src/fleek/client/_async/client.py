"""The asynchronous client; the synchronous one is made from this folder."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fleek.client._async.batches import AsyncBatches
from fleek.client._async.operators import AsyncKeys, AsyncQueue
from fleek.client._async.submissions import AsyncSubmissions
from fleek.client._async.webhooks import AsyncWebhooks
from fleek.client.retry_policy import RetryPolicy

if TYPE_CHECKING:
    import httpx2


class AsyncClient(AsyncSubmissions):
    """Talks to one Fleek server.

    All errors are `fleek.FleekError`; their tree is in `fleek.client.errors`. Requests that
    can be repeated are retried a few times if the server cannot be reached or its answer is lost.
    Those that create a job can: their retries have the same idempotency key, so it is one job.

    Use it as a context manager, or call `aclose`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: "httpx2.AsyncBaseTransport | None" = None,
        retry_policy: RetryPolicy | None = None,
        event_hooks: Mapping[str, list[Callable[..., Any]]] | None = None,
    ) -> None:
        """Create a client; nothing is sent yet. `timeout` is for one answer, in seconds.

        `url`: None is the one in the environment variable FLEEK_URL, or else this machine's port 8000.
        `api_key`: None is the one in the environment variable FLEEK_API_KEY, "" is none.
        `event_hooks` are those of httpx2: "request" and "response".

        Raises:
            ConfigurationError: `url` or `api_key` cannot be used.
        """
        from fleek.client._async.connection import AsyncConnection  # noqa: PLC0415 - loads httpx2

        self._retry_policy = retry_policy or RetryPolicy()
        self._connection = AsyncConnection(
            url,
            api_key=api_key,
            timeout=timeout,
            transport=transport,
            retry_policy=self._retry_policy,
            event_hooks=event_hooks,
        )
        self.webhooks = AsyncWebhooks(self._connection)
        self.keys = AsyncKeys(self._connection)
        self.queue = AsyncQueue(self._connection)
        self.batches = AsyncBatches(self._connection, self._retry_policy)

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._connection.url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()
