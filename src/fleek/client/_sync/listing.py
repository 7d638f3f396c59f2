"""Paged lists of jobs."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from collections.abc import Iterator

from fleek.client import wire
from fleek.client._sync.connection import Connection
from fleek.domain.job import Status
from fleek.schemas import JobRead

PAGE = 100  # jobs per request


def list_jobs(
    connection: Connection, *, status: Status | None, limit: int | None
) -> Iterator[JobRead]:
    """Yield at most `limit` jobs, newest first; pages are requested when needed."""
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        given = {"limit": size, "status_filter": status, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        answer = connection.ask("GET", "/api/v1/jobs", params=params)
        page = wire.parse_list(JobRead, answer.value)[:size]
        yield from page
        left = None if left is None else left - len(page)
        cursor = answer.next_cursor
        if cursor is None or not page:
            return
