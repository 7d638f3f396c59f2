"""The asynchronous client; the synchronous one is made from this folder."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx2

from fleek.client import saving, wire
from fleek.client._async.connection import AsyncConnection
from fleek.client._async.listing import list_jobs
from fleek.client._async.waiting import until_completed
from fleek.client.retry_policy import RetryPolicy, WaitDeadline
from fleek.domain.job import Status
from fleek.schemas import JobCancelled, JobRead, ModelRead


class AsyncClient:
    """Talks to one Fleek server.

    Everything that goes wrong is a `fleek.FleekError`; the tree is in `fleek.client.errors`.
    Harmless requests are sent again a few times if the server cannot be reached. What makes a
    job is sent again only if surely nothing was done, so it never makes two.

    Use it as a context manager, or call `aclose`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        pace: RetryPolicy | None = None,
    ) -> None:
        """Make a client; nothing is sent yet. `timeout` is for one answer, in seconds.

        Raises:
            ConfigurationError: `url` or `api_key` cannot be used.
        """
        self._pace = pace or RetryPolicy()
        self._connection = AsyncConnection(
            url, api_key=api_key, timeout=timeout, transport=transport, pace=self._pace
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: int | None = None,
        run_at: datetime | None = None,
        deadline_seconds: float | None = None,
        max_attempts: int | None = None,
        provider: str | None = None,
    ) -> JobRead:
        """Submit a job and return it as it was accepted; `wait` for its end.

        Each None means "as the server's settings say". `run_at` must be aware.

        Raises:
            InvalidInput: The request is not acceptable; `errors` names the fields.
            AnswerLost: It was sent and no answer came: the job may exist. See `jobs`.
            FleekError: Any other of `fleek.client.errors`.
        """
        content = wire.body(
            {
                "prompt": prompt,
                "model_name": model,
                "parameters": parameters,
                "metadata": metadata,
                "priority": priority,
                "run_at": None if run_at is None else run_at.isoformat(),
                "deadline_seconds": deadline_seconds,
                "max_attempts": max_attempts,
                "provider": provider,
            }
        )
        answer = await self._connection.ask(
            "POST", "/api/v1/generate", content=content, idempotent=False
        )
        return wire.parse(JobRead, answer.value)

    async def status(self, job_id: UUID | str) -> JobRead:
        """Return a job as it is now.

        Raises:
            NotFound: There is none with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        return wire.parse(
            JobRead, (await self._connection.ask("GET", wire.job_path(job_id))).value
        )

    def jobs(
        self, status: Status | None = None, *, limit: int | None = None
    ) -> AsyncIterator[JobRead]:
        """List jobs, newest first, at most `limit`; pages are asked for as they are needed.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        return list_jobs(self._connection, status=status, limit=limit)

    async def cancel(self, job_id: UUID | str) -> JobRead:
        """Cancel a job and return it; one that is cancelled already is fine.

        Raises:
            Conflict: It has completed or failed.
            NotFound: There is none with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask("POST", wire.job_path(job_id, "cancel"))
        return wire.parse(JobCancelled, answer.value).job

    async def purge(self, job_id: UUID | str) -> JobRead:
        """Remove a job's files and metadata for good, and return it; again is fine.

        One that has not ended is cancelled first. The job itself can still be read.

        Raises:
            NotFound: There is none with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask(
            "DELETE", wire.job_path(job_id), params={"purge": "true"}
        )
        return wire.parse(JobCancelled, answer.value).job

    async def retry(self, job_id: UUID | str, *, again: bool = False) -> JobRead:
        """Submit a failed or cancelled job's request again and return the new job.

        A retry of the same job is one job: if one lives, or has completed and still has its
        files, that one is returned. `again` makes another in any case.

        Raises:
            Conflict: It has not ended, or has completed.
            NotFound: There is none with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask(
            "POST",
            wire.job_path(job_id, "retry"),
            idempotent=False,
            params={"again": "true"} if again else None,
        )
        return wire.parse(JobRead, answer.value)

    async def collect(self, job_id: UUID | str) -> JobRead:
        """Have a failed job's paid result fetched again, and return the job; `wait` for its end.

        Nothing is paid for again. One that has completed already is fine.

        Raises:
            Conflict: No prediction of it has succeeded, or it was cancelled.
            Gone: Its result was purged, or the provider does not have it any more.
            NotFound: There is none with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask("POST", wire.job_path(job_id, "collect"))
        return wire.parse(JobRead, answer.value)

    async def wait(
        self,
        job_id: UUID | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the job goes on; nothing is cancelled
        on_update: Callable[[JobRead], None] | None = None,
    ) -> JobRead:
        """Return the job once it has completed; a server that restarts meanwhile is borne.

        `timeout` is in seconds; None: as long as it takes. `on_update` gets every look at it.

        Raises:
            JobFailed: It has ended as failed or cancelled.
            WaitTimeout: It goes on after `timeout`.
            NotFound: There is none with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        vigil = WaitDeadline(self._pace, timeout)
        return await until_completed(lambda: self.status(job_id), vigil, on_update)

    async def download(
        self, job_id: UUID | str, to: Path | str | None = None, *, index: int = 0
    ) -> Path:
        """Save one output of a completed job and return its path.

        `to` is a folder (None: the current one), where the file gets its id as name, or a path
        to be written. The file is there whole and checked, or not at all.

        Raises:
            NotFound: There is no such job or output.
            Gone: The files of the job were purged.
            NotSaved: The file cannot be written.
            FleekError: Any other of `fleek.client.errors`.
        """
        job = await self.status(job_id)
        output = saving.output_of(job, index)
        path = saving.target(to, job, output)
        url = f"{wire.job_path(job.id, root='download')}?index={index}"
        await self._connection.fetch(url, path, sha256=output.sha256)
        return path

    async def metadata(self, job_id: UUID | str) -> dict[str, Any]:
        """Return the metadata document of a completed job.

        Raises:
            NotFound: There is no such job, or no document yet.
            Gone: The document was purged.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask("GET", wire.job_path(job_id, "metadata"))
        return wire.mapping(answer.value)

    async def models(self) -> list[ModelRead]:
        """List the models that are offered.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        return wire.parse_list(
            ModelRead, (await self._connection.ask("GET", "/api/v1/models")).value
        )

    async def model(self, name: str) -> ModelRead:
        """Return one model, with the JSON schema of its parameters where it is known.

        Raises:
            NotFound: No provider has it.
            FleekError: Any other of `fleek.client.errors`.
        """
        return wire.parse(
            ModelRead, (await self._connection.ask("GET", wire.path_of_model(name))).value
        )

    async def health(self) -> dict[str, Any]:
        """Return the server's own view of its health, part by part.

        Its ``status`` is "healthy", "degraded", or "unhealthy" if it cannot accept jobs now.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        answer = await self._connection.ask("GET", "/health/detailed", well=(503,))
        return wire.mapping(answer.value)
