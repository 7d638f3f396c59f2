"""Jobs: accept, find and list them. They change only in `fleek.store.updates`."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    and_,
    insert,
    or_,
    select,
    tuple_,
)

from fleek.domain.charges import Movement, charge_of
from fleek.domain.errors import (
    BudgetExceeded,
    Conflict,
    DatabaseUnavailable,
    FleekError,
    Gone,
    NotFound,
    Overloaded,
    TooManyJobs,
    WriteUnknown,
)
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import Change, Job, JobId, Status, WorkerId
from fleek.domain.media import Media
from fleek.domain.values import dataclass
from fleek.store import inputs, reuse, rows
from fleek.store.clock import Leap
from fleek.store.counters import count_accepted
from fleek.store.database import IN_PLACE, Database, Transaction
from fleek.store.event_stream import INSERT_EVENTS
from fleek.store.idempotency import Claim, Earlier, claim, claim_order, find, release
from fleek.store.limits import free_places
from fleek.store.owed import Occurrence, Presenter, insert_owed
from fleek.store.prepared import Query, Write
from fleek.store.queue import COLLECTING
from fleek.store.reuse import Reused
from fleek.store.spend import Spend
from fleek.store.tables import JobRow, MediaRow
from fleek.store.updates import IDS, INSERT_TAGS, JOBS, LOCK_JOBS

INSERT_JOBS: Final = Write(insert(JobRow), mapper=rows.JOB)
SELECT_JOBS: Final = Query(select(JOBS).where(JobRow.id.in_(IDS)), rows.JOB)
SELECT_VERSIONS: Final = Query[Any](
    select(JobRow.id, JobRow.version, JobRow.completed_at.is_not(None)).where(JobRow.id.in_(IDS))
)
SELECT_MEDIA: Final = Query(
    select(MediaRow.__table__)
    .where(MediaRow.job_id.in_(IDS))
    .order_by(MediaRow.job_id, MediaRow.index),
    rows.MEDIA,
)
RETRYABLE: Final = frozenset({Status.FAILED, Status.CANCELLED})
FULL_RETRY_AFTER: Final = timedelta(seconds=30)
NONE_REUSED: Final[Mapping[JobId, Reused]] = {}
LEAPS: Final = 20  # of the clock that are applied one by one; older ones count together


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its stored files, in the order of their index."""

    job: Job
    media: tuple[Media, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The outcome of a request that creates a job."""

    job: Job
    created: bool = True  # False: a retry that exists
    replayed: bool = False  # whether an earlier request, which this one repeats, had this outcome


@dataclass(frozen=True, slots=True)
class _Submission:
    """A job to be accepted."""

    job: Job
    present: Presenter | None  # of its events
    identity: RequestIdentity | None  # of the request
    max_live: int | None  # most jobs of its tenant that have not ended
    reuse_since: datetime | None = None  # files of an equal job may be its own, completed since


async def insert_job(
    db: Database,
    job: Job,
    *,
    identity: RequestIdentity | None = None,
    max_live: int | None = None,
    present: Presenter | None = None,
    patience: timedelta | None = None,
    reuse_since: datetime | None = None,
) -> Accepted:
    """Accept a job: when this returns, it survives whatever happens to the process.

    If the request repeats another by its `identity`, the result is the job of that one instead.
    `max_live`: how many jobs of the tenant may not have ended, this one included; `present`: for the webhooks that are owed; `patience`: how long it may wait for its turn.

    Raises:
        IdempotencyKeyReused: Its key is that of another request.
        TooManyJobs: It is not accepted: `max_live` of the tenant have not ended.
        BudgetExceeded: It is not accepted: a budget has no room for it.
        Overloaded: It is not accepted: its turn did not come in time.
        WriteUnknown: It may or may not have been accepted.
        DatabaseUnavailable: It is not accepted.
        StorageFull: It is not accepted.
    """
    submission = _Submission(job, present, identity, max_live, reuse_since)
    try:
        return await db.grouped_write(
            _insert_all, submission, patience=patience, most_in_place=IN_PLACE
        )
    except Overloaded:
        raise
    except DatabaseUnavailable as error:
        # The connection may have been lost after the commit: what was written counts.
        if not await _is_there(db, job.id, after=error):
            raise
        return Accepted(job)


async def _is_there(db: Database, job_id: JobId, *, after: DatabaseUnavailable) -> bool:
    try:
        return await db.grouped_read(_get_all, job_id, short=True) is not None
    except DatabaseUnavailable:
        raise WriteUnknown(str(after)) from after


async def _insert_all(
    tx: Transaction, submissions: Sequence[_Submission]
) -> list[Accepted | FleekError]:
    earlier = await _claimed(tx, submissions)
    new = [each for each in submissions if id(each) not in earlier]
    reused = await _find_reused(tx, new)
    refused = await _insert_new(tx, new, reused)
    repeated = [found.job_id for found in earlier.values() if isinstance(found, Earlier)]
    found_jobs = await _read_jobs(tx, repeated)
    results: list[Accepted | FleekError] = []
    for each in submissions:
        found = earlier.get(id(each))
        job = reused[each.job.id].job if each.job.id in reused else each.job
        outcome = Accepted(job) if found is None else _outcome(found, found_jobs)
        job_id = found.job_id if isinstance(found, Earlier) else each.job.id
        results.append(refused.get(job_id, outcome))
    return results


async def _claimed(
    tx: Transaction, submissions: Sequence[_Submission]
) -> dict[int, Earlier | FleekError]:
    """Return what those submissions repeat that repeat anything, by the submission's `id`."""
    identified = [
        (id(each), Claim(each.identity, each.job.id, created=True, at=each.job.created_at))
        for each in submissions
        if each.identity is not None
    ]
    if not identified:
        return {}
    found = await claim(tx, [claimed for _, claimed in identified])
    pairs = zip(identified, found, strict=True)
    return {number: earlier for (number, _), earlier in pairs if earlier is not None}


async def _read_jobs(tx: Transaction, job_ids: Sequence[JobId]) -> dict[JobId, Job]:
    if not job_ids:
        return {}
    found = await SELECT_JOBS.values(tx, ids=rows.padded(sorted(set(job_ids))))
    return {job.id: job for job in found}


def _outcome(
    earlier: Earlier | FleekError, found_jobs: Mapping[JobId, Job]
) -> Accepted | FleekError:
    if isinstance(earlier, FleekError):
        return earlier
    if (job := found_jobs.get(earlier.job_id)) is None:
        return Gone("the job that this request created has been removed")
    return Accepted(job, created=earlier.created, replayed=True)


async def _find_reused(tx: Transaction, submissions: Sequence[_Submission]) -> dict[JobId, Reused]:
    wanted = [(each.job, each.reuse_since) for each in submissions if each.reuse_since is not None]
    return await reuse.find(tx, wanted) if wanted else {}


async def _insert_new(
    tx: Transaction,
    submissions: Sequence[_Submission],
    reused: Mapping[JobId, Reused] = NONE_REUSED,
) -> Mapping[JobId, FleekError]:
    """Insert jobs as far as the limits of their tenants allow; returns which are refused."""
    unusable = await inputs.check(tx, [each.job for each in submissions])
    usable = [each for each in submissions if each.job.id not in unusable]
    live = [each for each in usable if each.job.id not in reused]
    spend = Spend(tx)
    refused = {**unusable, **await _over_limit(tx, live, spend)}
    if refused:
        await release(tx, [each.job for each in submissions if each.job.id in refused])
    if accepted := [each for each in submissions if each.job.id not in refused]:
        await spend.write()
        await _insert_accepted(tx, accepted, reused)
    return refused


async def insert_together(
    tx: Transaction,
    jobs: Sequence[Job],
    *,
    max_live: int | None,
    present: Presenter | None,
    reuse_since: Mapping[JobId, datetime],
) -> Mapping[JobId, FleekError]:
    """Insert jobs in a transaction of the caller, who undoes it if any is refused: returns which."""
    submissions = [
        _Submission(job, present, None, max_live, reuse_since.get(job.id)) for job in jobs
    ]
    return await _insert_new(tx, submissions, await _find_reused(tx, submissions))


async def _over_limit(
    tx: Transaction, submissions: Sequence[_Submission], spend: Spend
) -> Mapping[JobId, FleekError]:
    """Return which submissions exceed a limit or a budget; the others take their place in both."""
    limits = {each.job.tenant_id: each.max_live for each in submissions}
    known = {tenant_id: most for tenant_id, most in limits.items() if most is not None}
    places = await free_places(tx, known) if known else {}
    charged = {each.job.id: charge_of(each.job) for each in submissions if each.job.charged}
    await spend.lock({charge.payer for charge in charged.values() if charge.reserved})
    refused: dict[JobId, FleekError] = {}
    for each in submissions:
        tenant_id = each.job.tenant_id
        if places.get(tenant_id, 1) < 1:
            refused[each.job.id] = TooManyJobs(
                f"{known[tenant_id]} jobs have not ended yet, and there may be no more",
                retry_after=FULL_RETRY_AFTER,
            )
            continue
        if (charge := charged.get(each.job.id)) is not None:
            movement = Movement(None, charge)
            if (budget := spend.exhausted(movement)) is not None:
                refused[each.job.id] = BudgetExceeded(f"{budget.describe()}, has no room for it")
                continue
            spend.add([movement])
        if tenant_id in places:
            places[tenant_id] -= 1
    return refused


async def _insert_accepted(
    tx: Transaction, accepted: Sequence[_Submission], reused: Mapping[JobId, Reused]
) -> None:
    jobs = [each.job for each in accepted]
    ended = [reused[job.id] for job in jobs if job.id in reused]
    stored = [reused[job.id].job if job.id in reused else job for job in jobs]
    await INSERT_JOBS.run(tx, stored)
    lines = [
        rows.event_values(Change(job, "submitted"), seq=job.version, at=job.created_at)
        for job in jobs
    ]
    lines += [
        rows.event_values(each.change, seq=each.job.version, at=each.job.updated_at)
        for each in ended
    ]
    await INSERT_EVENTS.run(tx, lines)
    await reuse.insert_media(tx, ended)
    await inputs.insert_links(tx, [job for job in stored if not job.terminal])
    await INSERT_TAGS.run(tx, [values for job in jobs for values in rows.tag_values(job)])
    watched = await count_accepted(tx, len(jobs) - len(ended), completed=len(ended))
    present = next((each.present for each in accepted if each.present is not None), None)
    events = [Occurrence("submitted", job) for job in jobs]
    events += [Occurrence("completed", each.job, each.media) for each in ended]
    owing = [each for each in events if watched or each.job.webhook is not None]
    if owing and present is not None:
        await insert_owed(tx, owing, present, watched=watched)


async def find_earlier(
    db: Database, identity: RequestIdentity, *, now: datetime
) -> Accepted | None:
    """Return the outcome of the request that this one repeats; None: it repeats none.

    Raises:
        IdempotencyKeyReused: Its key is that of another request.
        Gone: The job has been removed since.
    """
    earlier = await find(db, identity, now=now)
    if earlier is None:
        return None
    view = await db.grouped_read(_get_all, earlier.job_id, short=True)
    found = _outcome(earlier, {} if view is None else {view.job.id: view.job})
    if isinstance(found, FleekError):
        raise found
    return found


async def insert_retry(
    db: Database,
    job: Job,
    *,
    again: bool,
    identity: RequestIdentity | None = None,
    max_live: int | None = None,
    present: Presenter | None = None,
    patience: timedelta | None = None,
) -> Accepted:
    """Accept a job that repeats `job.retry_of`, unless one does so already; returns the one that does.

    Exact however many callers retry the same job at once: they wait for each other at its row.
    `again` accepts it in any case. `identity`, `max_live`, `present`, `patience`: see `insert_job`.

    Raises:
        NotFound: The job that it repeats has been removed.
        Conflict: It is not failed or cancelled any more: its result is collected again.
        IdempotencyKeyReused: The key of the request is that of another one.
        TooManyJobs: It is not accepted: `max_live` of the tenant have not ended.
        BudgetExceeded: It is not accepted: a budget has no room for it.
        Overloaded: It is not accepted: its turn did not come in time.
        DatabaseUnavailable: It is not known to be accepted; asking again returns it, if it was.
        StorageFull: It is not accepted.
    """
    item = (_Submission(job, present, identity, max_live), again)
    return await db.grouped_write(_insert_retries, item, patience=patience)


async def _insert_retries(
    tx: Transaction, retries: Sequence[tuple[_Submission, bool]]
) -> list[Accepted | FleekError]:
    wanted = {item.job.retry_of for item, _ in retries}
    ids = sorted(job_id for job_id in wanted if job_id is not None)
    locked = await LOCK_JOBS.values(tx, ids=rows.padded(ids))
    status = {job.id: job.status for job in locked}
    new: dict[JobId, Job] = {}  # of this batch, the latest of each job
    accepted: list[_Submission] = []
    results: dict[int, Accepted | FleekError] = {}
    for item, again in sorted(retries, key=_retry_order):
        job = item.job
        assert job.retry_of is not None
        if (error := _not_retryable(status.get(job.retry_of))) is not None:
            results[id(item)] = error
            continue
        found = None
        if not again:
            found = new.get(job.retry_of) or await _retry_of(tx, job.retry_of)
        outcome = await _claim_retry(tx, item, found, new)
        results[id(item)] = outcome
        if isinstance(outcome, Accepted) and outcome.job is job:
            accepted.append(item)
            new[job.retry_of] = job
    # together: one visit to the counters per transaction, or two could wait in a ring
    refused = await _insert_new(tx, accepted)
    outcomes = [results[id(item)] for item, _ in retries]
    return [
        refused.get(outcome.job.id, outcome) if isinstance(outcome, Accepted) else outcome
        for outcome in outcomes
    ]


def _retry_order(retry: tuple[_Submission, bool]) -> tuple[int, str, str]:
    identity = retry[0].identity
    return (-1, "", "") if identity is None else claim_order(identity)


async def _claim_retry(
    tx: Transaction, item: _Submission, found: Job | None, new: Mapping[JobId, Job]
) -> Accepted | FleekError:
    """Return the outcome of a retry that may be accepted, or has `found` another one."""
    job, identity = found or item.job, item.identity
    if identity is not None:
        claimed = Claim(identity, job.id, created=found is None, at=item.job.created_at)
        (earlier,) = await claim(tx, [claimed])
        if earlier is not None:
            known = {each.id: each for each in new.values()}
            if isinstance(earlier, Earlier) and earlier.job_id not in known:
                known = await _read_jobs(tx, [earlier.job_id])
            return _outcome(earlier, known)
    return Accepted(job, created=found is None)


def _not_retryable(status: Status | None) -> FleekError | None:
    """Return what is wrong with retrying a job of this status; None is that of one not there."""
    if status is None:
        return NotFound("there is no such job")
    if status not in RETRYABLE:
        return Conflict("only a failed or cancelled job can be retried", code="not_retryable")
    return None


async def retry_of(db: Database, job_id: JobId) -> Job | None:
    """Return the latest retry of a job that lives, or has completed and still has its files."""
    async with db.read() as tx:
        return await _retry_of(tx, job_id)


async def was_retried(db: Database, job_id: JobId, *, since: datetime) -> bool:
    """Whether a retry of a job was accepted since then, whatever has become of it."""
    statement = select(JobRow.id).where(JobRow.retry_of == job_id, JobRow.created_at >= since)
    async with db.read() as tx:
        return await tx.scalar(statement.limit(1)) is not None


async def _retry_of(tx: Transaction, job_id: JobId) -> Job | None:
    statement = (
        select(JOBS)
        .where(
            JobRow.retry_of == job_id,
            JobRow.status.not_in([Status.FAILED.value, Status.CANCELLED.value]),
            JobRow.purged_at.is_(None),
        )
        .order_by(JobRow.id.desc())
        .limit(1)
    )
    row = (await tx.execute(statement)).mappings().first()
    return None if row is None else rows.JOB.read(row)


async def get(db: Database, job_id: JobId, *, tenant_id: str) -> JobView:
    """Return a job with its files.

    Raises:
        NotFound: There is none, or it belongs to another tenant.
    """
    found = await db.grouped_read(_get_all, job_id, short=True)
    if found is None or found.job.tenant_id != tenant_id:
        raise NotFound("there is no such job")
    return found


async def _get_all(tx: Transaction, job_ids: Sequence[JobId]) -> list[JobView | FleekError | None]:
    wanted = rows.padded(sorted(set(job_ids)))
    found = await _with_files(tx, await SELECT_JOBS.values(tx, ids=wanted))
    views = {view.job.id: view for view in found}
    return [views.get(job_id) for job_id in job_ids]


async def read_views(tx: Transaction, found: Sequence[Mapping[Any, Any]]) -> list[JobView]:
    """Return the jobs of these rows with their files."""
    return await _with_files(tx, [rows.JOB.read(row) for row in found])


async def _with_files(tx: Transaction, jobs: Sequence[Job]) -> list[JobView]:
    files: dict[JobId, list[Media]] = defaultdict(list)
    kept = (job for job in jobs if job.status is Status.COMPLETED and job.purged_at is None)
    if ended := [job.id for job in kept]:
        for media in await SELECT_MEDIA.values(tx, ids=rows.padded(ended)):
            files[media.job_id].append(media)
    return [JobView(job, tuple(files[job.id])) for job in jobs]


async def views(db: Database, job_ids: Sequence[JobId]) -> dict[JobId, JobView]:
    """Return these jobs with their files; those that are not there are left out."""
    async with db.read() as tx:
        found = await _get_all(tx, job_ids)
    return {view.job.id: view for view in found if isinstance(view, JobView)}


class JobVersion(NamedTuple):
    """How far a job has come."""

    version: int
    ended: bool


async def versions(db: Database, job_ids: Sequence[JobId]) -> dict[JobId, JobVersion]:
    """Return how far these jobs have come; those that are not there are left out."""
    async with db.read(short=len(job_ids) <= IN_PLACE) as tx:
        found = await SELECT_VERSIONS.rows(tx, ids=rows.padded(job_ids))
        return {JobId(key): JobVersion(version, ended) for key, version, ended in found}


async def held_by(db: Database, worker_id: WorkerId) -> list[JobId]:
    """Return all jobs that this worker holds: no more than it works on at once."""
    statement = select(JobRow.id).where(JobRow.worker_id == worker_id)
    async with db.read() as tx:
        return [JobId(found) for found in await tx.scalars(statement)]


async def overdue(
    db: Database,
    *,
    now: datetime,
    leaps: Sequence[Leap] = (),
    after: tuple[datetime, JobId] | None = None,
    limit: int,
) -> list[tuple[datetime, JobId]]:
    """Return jobs that have not ended by their deadline, longest first, from behind `after`.

    Those in collecting are left out. `leaps`, the latest first: what the clock leapt over while a
    job lived is time that it has more.
    """
    place = (JobRow.deadline, JobRow.id)
    statement = (
        select(*place)
        .where(
            JobRow.completed_at.is_(None),
            JobRow.deadline < now,
            or_(*_lived_through(now, leaps)),
            or_(JobRow.stage.is_(None), JobRow.stage != COLLECTING),
        )
        .order_by(*place)
    )
    if after is not None:
        statement = statement.where(tuple_(*place) > after)
    async with db.read() as tx:
        return [(at, JobId(found)) for at, found in await tx.execute(statement.limit(limit))]


def _lived_through(now: datetime, leaps: Sequence[Leap]) -> Iterator[ColumnElement[bool]]:
    """Give what a deadline must lie behind, for jobs from after each leap, and for all others."""
    for leap in leaps[:LEAPS]:
        yield and_(JobRow.created_at >= leap.at, JobRow.deadline < now)
        now -= leap.skipped
    yield JobRow.deadline < now - sum((leap.skipped for leap in leaps[LEAPS:]), timedelta(0))


async def get_any_tenant(db: Database, job_id: JobId) -> Job:
    """Return a job without its files, whosever it is.

    Raises:
        NotFound: There is none.
    """
    found = await db.grouped_read(_get_all, job_id, short=True)
    if found is None:
        raise NotFound("there is no such job")
    return found.job
