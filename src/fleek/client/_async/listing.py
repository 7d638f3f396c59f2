"""Paged lists of jobs."""

from collections.abc import AsyncIterator

from fleek.client import wire
from fleek.client._async.connection import AsyncConnection
from fleek.domain.job import Status
from fleek.schemas import JobRead

PAGE = 100  # jobs per request


async def list_jobs(
    connection: AsyncConnection, *, status: Status | None, limit: int | None
) -> AsyncIterator[JobRead]:
    """Yield at most `limit` jobs, newest first; pages are requested when needed."""
    left = limit
    cursor: str | None = None
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        given = {"limit": size, "status_filter": status, "cursor": cursor}
        params = {name: value for name, value in given.items() if value is not None}
        answer = await connection.ask("GET", "/api/v1/jobs", params=params)
        page = wire.parse_list(JobRead, answer.value)[:size]
        for job in page:
            yield job
        left = None if left is None else left - len(page)
        cursor = answer.next_cursor
        if cursor is None or not page:
            return
