"""Every change of a job after its acceptance: decided on the locked row, written whole.

Many callers share one transaction. In it each job is locked, its caller's pure decision is made on
the row as it is then, and the new row, the line of history, the attempt and the files are written
together. Of two decisions at once, the second is made on what the first has left.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from fleek.domain import charges
from fleek.domain.attempt import Attempt
from fleek.domain.audit import AuditEntry
from fleek.domain.budgets import Payer
from fleek.domain.charges import Movement
from fleek.domain.copies import replace
from fleek.domain.errors import FleekError, NotFound, OutOfBudget, PredictionTaken, TenantBusy
from fleek.domain.job import AttemptId, Change, Job, JobId, Status
from fleek.domain.media import Media
from fleek.domain.provider_logs import PredictionLog
from fleek.domain.values import dataclass
from fleek.store import job_logs, rows
from fleek.store.audit import record
from fleek.store.counters import add_counts
from fleek.store.database import Database, Transaction
from fleek.store.errors import RowRefused
from fleek.store.event_stream import INSERT_EVENTS
from fleek.store.limits import free_starts
from fleek.store.owed import WATCHED, Occurrence, Presenter, insert_owed
from fleek.store.prepared import Query, Write
from fleek.store.spend import Spend
from fleek.store.tables import AttemptRow, JobInputRow, JobRow, MediaRow, TagRow

STEPS_IN_PLACE: Final = 16  # each writes several rows: with more, readers would wait for them
JOBS: Final = JobRow.__table__
ATTEMPTS: Final = AttemptRow.__table__
PREDICTION_ONCE: Final = frozenset(
    {"uq_attempts_provider_prediction_id", "attempts.provider, attempts.prediction_id"}
)

# Locked in the order of their ids, so that two transactions never deadlock.
IDS: Final[BindParameter[Sequence[UUID]]] = bindparam("ids", expanding=True)
LOCK_JOBS: Final = Query(
    select(JOBS, WATCHED).where(JobRow.id.in_(IDS)).order_by(JobRow.id).with_for_update(), rows.JOB
)
LOCK_ATTEMPTS: Final = Query(
    select(ATTEMPTS).where(AttemptRow.id.in_(IDS)).order_by(AttemptRow.id).with_for_update(),
    rows.ATTEMPT,
)
INSERT_ATTEMPTS: Final = Write(insert(AttemptRow), mapper=rows.ATTEMPT)
INSERT_MEDIA: Final = Write(insert(MediaRow), mapper=rows.MEDIA)
UPDATE_JOB: Final = Write(
    update(JobRow)
    .where(JobRow.id == bindparam("_id"), JobRow.version == bindparam("_version"))
    .values({column: bindparam(column) for column in rows.JOB.changing}),
    mapper=rows.JOB,
    extra=("_id", "_version"),
)
UPDATE_ATTEMPT: Final = Write(
    update(AttemptRow)
    .where(AttemptRow.id == bindparam("_id"))
    .values({column: bindparam(column) for column in rows.ATTEMPT.changing}),
    mapper=rows.ATTEMPT,
    extra=("_id",),
)
OWE_CANCEL: Final = Write(
    update(AttemptRow)
    .where(AttemptRow.job_id == bindparam("_job_id"), AttemptRow.verdict.is_(None))
    .values(cancel_owed=True)
)
EDIT_JOB: Final = Write(
    update(JobRow)
    .where(JobRow.id == bindparam("_id"))
    .values({JOBS.c[field]: bindparam(field) for field in rows.EDITABLE}),
    mapper=rows.JOB,
    extra=("_id",),
)
REROUTE_JOB: Final = Write(
    update(JobRow)
    .where(JobRow.id == bindparam("_id"))
    .values({JOBS.c[field]: bindparam(field) for field in rows.ROUTED}),
    mapper=rows.JOB,
    extra=("_id",),
)
COST_JOB: Final = Write(
    update(JobRow).where(JobRow.id == bindparam("_id")).values(cost=bindparam("cost"))
)
DROP_TAGS: Final = Write(delete(TagRow).where(TagRow.job_id == bindparam("_job_id")))
INSERT_TAGS: Final = Write(insert(TagRow), columns=("tenant_id", "tag", "job_id"))
DROP_INPUTS: Final = Write(delete(JobInputRow).where(JobInputRow.job_id == bindparam("_job_id")))
INPUTS_READY: Final = Write(
    update(JobInputRow).where(JobInputRow.job_id == bindparam("_job_id")).values(waiting=False)
)
DROP_MEDIA: Final = Write(delete(MediaRow).where(MediaRow.job_id == bindparam("_job_id")))
DROP_RESULTS: Final = Write(
    update(AttemptRow).where(AttemptRow.job_id == bindparam("_job_id")).values(result=None)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one decision writes; each part may be missing."""

    change: Change | None = None  # the job's next state
    earlier: Change | None = None  # a step before it, which `change` has been made on
    attempt: Attempt | None = None  # the locked attempt as it is now
    media: Sequence[Media] = ()  # files that are in storage
    log: PredictionLog | None = None  # of which what is new is stored, unless it was purged
    cancel_owed: bool = False  # by every attempt of the job without a verdict
    audit: AuditEntry | None = None  # the line of the audit log about it
    inputs_ready: bool = False  # the job waits for no other one any more
    drops_media: bool = False  # delete the job's files' rows, and the answers that named them
    drops_logs: bool = False

    @property
    def changes(self) -> Iterator[Change]:
        """Yield the steps of the job, each with a version and a line of history of its own."""
        if self.earlier is not None:
            yield self.earlier
        if self.change is not None:
            yield self.change


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Update):
    """An update that writes a new attempt."""

    intent: Attempt


