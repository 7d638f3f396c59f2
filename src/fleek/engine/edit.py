"""Change what belongs to a job's caller alone: its favourite mark, its tags and its metadata."""

from collections.abc import Mapping
from typing import Any

from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound
from fleek.domain.job import Job, JobId
from fleek.domain.transitions import edit as edited
from fleek.engine.apply import apply
from fleek.engine.runtime import Runtime
from fleek.store.updates import Update


async def edit(rt: Runtime, job_id: JobId, fields: Mapping[str, Any], *, tenant_id: str) -> Job:
    """Change these fields of a job, whatever its state; returns it.

    Raises:
        NotFound: There is no such job.
    """

    def decide(job: Job, _: Attempt | None) -> Update:
        if job.tenant_id != tenant_id:
            raise NotFound("there is no such job")
        changes = {name: value for name, value in fields.items() if value != getattr(job, name)}
        return Update(change=edited(job, changes, now=rt.now()) if changes else None)

    applied = await apply(
        rt, job_id, decide, event="updated", patience=rt.settings.max_write_wait_seconds
    )
    return applied.job
