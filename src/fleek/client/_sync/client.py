"""The synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fleek.client._sync.batches import Batches
from fleek.client._sync.operators import Keys, Queue
from fleek.client._sync.submissions import Submissions
from fleek.client._sync.webhooks import Webhooks
from fleek.client.retry_policy import RetryPolicy

if TYPE_CHECKING:
    import httpx2


class Client(Submissions):
    """Talks to one Fleek server.

    All errors are `fleek.FleekError`; their tree is in `fleek.client.errors`. Requests that
    can be repeated are retried a few times if the server cannot be reached or its answer is lost.
    Those that create a job can: their retries have the same idempotency key, so it is one job.

    Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: "httpx2.BaseTransport | None" = None,
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
        from fleek.client._sync.connection import Connection  # noqa: PLC0415 - loads httpx2

        self._retry_policy = retry_policy or RetryPolicy()
        self._connection = Connection(
            url,
            api_key=api_key,
            timeout=timeout,
            transport=transport,
            retry_policy=self._retry_policy,
            event_hooks=event_hooks,
        )
        self.webhooks = Webhooks(self._connection)
        self.keys = Keys(self._connection)
        self.queue = Queue(self._connection)
        self.batches = Batches(self._connection, self._retry_policy)

    def __repr__(self) -> str:
        return f"<Client of {self._connection.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