U = TypeVar("U", bound=Update)
U_co = TypeVar("U_co", bound=Update, covariant=True)

Decision = Callable[[Job, Attempt | None], U]
"""Decides on the job, and the attempt that was asked for, as they are under lock. Pure. May raise
`IllegalTransition` or `StaleJob`, which go to its own caller only."""


@dataclass(frozen=True, slots=True)
class Applied(Generic[U_co]):
    """A job after a decision."""

    job: Job  # as it is now, changed or not
    update: U_co  # what was written

    @classmethod
    def of(cls, job: Job, update: U, attempt: Attempt | None = None) -> "Applied[U]":
        """Return what `update` makes of a job; each change raises the job's version.

        `attempt` is the one that was asked for, as it was. Charges follow from both.
        """
        change, earlier = update.change, update.earlier
        steps = 1 if earlier is None else 2
        after = job if change is None else replace(change.job, version=job.version + steps)
        if isinstance(update, Intent):
            after, intent = charges.intended(job, after, update.intent)
            update = replace(update, intent=intent)
        if update.attempt is not None:
            after = charges.with_cost(after, attempt, update.attempt)
        if change is not None:
            after = charges.moved_route(job, after)
            update = replace(update, change=replace(change, job=after))
        if earlier is not None:
            between = replace(earlier.job, version=job.version + 1, cost=after.cost)
            update = replace(update, earlier=replace(earlier, job=between))
        return Applied(after, update)

    @property
    def changed(self) -> bool:
        """Whether the job itself was changed."""
        return self.update.change is not None


@dataclass(frozen=True, slots=True)
class StartLimit:
    """The decision may start the job, as far as its tenant may have another one that runs."""

    max_running: int | None = None  # of tenants without a limit of their own; None: any number
    day: str = ""  # today, in UTC: budgets of that day count


@dataclass(frozen=True, slots=True)
class _Request:
    job_id: JobId
    attempt_id: AttemptId | None
    decide: Decision[Update]
    present: Presenter | None
    start: StartLimit | None = None


async def apply(
    db: Database,
    job_id: JobId,
    decide: Decision[U],
    *,
    attempt_id: AttemptId | None = None,
    present: Presenter | None = None,
    start: StartLimit | None = None,
    patience: timedelta | None = None,
) -> Applied[U]:
    """Decide on a job as it is now and write the update.

    `attempt_id` names the attempt that `decide` gets; `present` is for the webhooks that are owed;
    `start` is given if the decision starts the job; `patience` is how long a request waits at most
    for a transaction. Without it this is a step of a job, and yields to requests.

    Raises:
        NotFound: There is no such job.
        TenantBusy: The decision starts the job, and its tenant is disabled or has no free place.
        OutOfBudget: The decision starts the job, and there is no money for another attempt.
        PredictionTaken: The update binds a prediction that another attempt has.
        Overloaded: Its turn did not come in time; nothing is written.
        DatabaseUnavailable: Nothing is known to be written.
    """
    request = _Request(job_id, attempt_id, decide, present, start)
    try:
        applied: Any = await db.grouped_write(
            _apply_all,
            request,
            patience=patience,
            yields=patience is None,
            most_in_place=STEPS_IN_PLACE,
        )
    except RowRefused as error:
        if error.constraint in PREDICTION_ONCE:
            raise PredictionTaken("another attempt has this prediction") from error
        raise
    return cast("Applied[U]", applied)


