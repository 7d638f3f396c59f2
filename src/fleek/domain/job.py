"""A job, the states it may be in, and the only functions that change it.

Every function here is pure: it takes a job as it was read and returns a `Change`, the job after
one step together with the line this adds to its history. `fleek.store` writes the two in one
transaction, if nobody else has changed the job meanwhile.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NewType
from uuid import UUID

from fleek.domain.errors import FleekError, IllegalTransition

JobId = NewType("JobId", UUID)  # version 7: sorts by time
AttemptId = NewType("AttemptId", UUID)
WorkerId = NewType("WorkerId", UUID)
PredictionId = NewType("PredictionId", str)  # the provider's own
ModelName = NewType("ModelName", str)  # "owner/name" or "owner/name:version"


class Status(StrEnum):
    """What the world sees."""

    PENDING = "pending"  # waits for `run_at`, for its turn, or for the next attempt
    PROCESSING = "processing"  # see `Stage`
    COMPLETED = "completed"  # its files are stored; final
    FAILED = "failed"  # no attempt is left or none can help; final
    CANCELLED = "cancelled"  # the caller's wish; final


class Stage(StrEnum):
    """Where a job is while it is processing."""

    STARTING = "starting"  # a worker has written its intent to buy and is buying
    WAITING = "waiting"  # the prediction runs at the provider; no worker holds the job
    COLLECTING = "collecting"  # the prediction has ended well; its outputs move to storage
    UNKNOWN = "unknown"  # something may have been bought; `recover` finds out


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

State = Status | Stage
"""A stage stands for "processing, in this stage"."""

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    Status.PENDING: frozenset({Stage.STARTING, Status.FAILED, Status.CANCELLED}),
    Stage.STARTING: frozenset(
        {Stage.WAITING, Stage.UNKNOWN, Status.PENDING, Status.FAILED, Status.CANCELLED}
    ),
    Stage.UNKNOWN: frozenset({Stage.WAITING, Status.PENDING, Status.FAILED, Status.CANCELLED}),
    Stage.WAITING: frozenset(
        {Stage.WAITING, Stage.COLLECTING, Status.PENDING, Status.FAILED, Status.CANCELLED}
    ),
    Stage.COLLECTING: frozenset(
        {Stage.COLLECTING, Status.COMPLETED, Status.PENDING, Status.FAILED, Status.CANCELLED}
    ),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, or why its last attempt did."""

    code: str  # stable, snake_case
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request to generate media, from its acceptance to its end."""

    id: JobId
    tenant_id: str
    provider: str  # a name from `fleek.registry.PROVIDERS`
    model: ModelName
    prompt: str
    input: Mapping[str, Any]  # the model's parameters, without the prompt
    metadata: Mapping[str, Any]  # the caller's own; returned untouched
    priority: int  # 0-9; 9 goes first
    max_attempts: int  # how many counted attempts may be made
    run_at: datetime  # not started before; moves on with each retry
    deadline: datetime  # the longest it may take
    created_at: datetime
    updated_at: datetime
    status: Status = Status.PENDING
    stage: Stage | None = None  # set while processing
    attempt: int = 0  # counted intents to buy; given back if nothing was bought
    retries: int = 0  # attempts that failed and were followed by another
    deferrals: int = 0  # attempts given back
    crashes: int = 0  # intents whose worker died
    collects: int = 0  # failed tries to collect the latest prediction's outputs
    worker_id: WorkerId | None = None  # who holds it: while starting, or collecting
    attempt_id: AttemptId | None = None  # the latest attempt
    prediction_id: PredictionId | None = None  # of the latest attempt, once bound
    progress: float | None = None  # 0.0-1.0 as the provider tells; None: not told
    error: JobError | None = None  # the end's reason, or the last attempt's; None once completed
    started_at: datetime | None = None  # the first claim
    completed_at: datetime | None = None  # when it became terminal, whichever way
    purged_at: datetime | None = None  # its bytes were removed on purpose
    version: int = 1  # rises with each change; the seq of its latest event

    @property
    def state(self) -> State:
        """The stage while processing, else the status."""
        return self.status if self.stage is None else self.stage

    @property
    def terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.status in TERMINAL

    @property
    def ordinal(self) -> int:
        """The number of its latest attempt among all, from 1, those given back included."""
        return self.attempt + self.deferrals


@dataclass(frozen=True, slots=True)
class Change:
    """A job after one step, and the line this adds to its history.

    ``job.version`` is still the one that was read: the store compares it and raises it by one.
    """

    job: Job
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before attempt n + 1: full jitter below an exponential ceiling."""

    base: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    ceiling: timedelta = timedelta(seconds=60)

    def delay(self, n: int, *, floor: timedelta | None = None) -> timedelta:
        """Draw the wait after the n-th failure (from 1), not below `floor`."""
        steps = min(max(n, 1) - 1, 64)  # beyond that the ceiling has long been reached
        limit = min(self.ceiling.total_seconds(), self.base.total_seconds() * self.factor**steps)
        wait = timedelta(seconds=random.uniform(0, limit))  # noqa: S311 - jitter, not a secret
        return wait if floor is None else max(wait, floor)


def claim(job: Job, worker_id: WorkerId, attempt_id: AttemptId, *, now: datetime) -> Change:
    """Take a pending job and count the attempt that `attempt_id` intends."""
    taken = _move(
        job,
        Stage.STARTING,
        now=now,
        attempt=job.attempt + 1,
        worker_id=worker_id,
        attempt_id=attempt_id,
        prediction_id=None,
        progress=None,
        collects=0,
        started_at=job.started_at or now,
    )
    return Change(taken, "starting", {"attempt": taken.ordinal, "worker": str(worker_id)})


