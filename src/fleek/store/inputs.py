"""What jobs that have not ended need as their inputs: uploads, and outputs of other jobs.

A job is accepted only with inputs that are there, checked under their rows' locks; what removes them
takes these locks too, and looks at the links afterwards. So nothing is removed that a job needs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Integer, Uuid, bindparam, insert, select, text, tuple_

from fleek.domain.errors import FieldError, FleekError, InvalidInput
from fleek.domain.inputs import InputKind, MediaInput
from fleek.domain.job import Job, JobId, Status
from fleek.domain.media import Key, Media
from fleek.domain.uploads import Upload, UploadId
from fleek.store import rows
from fleek.store.database import Database, Transaction
from fleek.store.prepared import Query, Write
from fleek.store.tables import KEPT, AttemptRow, JobInputRow, JobRow, MediaRow, UploadRow

INSERT_LINKS: Final = Write(
    insert(JobInputRow), columns=("job_id", "number", "upload_id", "source_id", "waiting")
)
LOCK_SOURCES: Final = (
    select(JobRow.id, JobRow.tenant_id, JobRow.status, JobRow.purged_at)
    .where(JobRow.id.in_(bindparam("ids", expanding=True)))
    .order_by(JobRow.id)
    .with_for_update(read=True)
)
LOCK_UPLOADS: Final = (
    select(UploadRow.id, UploadRow.tenant_id)
    .where(UploadRow.id.in_(bindparam("ids", expanding=True)), UploadRow.stored, text(KEPT))
    .order_by(UploadRow.id)
    .with_for_update(read=True)
)
OUTPUTS: Final = select(MediaRow.job_id, MediaRow.index).where(
    MediaRow.job_id.in_(bindparam("ids", expanding=True))
)
USED_UPLOADS: Final = select(JobInputRow.upload_id).where(
    JobInputRow.upload_id.in_(bindparam("ids", expanding=True))
)
REUSED_JOBS: Final = (
    select(AttemptRow.job_id)
    .join_from(AttemptRow, MediaRow, MediaRow.attempt_id == AttemptRow.id)
    .where(
        AttemptRow.job_id.in_(bindparam("ids", expanding=True)),
        MediaRow.job_id != AttemptRow.job_id,
    )
)
USED_JOBS: Final = select(JobInputRow.source_id).where(
    JobInputRow.source_id.in_(bindparam("ids", expanding=True))
)


async def check(tx: Transaction, jobs: Sequence[Job]) -> Mapping[JobId, FleekError]:
    """Return which of these new jobs refer to something that is not there, and why."""
    referring = [job for job in jobs if job.inputs]
    if not referring:
        return {}
    known = await _Known.read(tx, referring)
    refused: dict[JobId, FleekError] = {}
    for job in referring:
        errors = [error for each in job.inputs if (error := known.problem(job, each)) is not None]
        if errors:
            message = "an input of the job is not there"
            refused[job.id] = InvalidInput(message, code=errors[0].code, errors=errors)
    return refused


async def check_now(db: Database, jobs: Sequence[Job]) -> Mapping[JobId, FleekError]:
    """Return what `check` does, for jobs that are to be accepted later."""
    if not any(job.inputs for job in jobs):
        return {}
    async with db.write() as tx:
        return await check(tx, jobs)


class _Known:
    """The uploads and jobs that new jobs refer to, locked."""

    def __init__(
        self,
        sources: Mapping[UUID, Mapping[Any, Any]],
        uploads: Mapping[UUID, str],
        outputs: frozenset[tuple[UUID, int]],
    ) -> None:
        self._sources = sources
        self._uploads = uploads
        self._outputs = outputs

    @classmethod
    async def read(cls, tx: Transaction, jobs: Iterable[Job]) -> "_Known":
        """Read and lock them: jobs first, in the order of their ids, then uploads."""
        named = [each for job in jobs for each in job.inputs]
        sources: dict[UUID, Mapping[Any, Any]] = {}
        outputs: frozenset[tuple[UUID, int]] = frozenset()
        if ids := _ids(named, InputKind.JOB):
            found = await tx.execute(LOCK_SOURCES, {"ids": rows.padded(ids)})
            sources = {row["id"]: row for row in found.mappings()}
            files = await tx.execute(OUTPUTS, {"ids": rows.padded(ids)})
            outputs = frozenset((job_id, index) for job_id, index in files)
        uploads: dict[UUID, str] = {}
        if ids := _ids(named, InputKind.UPLOAD):
            kept = await tx.execute(LOCK_UPLOADS, {"ids": rows.padded(ids)})
            uploads = {row["id"]: row["tenant_id"] for row in kept.mappings()}
        return cls(sources, uploads, outputs)

    def problem(self, job: Job, wanted: MediaInput) -> FieldError | None:
        """Return what is wrong with a reference; what belongs to another tenant is not there."""
        if wanted.id is None:
            return None
        named = UUID(wanted.id)
        if wanted.kind is InputKind.UPLOAD:
            there = self._uploads.get(named) == job.tenant_id
            found = None if there else ("unknown_upload", "there is no such upload")
        else:
            found = self._source_problem(job, named, wanted.index)
        return None if found is None else FieldError(f"/parameters{wanted.pointer}", *found)

    def _source_problem(self, job: Job, source_id: UUID, index: int) -> tuple[str, str] | None:
        source = self._sources.get(source_id)
        if source is None or source["tenant_id"] != job.tenant_id:
            return ("unknown_job", "there is no such job")
        status = Status(source["status"])
        if source["purged_at"] is not None:
            return ("input_gone", "the files of that job were removed")
        if status is Status.COMPLETED and (source_id, index) not in self._outputs:
            return ("unknown_output", "that job has no output with this index")
        if status in {Status.FAILED, Status.CANCELLED}:
            return ("input_failed", f"that job is {status}: it has no output")
        return None


def _ids(named: Iterable[MediaInput], kind: InputKind) -> list[UUID]:
    return sorted({UUID(each.id) for each in named if each.kind is kind})


async def insert_links(tx: Transaction, jobs: Iterable[Job]) -> None:
    """Store what new jobs refer to."""
    links = [
        _link(job, number, wanted)
        for job in jobs
        for number, wanted in enumerate(job.inputs)
        if wanted.id is not None
    ]
    await INSERT_LINKS.run(tx, links)


def _link(job: Job, number: int, wanted: MediaInput) -> rows.Values:
    named = UUID(wanted.id)
    return {
        "job_id": job.id,
        "number": number,
        "upload_id": named if wanted.kind is InputKind.UPLOAD else None,
        "source_id": named if wanted.kind is InputKind.JOB else None,
        "waiting": wanted.kind is InputKind.JOB and job.waits_for_input,
    }


async def uploads_in_use(tx: Transaction, ids: Sequence[UploadId]) -> set[UploadId]:
    """Return which of these uploads a job needs that has not ended."""
    if not ids:
        return set()
    found = await tx.scalars(USED_UPLOADS, {"ids": rows.padded(sorted(ids))})
    return {UploadId(upload_id) for upload_id in found if upload_id}


async def jobs_in_use(db: Database, ids: Sequence[JobId]) -> set[JobId]:
    """Return which of these jobs have outputs that another job needs.

    That is one that has not ended and takes them as inputs, or one that has reused them.
    """
    if not ids:
        return set()
    given = {"ids": rows.padded(sorted(ids))}
    async with db.read() as tx:
        needed = {*await tx.scalars(USED_JOBS, given), *await tx.scalars(REUSED_JOBS, given)}
    return {JobId(job_id) for job_id in needed if job_id}


async def sources(db: Database, job: Job) -> Mapping[JobId, Status]:
    """Return the status of each job whose output a job needs; those that are not there are left out."""
    ids = _ids(job.inputs, InputKind.JOB)
    if not ids:
        return {}
    columns = (JobRow.id, JobRow.tenant_id, JobRow.status)
    statement = select(*columns).where(JobRow.id.in_(rows.padded(ids)))
    async with db.read() as tx:
        return {
            JobId(found): Status(status)
            for found, tenant_id, status in await tx.execute(statement)
            if tenant_id == job.tenant_id
        }


async def output(db: Database, source_id: JobId, *, index: int, tenant_id: str) -> Media | None:
    """Return an output of a completed job, also of one whose purge waits for what needs it."""
    statement = (
        select(MediaRow.__table__)
        .join(JobRow, JobRow.id == MediaRow.job_id)
        .where(
            MediaRow.job_id == source_id, MediaRow.index == index, JobRow.tenant_id == tenant_id
        )
    )
    async with db.read() as tx:
        row = (await tx.execute(statement)).mappings().first()
    return None if row is None else rows.MEDIA.read(row)


_PLACE: Final = (JobInputRow.job_id, JobInputRow.number)


def _waiting(page: Any) -> Query[Any]:
    """Return the query of such links, and of the jobs that they wait for."""
    links = page.where(text("waiting")).order_by(*_PLACE).limit(bindparam("most")).subquery()
    return Query(
        select(links.c.job_id, links.c.number, JobRow.id, JobRow.completed_at)
        .outerjoin(JobRow, JobRow.id == links.c.source_id)
        .order_by(links.c.job_id, links.c.number)
    )


_LINKS: Final = select(*_PLACE, JobInputRow.source_id)
WAITING: Final = _waiting(_LINKS)
WAITING_AFTER: Final = _waiting(
    _LINKS.where(
        tuple_(*_PLACE)
        > tuple_(bindparam("job_id", type_=Uuid), bindparam("number", type_=Integer))
    )
)


class WaitingLink(NamedTuple):
    """A job that waits for another one to end."""

    job_id: JobId
    number: int
    ended: bool  # whether the other one has ended, or is not there any more


async def waiting(
    db: Database, *, after: tuple[JobId, int] | None, limit: int
) -> list[WaitingLink]:
    """Return jobs that wait for others, in the order of their ids, from behind `after`."""
    async with db.read() as tx:
        if after is None:
            found = await WAITING.rows(tx, most=limit)
        else:
            found = await WAITING_AFTER.rows(tx, job_id=after[0], number=after[1], most=limit)
    return [
        WaitingLink(JobId(job_id), number, source is None or ended is not None)
        for job_id, number, source, ended in found
    ]


async def fetched(db: Database, job_id: JobId, number: int) -> Key | None:
    """Return where the file is that was fetched for an input of a job; None: none was."""
    statement = (
        select(UploadRow.key)
        .join(JobInputRow, JobInputRow.upload_id == UploadRow.id)
        .where(JobInputRow.job_id == job_id, JobInputRow.number == number)
    )
    async with db.read() as tx:
        key = await tx.scalar(statement)
    return None if key is None else Key(key)


async def keep_fetched(db: Database, job_id: JobId, number: int, upload: Upload) -> Key:
    """Keep a fetched file until its job has ended, and return where the job's input is.

    If another process has fetched it meanwhile, that is the other's.
    """
    live = select(JobRow.id).where(JobRow.id == job_id, JobRow.completed_at.is_(None))
    link = {"job_id": job_id, "number": number, "upload_id": upload.id, "waiting": False}
    async with db.write() as tx:
        if await tx.scalar(live.with_for_update(read=True)) is not None:
            await tx.execute(LOCK_UPLOADS, {"ids": [upload.id]})
            await tx.execute(rows.insert_absent(db.kind, JobInputRow).values(link))
    return await fetched(db, job_id, number) or upload.key
