"""The asynchronous client; the synchronous one is made from this folder."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx2

from fleek.client import saving, wire
from fleek.client._async.batches import AsyncBatches
from fleek.client._async.connection import AsyncConnection
from fleek.client._async.events import follow
from fleek.client._async.paging import paged
from fleek.client._async.webhooks import AsyncWebhooks
from fleek.client.errors import ClientError
from fleek.client.events import Event, LogPiece, read_event, read_piece
from fleek.client.retry_policy import RetryPolicy, WaitDeadline, completed
from fleek.domain.job import Kind, Status
from fleek.schemas import JobCancelled, JobRead, ModelRead
from fleek.schemas.costs import BudgetRead, EstimateRead, UsageRead
from fleek.schemas.uploads import UploadRead


async def until_completed(
    poll: Callable[[], Awaitable[JobRead]],
    deadline: WaitDeadline,
    on_update: Callable[[JobRead], None] | None,
) -> JobRead:
    """Poll a job until it has completed, and return it; `on_update` gets every poll's job.

    Raises:
        JobFailed: It has ended as failed or cancelled.
        WaitTimeout: The deadline has passed first.
        FleekError: An error of `poll` that the deadline does not tolerate.
    """
    job: JobRead | None = None
    while True:
        try:
            job = await poll()
        except ClientError as error:
            deadline.tolerate(error)
        else:
            deadline.answered()
            if on_update is not None:
                on_update(job)
            if (done := completed(job)) is not None:
                return done
        await asyncio.sleep(deadline.pause(job))


class AsyncClient:
    """Talks to one Fleek server.

    All errors are `fleek.FleekError`; their tree is in `fleek.client.errors`. Requests that
    can be repeated are retried a few times if the server cannot be reached or its answer is lost.
    Those that create a job can: their retries have the same idempotency key, so it is one job.

    Use it as a context manager, or call `aclose`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Create a client; nothing is sent yet. `timeout` is for one answer, in seconds.

        `api_key`: None is the one in the environment variable FLEEK_API_KEY, "" is none.

        Raises:
            ConfigurationError: `url` or `api_key` cannot be used.
        """
        self._retry_policy = retry_policy or RetryPolicy()
        self._connection = AsyncConnection(
            url,
            api_key=api_key,
            timeout=timeout,
            transport=transport,
            retry_policy=self._retry_policy,
        )
        self.webhooks = AsyncWebhooks(self._connection)
        self.batches = AsyncBatches(self._connection, self._retry_policy)

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
        models: Sequence[str] | None = None,
        route: str | None = None,
        strict_parameters: bool | None = None,
        on_input_cancel: str | None = None,
        reuse_seconds: float | None = None,
        webhook_url: str | None = None,
        webhook_events: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> JobRead:
        """Create a job and return it as accepted; see `wait`.

        None means the default of the server. A parameter that takes a file is the `reference` of an
        upload, ``job:ID`` for the output of another job, an https address, or a ``data:`` URI;
        `on_input_cancel` ("fail" or "cancel"): what follows if that job is cancelled.
        `models`: in place of `model`, names in order of preference; the job goes on at the next one
        when it is certain not to be paid for at this one any more. `route`: their order, "listed",
        "cheapest" or "fastest".
        `strict_parameters`: whether a parameter that a model of the catalogue cannot express is
        refused. `run_at` must have a time zone.
        `reuse_seconds`: take the files of an equal job that completed within this time. Calls with the same
        `idempotency_key` return the same job, also from another process; default: a new key per
        call, which covers the client's own retries.

        Raises:
            InvalidInput: The request is invalid; `errors` names the fields.
            ResponseLost: No answer came, and the job may exist: call again with the same
                `idempotency_key` if you gave one, or see `jobs`.
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
                "models": None if models is None else list(models),
                "route": route,
                "strict_parameters": strict_parameters,
                "on_input_cancel": on_input_cancel,
                "reuse_seconds": reuse_seconds,
                "webhook_url": webhook_url,
                "webhook_events": None if webhook_events is None else list(webhook_events),
            }
        )
        answer = await self._connection.ask(
            "POST",
            "/api/v1/generate",
            content=content,
            headers=wire.idempotency(idempotency_key),
        )
        return wire.parse(JobRead, answer.value)

    async def estimate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        provider: str | None = None,
    ) -> EstimateRead:
        """Return what such a job will cost; it creates none. None: see `generate`.

        Raises:
            InvalidInput: The request is not well-formed.
            FleekError: Any other of `fleek.client.errors`.
        """
        fields = {"prompt": prompt, "model_name": model, "provider": provider}
        content = wire.body({**fields, "parameters": parameters})
        answer = await self._connection.ask("POST", "/api/v1/estimate", content=content)
        return wire.parse(EstimateRead, answer.value)

    async def usage(
        self,
        group_by: str = "day",
        *,
        first: date | None = None,
        last: date | None = None,
        tenant: str | None = None,
    ) -> UsageRead:
        """Return what was spent: by "day", "model", "provider", "key" or, for operators, "tenant".

        From the day `first` (None: the first of the month) to `last` (None: today), both in UTC.
        `tenant`, for operators: another one, or "*" for all.

        Raises:
            InvalidInput: The days are in the wrong order, or there is no such `group_by`.
            FleekError: Any other of `fleek.client.errors`.
        """
        params = wire.given(
            {
                "group_by": group_by,
                "tenant": tenant,
                "from": None if first is None else first.isoformat(),
                "to": None if last is None else last.isoformat(),
            }
        )
        answer = await self._connection.ask("GET", "/api/v1/usage", params=params)
        return wire.parse(UsageRead, answer.value)

    async def budgets(self, tenant: str | None = None) -> list[BudgetRead]:
        """List the budgets of the tenant and its keys, with what is spent in their current periods.

        `tenant`, for operators: another one, or "*" for all.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        params = wire.given({"tenant": tenant})
        answer = await self._connection.ask("GET", "/api/v1/budgets", params=params)
        return wire.parse_list(BudgetRead, answer.value)

    async def upload(self, file: Path | str | bytes) -> UploadRead:
        """Upload a file, given by its path or its bytes, and return the upload.

        Its `reference` is the value of a parameter, such as `image`. The same bytes are the same
        upload, which is kept for a day unless the server is set up otherwise.

        Raises:
            InvalidInput: The file cannot be read, or is empty.
            TooLarge: The server does not take such large files.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask(
            "POST",
            wire.UPLOADS,
            content=wire.file_content(file),
            headers={"content-type": "application/octet-stream"},
        )
        return wire.parse(UploadRead, answer.value)

    async def delete_upload(self, upload_id: UUID | str) -> UploadRead:
        """Remove an uploaded file before its time, and return the upload as it was.

        Raises:
            NotFound: There is no such upload.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask("DELETE", wire.upload_path(upload_id))
        return wire.parse(UploadRead, answer.value)

    async def status(self, job_id: UUID | str) -> JobRead:
        """Return the current state of a job.

        Raises:
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        return wire.parse(
            JobRead, (await self._connection.ask("GET", wire.job_path(job_id))).value
        )

    def jobs(
        self,
        status: Status | None = None,
        *,
        model: str | None = None,
        provider: str | None = None,
        kind: Kind | None = None,
        tag: str | None = None,
        favourite: bool | None = None,
        batch: UUID | str | None = None,
        q: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        oldest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[JobRead]:
        """List at most `limit` jobs, newest first; pages are requested when needed.

        All filters must hold; `q` are words of the prompt. Times must have a time zone.

        Raises:
            InvalidInput: A filter is invalid.
            FleekError: Any other of `fleek.client.errors`.
        """
        filters = {
            "status_filter": status,
            "model": model,
            "provider": provider,
            "kind": kind,
            "tag": tag,
            "favourite": None if favourite is None else str(favourite).lower(),
            "batch": None if batch is None else str(batch),
            "q": q,
            "created_after": created_after and created_after.isoformat(),
            "created_before": created_before and created_before.isoformat(),
            "order": "oldest" if oldest_first else None,
        }
        return paged(self._connection, "/api/v1/jobs", JobRead, filters, limit=limit)

    async def cancel(self, job_id: UUID | str) -> JobRead:
        """Cancel a job and return it; cancelling twice is no error.

        Raises:
            Conflict: It has completed or failed.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask("POST", wire.job_path(job_id, "cancel"))
        return wire.parse(JobCancelled, answer.value).job

    async def purge(self, job_id: UUID | str) -> JobRead:
        """Remove the files and metadata of a job permanently, and return it; idempotent.

        An unfinished job is cancelled first. The job itself can still be read.

        Raises:
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask(
            "DELETE", wire.job_path(job_id), params={"purge": "true"}
        )
        return wire.parse(JobCancelled, answer.value).job

    async def retry(
        self, job_id: UUID | str, *, again: bool = False, idempotency_key: str | None = None
    ) -> JobRead:
        """Retry a failed or cancelled job, and return the new job.

        All retries of a job are one job: a retry that is unfinished, or has completed and still
        has its files, is returned instead. `again` creates another one in any case.
        `idempotency_key`: see `generate`.

        Raises:
            Conflict: It has not ended, or has completed.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask(
            "POST",
            wire.job_path(job_id, "retry"),
            headers=wire.idempotency(idempotency_key),
            params={"again": "true"} if again else None,
        )
        return wire.parse(JobRead, answer.value)

    async def collect(self, job_id: UUID | str) -> JobRead:
        """Collect the paid result of a failed job again, and return the job; see `wait`.

        Nothing is paid for again. A job that has completed is returned as it is.

        Raises:
            Conflict: None of its predictions succeeded, or it was cancelled.
            Gone: Its result was purged, or has expired at the provider.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = await self._connection.ask("POST", wire.job_path(job_id, "collect"))
        return wire.parse(JobRead, answer.value)

    def events(
        self,
        job_id: UUID | str | None = None,
        *,
        after: str | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> AsyncIterator[Event]:
        """Follow a job until it has ended, or all jobs of the tenant for as long as you iterate.

        A lost connection and a restart of the server are tolerated; no event is left out. `after`
        is the id of an event that you have: those after it follow. Without it, a job is followed from
        its beginning, and all jobs from now on. `on_connection` is called with True when the stream has
        been opened, and with False when it was cut off.

        Raises:
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        path = wire.events_path(job_id)
        return follow(
            self._connection,
            path,
            self._retry_policy,
            read_event,
            after=after,
            on_connection=on_connection,
        )

    async def logs(self, job_id: UUID | str) -> str:
        """Return what the model has printed so far; empty if the provider has no logs.

        The text is untrusted: it may contain control characters.

        Raises:
            Gone: The logs of the job were purged.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        return await self._connection.text(wire.job_path(job_id, "logs"))

    def follow_logs(
        self,
        job_id: UUID | str,
        *,
        after: str | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> AsyncIterator[LogPiece]:
        """Follow what the model prints until the job has ended; see `events`.

        Raises:
            Gone: The logs of the job were purged.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        path = f"{wire.job_path(job_id, 'logs')}?follow=true"
        return follow(
            self._connection,
            path,
            self._retry_policy,
            read_piece,
            after=after,
            on_connection=on_connection,
        )

    async def wait(
        self,
        job_id: UUID | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the job goes on; nothing is cancelled
        on_update: Callable[[JobRead], None] | None = None,
    ) -> JobRead:
        """Wait until a job has completed, and return it; a restart of the server is tolerated.

        `timeout` is in seconds; None: unlimited. `on_update` gets the job after every poll.

        Raises:
            JobFailed: It has failed or was cancelled.
            WaitTimeout: It has not ended within `timeout`.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        deadline = WaitDeadline(self._retry_policy, timeout)
        return await until_completed(lambda: self.status(job_id), deadline, on_update)

    async def download(
        self, job_id: UUID | str, to: Path | str | None = None, *, index: int = 0
    ) -> Path:
        """Save one output of a completed job and return its path.

        `to` is a folder (None: the current one), in which the file is named after the job, or the
        path of the file. It appears complete and verified, or not at all.

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

    async def models(
        self,
        *,
        q: str | None = None,
        kind: str | None = None,
        provider: str | None = None,
        available: bool | None = None,
    ) -> list[ModelRead]:
        """List the models of the configured providers, and those of the catalogue.

        Args:
            q: Words that the names or the description contain.
            kind: What they make: "image", "video", "audio", "animation", "text".
            provider: One that runs them.
            available: Whether a configured provider runs them; None: both.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        path = wire.models_path(q=q, kind=kind, provider=provider, available=available)
        return wire.parse_list(ModelRead, (await self._connection.ask("GET", path)).value)

    async def model(self, name: str) -> ModelRead:
        """Return one model, with the JSON schema of its parameters where it is known.

        Raises:
            NotFound: No provider has it.
            FleekError: Any other of `fleek.client.errors`.
        """
        return wire.parse(
            ModelRead, (await self._connection.ask("GET", wire.model_path(name))).value
        )

    async def health(self) -> dict[str, Any]:
        """Return the server's health, component by component.

        Its ``status`` is "healthy", "degraded", or "unhealthy" if it cannot accept jobs.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        answer = await self._connection.ask("GET", "/health/detailed", accept_statuses=(503,))
        return wire.mapping(answer.value)
