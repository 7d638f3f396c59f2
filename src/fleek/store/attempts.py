"""Queries of attempts: running predictions, unknown outcomes, pending cancels."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, Uuid, bindparam, func, or_, select, text, tuple_, union_all

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import FleekError
from fleek.domain.job import AttemptId, JobId, PredictionId
from fleek.domain.values import dataclass
from fleek.store import rows
from fleek.store.database import Database, Reads, Transaction
from fleek.store.prepared import Query
from fleek.store.tables import BOUND, OWED, UNSETTLED, AttemptRow, Instant, JobRow, WorkerRow
from fleek.store.updates import ATTEMPTS, IDS

Cursor = tuple[datetime, AttemptId]
"""Position in a list of attempts: when the intent was written, and the id of the attempt."""

SELECT_ATTEMPTS: Final = Query(select(ATTEMPTS).where(AttemptRow.id.in_(IDS)), rows.ATTEMPT)
VERDICTS: Final[Query[Any]] = Query(
    select(AttemptRow.id, AttemptRow.verdict).where(AttemptRow.id.in_(IDS))
)
SELECT_MADE: Final = Query(
    select(ATTEMPTS)
    .where(AttemptRow.job_id.in_(IDS))
    .order_by(AttemptRow.job_id, AttemptRow.number),
    rows.ATTEMPT,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A prediction that has not ended as far as is known."""

    id: AttemptId
    job_id: JobId
    provider: str
    prediction_id: PredictionId
    submitted_at: datetime
    timeout_seconds: float
    first_look_at: datetime
    number: int
    account: str | None


async def waiting(
    db: Database, *, after: tuple[datetime, AttemptId] | None, until: datetime | None, limit: int
) -> list[Waiting]:
    """Return waiting predictions by their first look, from behind `after` up to `until`, if any."""
    statement = WAITING[after is not None, until is not None]
    values: dict[str, Any] = {"most": limit}
    if after is not None:
        values |= {"after": after[0], "after_id": after[1]}
    if until is not None:
        values["until"] = until
    async with db.read() as tx:
        return [Waiting(*row) for row in await statement.rows(tx, **values)]


def _waiting(*, after: bool, until: bool) -> Query[Any]:
    """Return the query of a range of the index of bound attempts, with the columns of `Waiting`."""
    place = (AttemptRow.first_look_at, AttemptRow.id)
    statement = (
        select(
            AttemptRow.id,
            AttemptRow.job_id,
            AttemptRow.provider,
            AttemptRow.prediction_id,
            AttemptRow.submitted_at,
            AttemptRow.timeout_seconds,
            AttemptRow.first_look_at,
            AttemptRow.number,
            AttemptRow.account,
        )
        .where(
            AttemptRow.prediction_id.is_not(None),
            AttemptRow.verdict.is_(None),
        )
        .order_by(*place)
        .limit(bindparam("most"))
    )
    if until:
        statement = statement.where(AttemptRow.first_look_at <= bindparam("until"))
    if after:
        behind = (bindparam("after", type_=Instant), bindparam("after_id", type_=Uuid))
        statement = statement.where(tuple_(*place) > tuple_(*behind))
    return Query(statement)


WAITING: Final = {
    (after, until): _waiting(after=after, until=until)
    for after in (False, True)
    for until in (False, True)
}
"""The queries of `waiting`, by whether they have a beginning and an end."""


async def verdicts(
    db: Database, attempt_ids: Collection[AttemptId]
) -> dict[AttemptId, Verdict | None]:
    """Return the verdicts of these attempts; None: they have none yet."""
    async with db.read() as tx:
        found = await VERDICTS.rows(tx, ids=rows.padded(sorted(attempt_ids)))
        return {AttemptId(row[0]): row[1] and Verdict(row[1]) for row in found}


