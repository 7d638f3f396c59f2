"""Waits for many jobs at once."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from fleek.cli.progress import Display
from fleek.domain.job import TERMINAL

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.schemas import JobRead


def wait_many(
    client: "Client", left: list[UUID], display: Display, *, timeout: float | None
) -> "Iterator[JobRead]":
    """Yield each job once it has ended.

    Its id is removed from `left`, so that the caller always knows which jobs have not ended.
    `timeout` is in seconds; None: unlimited. A restart of the server is tolerated.

    Raises:
        WaitTimeout: A job has not ended within `timeout`.
        FleekError: See `fleek.client.errors`.
    """
    from fleek.client import ClientError, RetryPolicy  # noqa: PLC0415 - heavy
    from fleek.client.retry_policy import WaitDeadline  # noqa: PLC0415 - heavy

    deadline = WaitDeadline(RetryPolicy(), timeout)
    unreachable = False
    while left:
        for job_id in tuple(left):
            try:
                job = client.status(job_id)
            except ClientError as error:
                deadline.tolerate(error)
                if not unreachable:
                    display.say(f"{error}; retrying")
                unreachable = True
                break
            deadline.answered()
            unreachable = False
            display.show(job)
            if job.status in TERMINAL:
                left.remove(job_id)
                yield job
        if left:
            time.sleep(deadline.pause(None))
