"""Batches of the synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fleek.client import wire
from fleek.client._sync.paging import paged
from fleek.client.errors import ClientError
from fleek.client.models import BatchRead, BatchStatus
from fleek.client.retry_policy import RetryPolicy, WaitDeadline

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection


class Batches:
    """Many requests in one call: `client.batches`."""

    def __init__(self, connection: "Connection", retry_policy: RetryPolicy) -> None:
        self._connection = connection
        self._retry_policy = retry_policy

    def create(
        self, requests: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> BatchRead:
        """Create a job for each request, and return the batch.

        A request has the fields of `POST /api/v1/generate`: ``{"prompt": …, "parameters": {…}}``. If one
        is refused, no job is created. `idempotency_key`: see `Client.generate`; with it, an interrupted
        batch is continued.

        Raises:
            InvalidInput: Requests are invalid; `errors` names them.
            FleekError: Any other of `fleek.client.errors`.
        """
        headers = {"content-type": "application/jsonl", **wire.idempotency(idempotency_key)}
        content = wire.lines(requests)
        answer = self._connection.ask("POST", wire.BATCHES, content=content, headers=headers)
        return wire.parse(BatchRead, answer.value)

    def create_grid(
        self,
        request: Mapping[str, Any],
        grid: Mapping[str, Iterable[Any]],
        *,
        idempotency_key: str | None = None,
    ) -> BatchRead:
        """Create a job for every combination of values of parameters, or of the prompt.

        Raises:
            InvalidInput: Requests are invalid; `errors` names them.
            FleekError: Any other of `fleek.client.errors`.
        """
        values = {name: list(each) for name, each in grid.items()}
        content = wire.body({"request": dict(request), "grid": values})
        answer = self._connection.ask(
            "POST", wire.BATCHES, content=content, headers=wire.idempotency(idempotency_key)
        )
        return wire.parse(BatchRead, answer.value)

    def get(self, batch_id: UUID | str) -> BatchRead:
        """Return how far a batch has come; its jobs are those of `Client.jobs(batch=…)`.

        Raises:
            NotFound: There is no batch with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask("GET", wire.batch_path(batch_id))
        return wire.parse(BatchRead, answer.value)

    def list(self, *, limit: int | None = None) -> Iterator[BatchRead]:
        """List at most `limit` batches, newest first; pages are requested when needed.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        return paged(self._connection, wire.BATCHES, BatchRead, {}, limit=limit)

    def cancel(self, batch_id: UUID | str) -> None:
        """Cancel the jobs of a batch that have not ended; the server goes on with it by itself.

        Raises:
            NotFound: There is no batch with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        self._connection.ask("POST", wire.batch_path(batch_id, "cancel"))

    def retry(self, batch_id: UUID | str) -> None:
        """Retry the members that failed; the server goes on with it by itself.

        Raises:
            NotFound: There is no batch with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        self._connection.ask("POST", wire.batch_path(batch_id, "retry"))

    def wait(
        self,
        batch_id: UUID | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[BatchRead], None] | None = None,
    ) -> BatchRead:
        """Wait until all jobs of a batch have ended, whatever has become of them; see `Client.wait`.

        Raises:
            WaitTimeout: They have not within `timeout`.
            NotFound: There is no batch with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        deadline = WaitDeadline(self._retry_policy, timeout)
        while True:
            try:
                batch = self.get(batch_id)
            except ClientError as error:
                deadline.tolerate(error)
            else:
                deadline.answered()
                if on_update is not None:
                    on_update(batch)
                if batch.status is BatchStatus.ENDED:
                    return batch
            time.sleep(deadline.pause(None))

    def download(self, batch_id: UUID | str, to: Path | str | None = None) -> Path:
        """Save the files of all completed members as a zip archive, and return its path.

        `to` is a folder (None: the current one), or the path of the file. It appears complete, or not
        at all.

        Raises:
            NotFound: There is no batch with this id.
            NotSaved: The file cannot be written.
            FleekError: Any other of `fleek.client.errors`.
        """
        path = Path() if to is None else Path(to)
        if path.is_dir():
            path /= f"{UUID(str(batch_id))}.zip"
        self._connection.fetch(wire.batch_path(batch_id, "outputs.zip"), path, sha256=None)
        return path
