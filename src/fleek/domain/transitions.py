"""The only functions that change a job.

Each is pure: it takes a job as it was read and returns a `Change`, the job after one step with the
new event of its history. `fleek.store` writes both in one transaction, under the row's lock.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from fleek.domain.copies import replace
from fleek.domain.errors import FleekError, IllegalTransition
from fleek.domain.job import (
    TERMINAL,
    TRANSITIONS,
    WAITING_FOR_INPUT,
    AttemptId,
    Backoff,
    Change,
    Job,
    JobError,
    JobId,
    Kind,
    ModelName,
    PredictionId,
    Stage,
    State,
    Status,
    WorkerId,
)
from fleek.domain.media import Part

UNBOUND: Final = (Stage.STARTING, Stage.UNKNOWN)  # without a known prediction
WAITING: Final = (Stage.WAITING,)
COLLECTING: Final = (Stage.COLLECTING,)
FAILED: Final = (Status.FAILED,)

LONGEST_COLLECT_WAIT: Final = timedelta(seconds=60)
"""Maximum wait between two attempts to collect a result, as an outage may end at any time."""


def claim(job: Job, worker_id: WorkerId, attempt_id: AttemptId, *, now: datetime) -> Change:
    """Assign a pending job to a worker and count the attempt `attempt_id`."""
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


def mark_waiting(job: Job, prediction_id: PredictionId, *, now: datetime) -> Change:
    """Let the job wait for its prediction; it is no longer held by a worker."""
    event = "adopted" if job.stage is Stage.UNKNOWN else "waiting"
    moved = _move(
        job, Stage.WAITING, now=now, since=UNBOUND, worker_id=None, prediction_id=prediction_id
    )
    return Change(moved, event, {"attempt": job.ordinal, "prediction": prediction_id})


def set_progress(job: Job, progress: float, *, now: datetime) -> Change:
    """Set the progress of the prediction, 0.0-1.0."""
    moved = _move(job, Stage.WAITING, now=now, since=WAITING, progress=progress)
    return Change(moved, "progress", {"progress": progress})


def mark_predicted(job: Job, *, now: datetime) -> Change:
    """Move the job to collecting: the prediction has succeeded."""
    moved = _move(
        job, Stage.COLLECTING, now=now, since=WAITING, worker_id=None, run_at=now, error=None
    )
    return Change(moved, "predicted", {"attempt": job.ordinal, "prediction": job.prediction_id})


def recollect(job: Job, *, now: datetime) -> Change:
    """Move a failed job back to collecting; the caller has checked that its result is paid for."""
    moved = _move(
        job,
        Stage.COLLECTING,
        now=now,
        since=FAILED,
        worker_id=None,
        run_at=now,
        collects=0,
        error=None,
        completed_at=None,
    )
    return Change(moved, "recollecting", {"attempt": job.ordinal, "prediction": job.prediction_id})


def collect(job: Job, worker_id: WorkerId, *, now: datetime) -> Change:
    """Assign a job in collecting to a worker, unless another one has it."""
    if job.worker_id is not None:
        raise _illegal(job, "be collected twice at once")
    moved = _move(job, Stage.COLLECTING, now=now, since=COLLECTING, worker_id=worker_id)
    return Change(moved, "collecting", {"worker": str(worker_id)})


def release_collect(job: Job, *, now: datetime, reason: str) -> Change:
    """Release a job in collecting; another worker collects its outputs from the beginning."""
    moved = _move(job, Stage.COLLECTING, now=now, since=COLLECTING, worker_id=None, run_at=now)
    return Change(moved, "released", {"reason": reason})


def postpone(job: Job, error: FleekError, *, now: datetime, backoff: Backoff) -> Change:
    """Postpone the collecting, as outputs could not be fetched or stored."""
    collects = job.collects + 1
    prompt = replace(backoff, ceiling=min(backoff.ceiling, LONGEST_COLLECT_WAIT))
    run_at = now + prompt.delay(collects, least=0.5)
    moved = _move(
        job,
        Stage.COLLECTING,
        now=now,
        since=COLLECTING,
        worker_id=None,
        run_at=run_at,
        collects=collects,
        error=JobError(error.code, str(error)),
    )
    return Change(moved, "postponed", {"run_at": run_at.isoformat(), **_reason(error)})


def complete(
    job: Job,
    *,
    now: datetime,
    outputs: int,
    kind: Kind | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Change:
    """End the job as completed: all `outputs` files are in storage; `kind` is that of the first.

    `notes` are added to the event.
    """
    moved = _move(
        job, Status.COMPLETED, now=now, worker_id=None, error=None, progress=1.0, kind=kind
    )
    return Change(moved, "completed", {"outputs": outputs, **(notes or {})})


def reuse(job: Job, source: Job, *, now: datetime, outputs: int) -> Change:
    """End a new job as completed: it has the `outputs` files of an equal one."""
    if job.status is not Status.PENDING or job.attempt_id is not None:
        raise _illegal(job, "have the files of another job")
    ended = replace(
        job,
        status=Status.COMPLETED,
        progress=1.0,
        kind=source.kind,
        reused_from=source.id,
        charged=0,  # nothing is reserved for it
        charged_on=None,
        estimate=0,
        completed_at=now,
        updated_at=now,
    )
    return Change(ended, "completed", {"outputs": outputs, "reused_from": str(source.id)})


def mark_unknown(job: Job, *, now: datetime, reason: str, crashed: bool = False) -> Change:
    """Mark the outcome as unknown, to be reconciled: a prediction may have been created."""
    crashes = job.crashes + crashed
    moved = _move(job, Stage.UNKNOWN, now=now, worker_id=None, crashes=crashes)
    return Change(moved, "unknown", {"attempt": job.ordinal, "reason": reason})


def hold_unknown(job: Job, worker_id: WorkerId, *, now: datetime) -> Change:
    """Assign the job to a worker that repeats the start, so that a crash meanwhile is counted.

    For the provider, it is the same prediction. The job's state does not change; it may have ended.
    """
    if job.state is not Stage.UNKNOWN and not job.terminal:
        raise _illegal(job, "be started again")
    held = replace(job, worker_id=worker_id, updated_at=now)
    return Change(held, "repeating", {"attempt": job.ordinal, "worker": str(worker_id)})


def release_unknown(job: Job, *, now: datetime, reason: str, crashed: bool = False) -> Change:
    """End `hold_unknown`: the outcome of the latest attempt is still unknown."""
    crashes = job.crashes + crashed
    released = replace(job, worker_id=None, crashes=crashes, updated_at=now)
    return Change(released, "released", {"attempt": job.ordinal, "reason": reason})


def defer(
    job: Job, error: FleekError, *, now: datetime, backoff: Backoff, floor: timedelta | None = None
) -> Change:
    """Undo the attempt, as no prediction was created; try again later, not before `floor`."""
    run_at = now + backoff.delay(job.deferrals + 1, floor=floor)
    moved = _move(
        job,
        Status.PENDING,
        now=now,
        since=UNBOUND,
        attempt=job.attempt - 1,
        deferrals=job.deferrals + 1,
        worker_id=None,
        run_at=run_at,
    )
    data = {"attempt": job.ordinal, "run_at": run_at.isoformat(), **_reason(error)}
    return Change(moved, "deferred", data)


def wait_for_inputs(job: Job, sources: Collection[JobId]) -> Job:
    """Return a new job that waits until other jobs have ended; it is not due before its deadline."""
    named = ", ".join(map(str, sorted(sources)))
    reason = JobError(WAITING_FOR_INPUT, f"waits for job {named}")
    return replace(job, run_at=job.deadline, error=reason)


def release_inputs(job: Job, *, now: datetime) -> Change:
    """Let a job start whose inputs are there now, at the time that its caller chose."""
    if not job.waits_for_input:
        raise _illegal(job, "be released")
    wanted = job.deadline - (job.deadline_after or timedelta(0))
    ready = replace(job, run_at=max(now, wanted), error=None, updated_at=now)
    return Change(ready, "inputs_ready")


def postpone_start(job: Job, error: FleekError, *, now: datetime, backoff: Backoff) -> Change:
    """Postpone the start, as an input could not be fetched; no attempt is counted."""
    if job.status is not Status.PENDING:
        raise _illegal(job, "wait for its inputs")
    collects = job.collects + 1
    run_at = now + backoff.delay(collects, least=0.5)
    waiting = replace(
        job,
        run_at=run_at,
        collects=collects,
        error=JobError(error.code, str(error)),
        updated_at=now,
    )
    data = {"run_at": run_at.isoformat(), **_reason(error)}
    return Change(waiting, "input_postponed", data)


def wait_for_budget(job: Job, error: FleekError, *, now: datetime, pause: timedelta) -> Change:
    """Postpone the start, as no budget has room for another attempt."""
    if job.status is not Status.PENDING:
        raise _illegal(job, "wait for a budget")
    run_at = now + pause
    waiting = replace(job, run_at=run_at, error=JobError(error.code, str(error)), updated_at=now)
    return Change(waiting, "out_of_budget", {"run_at": run_at.isoformat(), **_reason(error)})


def mark_searched(job: Job) -> Job:
    """Return a restored job that has no prediction which its database does not know."""
    return replace(job, search_since=None)


def fail(job: Job, error: JobError, *, retryable: bool, now: datetime, backoff: Backoff) -> Change:
    """End the attempt: schedule another one if that can help, else fail permanently."""
    if not retryable or job.attempt >= job.max_attempts:
        return fail_permanently(job, error, now=now)
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


def reroute(
    job: Job, to: int, error: JobError, *, now: datetime, run_at: datetime, closed: bool
) -> Change:
    """Go on at another of the job's routes, as the current one is not paid for any more.

    An attempt whose prediction has failed counts; one without a prediction is given back. `closed`: the
    job never comes back to this route.
    """
    if job.routing is None:
        raise _illegal(job, "go on at another route")
    routing = job.routing.moved(to, code=error.code, message=error.message, closed=closed)
    route = routing.route
    changes: dict[str, Any] = {
        "routing": routing,
        "provider": route.provider,
        "model": ModelName(route.model),
        "input": route.input,
        "inputs": route.inputs,
        "content": None,  # its files are not those of requests for its first route
        "run_at": run_at,
        "error": error,
    }
    data = {"provider": route.provider, "model": route.model, "run_at": run_at.isoformat()}
    if job.status is Status.PENDING:
        return Change(replace(job, updated_at=now, **changes), "rerouted", data | _reason(error))
    if job.state in UNBOUND:
        changes |= {"attempt": job.attempt - 1, "deferrals": job.deferrals + 1}
    else:
        changes |= {"retries": job.retries + 1}
    moved = _move(
        job,
        Status.PENDING,
        now=now,
        since=(*UNBOUND, *WAITING),
        worker_id=None,
        progress=None,
        **changes,
    )
    return Change(moved, "rerouted", {"attempt": job.ordinal, **data, **_reason(error)})


def reschedule(job: Job, *, now: datetime) -> Change:
    """Restart the remaining wait, which was written by a clock that was ahead and was set back."""
    run_at = now + max(job.run_at - job.updated_at, timedelta(0))
    return Change(
        replace(job, run_at=run_at, updated_at=now), "rescheduled", {"run_at": run_at.isoformat()}
    )


def fail_permanently(job: Job, error: JobError, *, now: datetime) -> Change:
    """End the job as failed, even if attempts are left."""
    moved = _move(job, Status.FAILED, now=now, worker_id=None, error=error)
    return Change(moved, "failed", {"attempt": job.ordinal, **_reason(error)})


def cancel(job: Job, *, now: datetime) -> Change:
    """End the job as cancelled.

    Raises:
        IllegalTransition: The job has ended already.
    """
    moved = _move(job, Status.CANCELLED, now=now, worker_id=None)
    return Change(moved, "cancelled")


def edit(job: Job, fields: Mapping[str, Any], *, now: datetime) -> Change:
    """Change what belongs to the caller alone: `favourite`, `tags` and `metadata`; in any state."""
    return Change(replace(job, **fields, updated_at=now), "updated", {"fields": sorted(fields)})


def purge(job: Job, parts: Collection[Part], *, now: datetime) -> Change:
    """Mark parts of an ended job as purged, before they are removed from storage.

    The status does not change. A part that was already purged keeps its time.

    Raises:
        IllegalTransition: The job has not ended.
    """
    if not job.terminal:
        raise _illegal(job, "be purged")
    media = now if Part.MEDIA in parts else None
    metadata = now if Part.METADATA in parts else None
    marked = replace(
        job,
        purged_at=job.purged_at or media,
        metadata_purged_at=job.metadata_purged_at or metadata,
        purging=True,
        updated_at=now,
    )
    return Change(marked, "purged", {"parts": sorted(parts)})


def mark_erased(job: Job, *, now: datetime) -> Change:
    """Record that the purged parts are removed from storage."""
    return Change(replace(job, purging=False, updated_at=now), "erased")


def _reason(error: JobError | FleekError) -> dict[str, str]:
    message = error.message if isinstance(error, JobError) else str(error)
    return {"code": error.code, "message": message}


def _move(
    job: Job, to: State, *, now: datetime, since: Collection[State] | None = None, **changes: Any
) -> Job:
    """Return the job in its next state; `since` restricts the states that the table allows."""
    if to not in TRANSITIONS[job.state] or (since is not None and job.state not in since):
        raise _illegal(job, f"become {to}")
    status, stage = (Status.PROCESSING, to) if isinstance(to, Stage) else (to, None)
    if status in TERMINAL:
        changes["completed_at"] = now
    return replace(job, status=status, stage=stage, updated_at=now, **changes)


def _illegal(job: Job, what: str) -> IllegalTransition:
    return IllegalTransition(f"job {job.id} is {job.state}; it cannot {what}")
