"""Waiting for many jobs at once."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from fleek.cli.progress import Display
from fleek.domain.job import TERMINAL

if TYPE_CHECKING:
    from fleek.client import Client
    from fleek.schemas import JobRead


def follow(
    client: "Client", left: list[UUID], display: Display, *, timeout: float | None
) -> "Iterator[JobRead]":
    """Yield each job once it has ended, in the order in which that is seen.

    `left` loses its id then, so that the caller knows which jobs go on, whatever happens.
    `timeout` is in seconds; None: as long as it takes. A server that restarts is borne.

    Raises:
        WaitTimeout: One goes on after `timeout`.
        FleekError: See `fleek.client.errors`.
    """
    from fleek.client import ClientError, RetryPolicy  # noqa: PLC0415 - heavy
    from fleek.client.retry_policy import WaitDeadline  # noqa: PLC0415 - heavy

    vigil = WaitDeadline(RetryPolicy(), timeout)
    silent = False
    while left:
        for job_id in tuple(left):
            try:
                job = client.status(job_id)
            except ClientError as error:
                vigil.bear(error)
                if not silent:
                    display.say(f"{error}; waiting for it")
                silent = True
                break
            vigil.heard()
            silent = False
            display.show(job)
            if job.status in TERMINAL:
                left.remove(job_id)
                yield job
        if left:
            time.sleep(vigil.pause(None))
