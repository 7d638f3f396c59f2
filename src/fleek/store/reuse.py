"""The files of an equal job for a new one, in the commit that accepts it.

The new job has rows of its own for the files, which stay under the names that they have. So the files
belong to the job that made them, and are kept as long as any job has them: see `fleek.store.inputs`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import LargeBinary, String, bindparam, select, text

from fleek.domain.job import Change, Job, JobId
from fleek.domain.media import Media
from fleek.domain.transitions import reuse
from fleek.domain.values import dataclass
from fleek.store import rows
from fleek.store.database import Transaction
from fleek.store.tables import REUSABLE, Instant, JobRow, MediaRow
from fleek.store.updates import INSERT_MEDIA, JOBS

FIND: Final = (
    select(JobRow.id)
    .where(
        JobRow.tenant_id == bindparam("tenant_id", type_=String),
        JobRow.content == bindparam("content", type_=LargeBinary),
        JobRow.completed_at >= bindparam("since", type_=Instant),
        text(REUSABLE),
    )
    .order_by(JobRow.completed_at.desc())
    .limit(1)
)
LOCK: Final = (
    select(JOBS)
    .where(JobRow.id.in_(bindparam("ids", expanding=True)), text(REUSABLE))
    .order_by(JobRow.id)
    .with_for_update(read=True)
)
FILES: Final = (
    select(MediaRow.__table__)
    .where(MediaRow.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(MediaRow.job_id, MediaRow.index)
)


@dataclass(frozen=True, slots=True)
class Reused:
    """A new job that has completed with the files of another one."""

    job: Job  # as it is stored
    change: Change  # by which it completed
    media: Sequence[Media]


async def find(tx: Transaction, wanted: Sequence[tuple[Job, datetime]]) -> dict[JobId, Reused]:
    """Return what these new jobs become for which there is an equal one, completed since a time.

    It is locked against a purge until this transaction has ended.
    """
    sources: dict[JobId, JobId] = {}
    for job, since in wanted:
        values = {"tenant_id": job.tenant_id, "content": job.content, "since": since}
        found = None if job.content is None else await tx.scalar(FIND, values)
        if found is not None:
            sources[job.id] = JobId(found)
    if not sources:
        return {}
    ids = rows.padded(sorted(set(sources.values())))
    locked = await tx.execute(LOCK, {"ids": ids})
    there = {job.id: job for job in map(rows.JOB.read, locked.mappings())}
    files: dict[JobId, list[Media]] = {job_id: [] for job_id in there}
    for row in (await tx.execute(FILES, {"ids": ids})).mappings():
        media = rows.MEDIA.read(row)
        files.get(media.job_id, []).append(media)
    return {
        job.id: _reused(job, there[source_id], files[source_id])
        for job, _ in wanted
        if (source_id := sources.get(job.id)) in there and files[source_id]
    }


def _reused(job: Job, source: Job, files: Sequence[Media]) -> Reused:
    change = reuse(job, source, now=job.created_at, outputs=len(files))
    ended = replace(change.job, version=job.version + 1)
    media = [replace(file, job_id=job.id) for file in files]
    return Reused(ended, replace(change, job=ended), media)


async def insert_media(tx: Transaction, reused: Sequence[Reused]) -> None:
    """Store the rows of their files."""
    await INSERT_MEDIA.run(tx, [media for each in reused for media in each.media])