async def _apply_all(
    tx: Transaction, requests: Sequence[_Request]
) -> list[Applied[Update] | FleekError]:
    ids = rows.padded(sorted({request.job_id for request in requests}))
    locked = await LOCK_JOBS.rows(tx, ids=ids)
    jobs: dict[JobId, Job] = {job.id: job for job, _ in locked}
    attempts = await _locked_attempts(tx, requests)
    batch = _Batch(watched=any(watched for _, watched in locked))
    starts = await _free_starts(tx, requests, jobs)
    spend = await _spend(tx, requests, jobs)
    results: list[Applied[Update] | FleekError] = []
    for request in requests:
        try:
            applied = _decided(request, jobs, attempts)
            _take_start(starts, applied.job, before=jobs[request.job_id])
            moved = _movements(applied, before=jobs[request.job_id], attempts=attempts)
            _reserve(spend, moved, applied)
        except FleekError as error:
            results.append(error)
            continue
        spend.add(moved)
        batch.add(applied, before=jobs[request.job_id], present=request.present)
        jobs[request.job_id] = applied.job
        for attempt in _attempts(applied.update):
            attempts[attempt.id] = attempt
        results.append(applied)
    await spend.write()
    await batch.write(tx)
    return results


def _decided(
    request: _Request, jobs: Mapping[JobId, Job], attempts: Mapping[AttemptId, Attempt]
) -> Applied[Update]:
    job = jobs.get(request.job_id)
    if job is None:
        raise NotFound("there is no such job")
    attempt = None if request.attempt_id is None else attempts.get(request.attempt_id)
    return Applied.of(job, request.decide(job, attempt), attempt)


async def _free_starts(
    tx: Transaction, requests: Sequence[_Request], jobs: Mapping[JobId, Job]
) -> dict[str, int]:
    """Return how many jobs of each tenant with a limit may start, of those that want to."""
    defaults: dict[str, int | None] = {}
    for request in requests:
        job = jobs.get(request.job_id)
        if request.start is not None and job is not None and job.status is Status.PENDING:
            defaults[job.tenant_id] = request.start.max_running
    return await free_starts(tx, defaults) if defaults else {}


def _take_start(starts: dict[str, int], job: Job, *, before: Job) -> None:
    """Count a job that starts.

    Raises:
        TenantBusy: No more of its tenant may.
    """
    if before.status is not Status.PENDING or job.status is not Status.PROCESSING:
        return
    if (free := starts.get(job.tenant_id)) is None:
        return
    if free < 1:
        raise TenantBusy(f"job {job.id} has to wait for its tenant")
    starts[job.tenant_id] = free - 1


async def _spend(
    tx: Transaction, requests: Sequence[_Request], jobs: Mapping[JobId, Job]
) -> Spend:
    """Return the spend, with the budgets of the jobs that may reserve for another attempt."""
    spend = Spend(tx)
    starting = [
        jobs[request.job_id]
        for request in requests
        if request.start is not None and request.job_id in jobs
    ]
    day = max((request.start.day for request in requests if request.start), default="")
    await spend.lock(
        {
            Payer(job.tenant_id, job.key_id, day)
            for job in starting
            if job.status is Status.PENDING and not charges.holds_reservation(job)
        }
    )
    return spend


def _movements(
    applied: Applied[Update], *, before: Job, attempts: Mapping[AttemptId, Attempt]
) -> list[Movement]:
    """Return the charges that an update changes."""
    update = applied.update
    intent = update.intent if isinstance(update, Intent) else None
    was = None if update.attempt is None else attempts.get(update.attempt.id)
    return list(charges.movements(before, applied.job, was, update.attempt, intent))


def _reserve(spend: Spend, moved: Sequence[Movement], applied: Applied[Update]) -> None:
    """Make sure that the budgets have room for a new attempt.

    Raises:
        OutOfBudget: One has not.
    """
    if not isinstance(applied.update, Intent):
        return
    for movement in moved:
        if (budget := spend.exhausted(movement)) is not None:
            raise OutOfBudget(f"{budget.describe()}, has no room for another attempt")


def _attempts(update: Update) -> Iterator[Attempt]:
    if isinstance(update, Intent):
        yield update.intent
    if update.attempt is not None:
        yield update.attempt


async def _locked_attempts(
    tx: Transaction, requests: Sequence[_Request]
) -> dict[AttemptId, Attempt]:
    wanted = {request.attempt_id for request in requests if request.attempt_id is not None}
    if not wanted:
        return {}
    found = await LOCK_ATTEMPTS.values(tx, ids=rows.padded(sorted(wanted)))
    return {attempt.id: attempt for attempt in found}


def _differs(value: Any, before: Any) -> bool:
    return value is not before and value != before


