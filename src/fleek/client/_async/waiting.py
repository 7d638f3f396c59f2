"""Waiting for a job: looks at it, further and further apart, until it has ended."""

import asyncio
from collections.abc import Awaitable, Callable

from fleek.client.errors import ClientError
from fleek.client.retry_policy import WaitDeadline, completed
from fleek.schemas import JobRead


async def until_completed(
    look: Callable[[], Awaitable[JobRead]],
    vigil: WaitDeadline,
    on_update: Callable[[JobRead], None] | None,
) -> JobRead:
    """Return the job that `look` gives once it has completed; every look goes to `on_update`.

    Raises:
        JobFailed: It has ended as failed or cancelled.
        WaitTimeout: The vigil is over and the job is not.
        FleekError: What `look` raises and the vigil does not bear.
    """
    job: JobRead | None = None
    while True:
        try:
            job = await look()
        except ClientError as error:
            vigil.bear(error)
        else:
            vigil.heard()
            if on_update is not None:
                on_update(job)
            if (done := completed(job)) is not None:
                return done
        await asyncio.sleep(vigil.pause(job))