async def unreconciled(
    db: Database, provider: str, *, after: Cursor | None = None, limit: int
) -> list[Attempt]:
    """Return a provider's attempts without a prediction or a verdict whose start has been given up.

    Either the worker that intended has ended, or it reported that the outcome is unknown: on the
    job, and on the attempt, which the job may have left behind. Oldest first, from behind `after`.
    """
    statement = (
        _open(provider, after)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .outerjoin(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
        .where(
            AttemptRow.prediction_id.is_(None),
            or_(
                WorkerRow.id.is_(None),
                WorkerRow.ended_at.is_not(None),
                (JobRow.stage == "unknown") & (JobRow.attempt_id == AttemptRow.id),
                AttemptRow.error_code.is_not(None),
            ),
        )
        .limit(limit)
    )
    return await _attempts(db, statement)


async def pending_cancels(
    db: Database, provider: str, *, after: Cursor | None = None, limit: int
) -> list[Attempt]:
    """Return a provider's attempts whose prediction must be cancelled, oldest first."""
    started = AttemptRow.prediction_id.concat("").is_not(
        None
    )  # no range of the index of all of them
    statement = _open(provider, after).where(text(OWED), started).limit(limit)
    return await _attempts(db, statement)


async def without_verdict(db: Database, provider: str) -> list[tuple[AttemptId, JobId]]:
    """Return the attempts, with their jobs, for which money may be on its way to a provider."""
    name = AttemptRow.provider.concat("")  # as in `in_flight`
    statement = union_all(
        *(
            select(AttemptRow.id, AttemptRow.job_id).where(name == provider, text(where))
            for where in (UNSETTLED, BOUND)
        )
    )
    async with db.read() as tx:
        return [
            (AttemptId(attempt_id), JobId(job_id))
            for attempt_id, job_id in await tx.execute(statement)
        ]


async def count_without_verdict(db: Database) -> dict[str, int]:
    """Return for how many attempts of each provider money may be on its way."""
    parts = (
        select(AttemptRow.provider.concat("").label("provider")).where(text(where))
        for where in (UNSETTLED, BOUND)
    )
    found = union_all(*parts).subquery()
    statement = select(found.c.provider, func.count().label("number")).group_by(found.c.provider)
    async with db.read() as tx:
        return {row.provider: row.number for row in await tx.execute(statement)}


def _open(provider: str, after: Cursor | None) -> Select[Any]:
    position = (AttemptRow.submitted_at, AttemptRow.id)
    name = AttemptRow.provider.concat("")  # as in `in_flight`
    statement = (
        select(ATTEMPTS).where(name == provider, AttemptRow.verdict.is_(None)).order_by(*position)
    )
    return statement if after is None else statement.where(tuple_(*position) > after)


async def _attempts(db: Database, statement: Select[Any]) -> list[Attempt]:
    async with db.read() as tx:
        return [rows.ATTEMPT.read(row) for row in (await tx.execute(statement)).mappings()]


async def in_flight(db: Reads, provider: str) -> int:
    """Return how many of a provider's predictions run, or may run for all that is known."""
    name = AttemptRow.provider.concat("")  # no range of an index: the other holds all the past
    statement = union_all(
        *(
            select(func.count()).where(name == provider, text(where))
            for where in (UNSETTLED, BOUND)
        )
    )
    async with db.read() as tx:
        return sum(await tx.scalars(statement))


async def get(db: Database, attempt_id: AttemptId) -> Attempt | None:
    """Return an attempt, or None if there is none."""
    return await db.grouped_read(_get_all, attempt_id, short=True)


async def _get_all(
    tx: Transaction, attempt_ids: Sequence[AttemptId]
) -> list[Attempt | FleekError | None]:
    ids = rows.padded(sorted(set(attempt_ids)))
    attempts = {attempt.id: attempt for attempt in await SELECT_ATTEMPTS.values(tx, ids=ids)}
    return [attempts.get(attempt_id) for attempt_id in attempt_ids]


async def bound_ids(
    db: Database, provider: str, prediction_ids: Sequence[PredictionId]
) -> set[PredictionId]:
    """Return which of a provider's predictions some attempt has."""
    statement = select(AttemptRow.prediction_id).where(
        AttemptRow.provider == provider, AttemptRow.prediction_id.in_(prediction_ids)
    )
    async with db.read() as tx:
        return {PredictionId(bound) for bound in await tx.scalars(statement) if bound is not None}


async def duplicate_in_flight(
    db: Database, attempt: Attempt, *, unknown_since: datetime | None = None
) -> bool:
    """Whether another attempt with the same request is being started at this moment.

    A prediction that fits both may then be the other's, whose worker is about to bind it.
    `unknown_since`: whether attempts with an unknown outcome count, too, if they are younger.
    """
    in_flight = JobRow.stage != "unknown"
    if unknown_since is not None:
        in_flight = or_(in_flight, AttemptRow.submitted_at > unknown_since)
    statement = (
        select(AttemptRow.id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(
            AttemptRow.request_hash == attempt.request_hash,
            AttemptRow.verdict.is_(None),
            AttemptRow.prediction_id.is_(None),
            AttemptRow.id != attempt.id,
            in_flight,
        )
        .limit(1)
    )
    async with db.read() as tx:
        return await tx.scalar(statement) is not None


async def rival_unbound(db: Database, attempt: Attempt, *, prompt: str, before: datetime) -> bool:
    """Whether another attempt with the same model and prompt has no prediction yet.

    Its other parameters may differ. `before`: younger attempts do not count.
    """
    statement = (
        select(AttemptRow.id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(
            AttemptRow.verdict.is_(None),
            AttemptRow.prediction_id.is_(None),
            AttemptRow.model == attempt.model,
            AttemptRow.request_hash != attempt.request_hash,
            AttemptRow.submitted_at < before,
            JobRow.provider == attempt.provider,
            JobRow.prompt == prompt,
        )
        .limit(1)
    )
    async with db.read() as tx:
        return await tx.scalar(statement) is not None


async def of_job(db: Database, job_id: JobId) -> Sequence[Attempt]:
    """Return all attempts of a job, in their order."""
    return await db.grouped_read(_of_jobs, job_id, short=True)


async def _of_jobs(
    tx: Transaction, job_ids: Sequence[JobId]
) -> list[Sequence[Attempt] | FleekError]:
    ids = rows.padded(sorted(set(job_ids)))
    made: dict[JobId, list[Attempt]] = defaultdict(list)
    for attempt in await SELECT_MADE.values(tx, ids=ids):
        made[attempt.job_id].append(attempt)
    return [made[job_id] for job_id in job_ids]