class _Batch:
    """The rows of many updates, written with one statement per kind."""

    def __init__(self, *, watched: bool) -> None:
        self._watched = watched
        self._present: Presenter | None = None
        self._occurrences: list[Occurrence] = []
        self._jobs: list[tuple[Job, JobId, int]] = []
        self._events: list[rows.Values] = []
        self._intents: list[Attempt] = []
        self._attempts: list[tuple[Attempt, AttemptId]] = []
        self._media: list[Media] = []
        self._edited: list[tuple[Job, JobId]] = []
        self._rerouted: list[tuple[Job, JobId]] = []
        self._ready: list[rows.Values] = []
        self._satisfied: list[rows.Values] = []
        self._costs: list[rows.Values] = []
        self._untagged: list[rows.Values] = []
        self._tagged: list[rows.Values] = []
        self._owing: list[rows.Values] = []
        self._dropping: list[rows.Values] = []
        self._logs: list[tuple[JobId, PredictionLog]] = []
        self._unlogging: list[rows.Values] = []
        self._audit: list[AuditEntry | None] = []
        self._counts: Counter[Status] = Counter()

    def add(self, applied: Applied[Update], *, before: Job, present: Presenter | None) -> None:
        """Add what an update writes. `before` is the job that it was decided on."""
        update = applied.update
        if update.change is None and applied.job.cost != before.cost:
            self._costs.append({"_id": before.id, "cost": applied.job.cost})
        if update.change is not None:
            job = update.change.job
            self._jobs.append((job, job.id, before.version))
            self._add_edits(job, before=before)
            self._add_history(update, present=present)
            self._counts.subtract([before.status])
            self._counts.update([job.status])
        if isinstance(update, Intent):
            self._intents.append(update.intent)
        if update.attempt is not None:
            self._attempts.append((update.attempt, update.attempt.id))
        self._media.extend(update.media)
        if update.cancel_owed:
            self._owing.append({"_job_id": before.id})
        self._add_inputs(update, before=before)
        self._audit.append(update.audit)
        if update.drops_media:
            self._dropping.append({"_job_id": before.id})
        if update.drops_logs:
            self._unlogging.append({"_job_id": before.id})
        if update.log is not None and before.metadata_purged_at is None:
            self._logs.append((before.id, update.log))

    def _add_history(self, update: Update, *, present: Presenter | None) -> None:
        for change in update.changes:
            job = change.job
            self._events.append(rows.event_values(change, seq=job.version, at=job.updated_at))
            if present is not None and (self._watched or job.webhook is not None):
                self._present = present
                self._occurrences.append(Occurrence(change.event, job, update.media))

    def _add_inputs(self, update: Update, *, before: Job) -> None:
        if update.inputs_ready:
            self._ready.append({"_job_id": before.id})
        after = None if update.change is None else update.change.job
        if after is not None and after.inputs and after.terminal:
            self._satisfied.append({"_job_id": before.id})

    def _add_edits(self, job: Job, *, before: Job) -> None:
        for edits, fields in ((self._edited, rows.EDITABLE), (self._rerouted, rows.ROUTED)):
            if any(_differs(getattr(job, field), getattr(before, field)) for field in fields):
                edits.append((job, job.id))
        if job.tags != before.tags:
            self._untagged.append({"_job_id": job.id})
            self._tagged.extend(rows.tag_values(job))

    async def write(self, tx: Transaction) -> None:
        """Write everything that was added."""
        written: Sequence[tuple[Write, Sequence[Any]]] = (
            (INSERT_ATTEMPTS, self._intents),
            (UPDATE_ATTEMPT, self._attempts),
            (OWE_CANCEL, self._owing),
            (DROP_MEDIA, self._dropping),
            (DROP_RESULTS, self._dropping),
            (job_logs.DROP_LOGS, self._unlogging),
            (UPDATE_JOB, self._jobs),
            (EDIT_JOB, self._edited),
            (REROUTE_JOB, self._rerouted),
            (COST_JOB, self._costs),
            (INPUTS_READY, self._ready),
            (DROP_INPUTS, self._satisfied),
            (DROP_TAGS, self._untagged),
            (INSERT_TAGS, self._tagged),
            (INSERT_MEDIA, self._media),
            (INSERT_EVENTS, self._events),
        )
        for statement, items in written:
            if items:
                await statement.run(tx, items)
        await job_logs.append(tx, self._logs)
        if self._present is not None:
            await insert_owed(tx, self._occurrences, self._present, watched=self._watched)
        await add_counts(tx, self._counts)
        await record(tx, *self._audit)
