"""An attempt: one intended prediction, and its verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fleek.domain.job import AttemptId, JobError, JobId, ModelName, PredictionId, WorkerId


class Verdict(StrEnum):
    """How an attempt ended. Without one it is an intent, or a running prediction."""

    SUCCEEDED = "succeeded"  # paid for, with outputs
    FAILED = "failed"  # paid for, without outputs
    CANCELLED = "cancelled"  # paid for, and ended by our cancel
    NOT_BOUGHT = "not_bought"  # nothing was spent
    LOST = "lost"  # never found out; counted as paid for


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One row of `attempts`: written before a cent is spent, never removed."""

    id: AttemptId
    job_id: JobId
    number: int  # from 1; attempts that were given back have their number too
    provider: str
    model: ModelName
    nonce: str  # 128 random bits, hex; proves that a callback belongs to this attempt
    request_hash: str  # sha256 of provider, model and input: duplicates share it
    submitted_at: datetime  # when the intent was written
    timeout: timedelta  # how long the prediction may run
    worker_id: WorkerId  # the only worker that may start the prediction
    provider_time: datetime | None = None  # the same moment by the provider's clock, if known
    prediction_id: PredictionId | None = None  # set once, when the prediction is known
    first_look_at: datetime | None = None  # when to poll the prediction first
    result: Mapping[str, Any] | None = None  # the provider's answer, kept until it is collected
    verdict: Verdict | None = None
    error: JobError | None = None
    empty_looks: int = 0  # complete searches in a row that found no prediction
    looked_at: datetime | None = None  # when the latest of these was
    cancel_owed: bool = False  # the provider must be asked to cancel until the prediction ends
    metrics: Mapping[str, Any] | None = None  # as the provider reports, e.g. predict_time


def bind_prediction(
    attempt: Attempt, prediction_id: PredictionId, *, first_look_at: datetime
) -> Attempt:
    """Return the attempt with its prediction; a premature verdict is withdrawn."""
    return replace(
        attempt, prediction_id=prediction_id, first_look_at=first_look_at, verdict=None, error=None
    )


def owe_cancel(attempt: Attempt) -> Attempt:
    """Return the attempt with a cancel debt: its prediction has to be cancelled."""
    return replace(attempt, cancel_owed=True)


def close_attempt(attempt: Attempt, verdict: Verdict, error: JobError | None = None) -> Attempt:
    """Return the attempt with its verdict, which also settles a cancel debt."""
    return replace(attempt, verdict=verdict, error=error, cancel_owed=False)