def wait(job: Job, prediction_id: PredictionId, *, now: datetime) -> Change:
    """Let the job wait for its bought prediction; nobody holds it any more."""
    event = "adopted" if job.stage is Stage.UNKNOWN else "waiting"
    moved = _move(job, Stage.WAITING, now=now, worker_id=None, prediction_id=prediction_id)
    return Change(moved, event, {"attempt": job.ordinal, "prediction": prediction_id})


def advance(job: Job, progress: float, *, now: datetime) -> Change:
    """Note how far the prediction has come, 0.0-1.0."""
    moved = _move(job, Stage.WAITING, now=now, progress=progress)
    return Change(moved, "progress", {"progress": progress})


def finish(job: Job, *, now: datetime) -> Change:
    """The prediction has ended well: its outputs may be collected."""
    moved = _move(job, Stage.COLLECTING, now=now, worker_id=None, run_at=now)
    return Change(moved, "predicted", {"attempt": job.ordinal, "prediction": job.prediction_id})


def collect(job: Job, worker_id: WorkerId, *, now: datetime) -> Change:
    """Take a job whose outputs nobody collects."""
    if job.worker_id is not None:
        raise _illegal(job, "be collected twice at once")
    moved = _move(job, Stage.COLLECTING, now=now, worker_id=worker_id)
    return Change(moved, "collecting", {"worker": str(worker_id)})


def release(job: Job, *, now: datetime, reason: str) -> Change:
    """Give back a job whose outputs were being collected; another worker starts over."""
    moved = _move(job, Stage.COLLECTING, now=now, worker_id=None, run_at=now)
    return Change(moved, "released", {"reason": reason})


def postpone(job: Job, error: FleekError, *, now: datetime, backoff: Backoff) -> Change:
    """Collect the outputs later: they could not be fetched or kept, and may yet be."""
    collects = job.collects + 1
    run_at = now + backoff.delay(collects)
    moved = _move(job, Stage.COLLECTING, now=now, worker_id=None, run_at=run_at, collects=collects)
    return Change(moved, "postponed", {"run_at": run_at.isoformat(), **_reason(error)})


def complete(job: Job, *, now: datetime, outputs: int) -> Change:
    """End well: all `outputs` files are in storage."""
    moved = _move(job, Status.COMPLETED, now=now, worker_id=None, error=None, progress=1.0)
    return Change(moved, "completed", {"outputs": outputs})


def doubt(job: Job, *, now: datetime, reason: str, crashed: bool = False) -> Change:
    """Something may have been bought: keep the attempt until `recover` has found out."""
    crashes = job.crashes + crashed
    moved = _move(job, Stage.UNKNOWN, now=now, worker_id=None, crashes=crashes)
    return Change(moved, "unknown", {"attempt": job.ordinal, "reason": reason})


def defer(
    job: Job, error: FleekError, *, now: datetime, backoff: Backoff, floor: timedelta | None = None
) -> Change:
    """Give the attempt back, as nothing was bought, and try again later, not before `floor`."""
    run_at = now + backoff.delay(job.deferrals + 1, floor=floor)
    moved = _move(
        job,
        Status.PENDING,
        now=now,
        attempt=job.attempt - 1,
        deferrals=job.deferrals + 1,
        worker_id=None,
        run_at=run_at,
    )
    data = {"attempt": job.ordinal, "run_at": run_at.isoformat(), **_reason(error)}
    return Change(moved, "deferred", data)


def fail(job: Job, error: JobError, *, retryable: bool, now: datetime, backoff: Backoff) -> Change:
    """Finish the attempt: queue the next one if that can help, else fail for good."""
    if not retryable or job.attempt >= job.max_attempts:
        return give_up(job, error, now=now)
    run_at = now + backoff.delay(job.retries + 1)
    moved = _move(
        job,
        Status.PENDING,
        now=now,
        retries=job.retries + 1,
        worker_id=None,
        error=error,
        progress=None,
        run_at=run_at,
    )
    data = {"attempt": job.ordinal, "run_at": run_at.isoformat(), **_reason(error)}
    return Change(moved, "retrying", data)


def give_up(job: Job, error: JobError, *, now: datetime) -> Change:
    """End as failed, whatever attempts are left."""
    moved = _move(job, Status.FAILED, now=now, worker_id=None, error=error)
    return Change(moved, "failed", {"attempt": job.ordinal, **_reason(error)})


def cancel(job: Job, *, now: datetime) -> Change:
    """End as cancelled.

    Raises:
        IllegalTransition: The job has ended already.
    """
    moved = _move(job, Status.CANCELLED, now=now, worker_id=None)
    return Change(moved, "cancelled")


def _reason(error: JobError | FleekError) -> dict[str, str]:
    message = error.message if isinstance(error, JobError) else str(error)
    return {"code": error.code, "message": message}


def _move(job: Job, to: State, *, now: datetime, **changes: Any) -> Job:
    if to not in TRANSITIONS[job.state]:
        raise _illegal(job, f"become {to}")
    status, stage = (Status.PROCESSING, to) if isinstance(to, Stage) else (to, None)
    if status in TERMINAL:
        changes["completed_at"] = now
    return replace(job, status=status, stage=stage, updated_at=now, **changes)


def _illegal(job: Job, what: str) -> IllegalTransition:
    return IllegalTransition(f"job {job.id} is {job.state}; it cannot {what}")
