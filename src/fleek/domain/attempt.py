"""An attempt: one intended purchase of a prediction, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fleek.domain.job import AttemptId, JobError, JobId, ModelName, PredictionId, WorkerId


class Verdict(StrEnum):
    """How an attempt ended. Without one it is an intent, or a prediction that runs."""

    SUCCEEDED = "succeeded"  # bought, and it gave outputs
    FAILED = "failed"  # bought, and it gave nothing
    CANCELLED = "cancelled"  # bought and ended on our wish
    NOT_BOUGHT = "not_bought"  # nothing was spent
    LOST = "lost"  # never found out; counted as bought


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One row of `attempts`: written before a cent is spent, never removed."""

    id: AttemptId
    job_id: JobId
    n: int  # from 1; attempts that were given back have their number too
    provider: str
    model: ModelName
    nonce: str  # 128 random bits, hex; proves that a callback belongs to this attempt
    request_hash: str  # sha256 of provider, model and input: twins share it
    submitted_at: datetime  # when the intent was written
    timeout: timedelta  # how long the prediction may run
    worker_id: WorkerId  # who intends, and is the only one to send
    provider_time: datetime | None = None  # the same moment by the provider's clock, if known
    prediction_id: PredictionId | None = None  # set once, when bought
    first_look_at: datetime | None = None  # when to look at the prediction first
    result: Mapping[str, Any] | None = None  # the provider's answer, kept until it is collected
    verdict: Verdict | None = None
    error: JobError | None = None
    empty_looks: int = 0  # complete searches in a row that found no prediction
    looked_at: datetime | None = None  # when the latest of these was
    cancel_owed: bool = False  # the provider must be told to stop, until it says it has
    metrics: Mapping[str, Any] | None = None  # as the provider reports, e.g. predict_time
