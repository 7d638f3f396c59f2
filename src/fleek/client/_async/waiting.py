"""Polls a job, at growing intervals, until it has ended."""

import asyncio
from collections.abc import Awaitable, Callable

from fleek.client.errors import ClientError
from fleek.client.retry_policy import WaitDeadline, completed
from fleek.schemas import JobRead


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
