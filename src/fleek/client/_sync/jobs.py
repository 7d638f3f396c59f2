"""The jobs of the synchronous client: read, follow, wait for, cancel, remove."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fleek.client import saving, wire
from fleek.client._sync.events import follow
from fleek.client._sync.paging import paged
from fleek.client._sync.results import Result
from fleek.client.errors import ClientError
from fleek.client.events import Event, LogPiece, read_event, read_piece
from fleek.client.models import JobCancelled, JobRead
from fleek.client.retry_policy import RetryPolicy, WaitDeadline, completed
from fleek.domain.job import Kind, Status

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection


def until_completed(
    poll: Callable[[], JobRead],
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
            job = poll()
        except ClientError as error:
            deadline.tolerate(error)
        else:
            deadline.answered()
            if on_update is not None:
                on_update(job)
            if (done := completed(job)) is not None:
                return done
        time.sleep(deadline.pause(job))


class Jobs:
    """Jobs that were submitted; part of `Client`."""

    _connection: "Connection"
    _retry_policy: RetryPolicy

    def status(self, job_id: UUID | str) -> JobRead:
        """Return the current state of a job.

        Raises:
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        return wire.parse(JobRead, (self._connection.ask("GET", wire.job_path(job_id))).value)

    def jobs(
        self,
        status: Status | Sequence[Status] | None = None,
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
    ) -> Iterator[JobRead]:
        """List at most `limit` jobs, newest first; pages are requested when needed.

        All filters must hold, of several statuses one; `q` are words of the prompt. Times must have a time zone.

        Raises:
            InvalidInput: A filter is invalid.
            FleekError: Any other of `fleek.client.errors`.
        """
        filters = {
            "status_filter": [status] if isinstance(status, str) else status,
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

    def cancel(self, job_id: UUID | str) -> JobRead:
        """Cancel a job and return it; cancelling twice is no error.

        Raises:
            Conflict: It has completed or failed.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask("POST", wire.job_path(job_id, "cancel"))
        return wire.parse(JobCancelled, answer.value).job

    def purge(self, job_id: UUID | str) -> JobRead:
        """Remove the files and metadata of a job permanently, and return it; idempotent.

        An unfinished job is cancelled first. The job itself can still be read.

        Raises:
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask("DELETE", wire.job_path(job_id), params={"purge": "true"})
        return wire.parse(JobCancelled, answer.value).job

    def collect(self, job_id: UUID | str) -> JobRead:
        """Collect the paid result of a failed job again, and return the job; see `wait`.

        Nothing is paid for again. A job that has completed is returned as it is.

        Raises:
            Conflict: None of its predictions succeeded, or it was cancelled.
            Gone: Its result was purged, or has expired at the provider.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask("POST", wire.job_path(job_id, "collect"))
        return wire.parse(JobRead, answer.value)

    def events(
        self,
        job_id: UUID | str | None = None,
        *,
        after: str | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> Iterator[Event]:
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

    def logs(self, job_id: UUID | str) -> str:
        """Return what the model has printed so far; empty if the provider has no logs.

        The text is untrusted: it may contain control characters.

        Raises:
            Gone: The logs of the job were purged.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        return self._connection.text(wire.job_path(job_id, "logs"))

    def follow_logs(
        self,
        job_id: UUID | str,
        *,
        after: str | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> Iterator[LogPiece]:
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

    def wait(
        self,
        job_id: UUID | str,
        *,
        timeout: float | None = None,
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
        return until_completed(lambda: self.status(job_id), deadline, on_update)

    def result(
        self,
        job_id: UUID | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[JobRead], None] | None = None,
    ) -> Result:
        """Wait until a job has completed, and return its outputs; see `wait`.

        Raises:
            JobFailed: It has failed or was cancelled.
            WaitTimeout: It has not ended within `timeout`.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        job = self.wait(job_id, timeout=timeout, on_update=on_update)
        return Result(job, self._connection)

    def download(
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
        job = self.status(job_id)
        output = saving.output_of(job, index)
        path = saving.target(to, job, output)
        url = f"{wire.job_path(job.id, root='download')}?index={index}"
        self._connection.fetch(url, path, sha256=output.sha256)
        return path

    def metadata(self, job_id: UUID | str) -> dict[str, Any]:
        """Return the metadata document of a completed job.

        Raises:
            NotFound: There is no such job, or no document yet.
            Gone: The document was purged.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask("GET", wire.job_path(job_id, "metadata"))
        return wire.mapping(answer.value)
