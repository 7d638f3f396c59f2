"""An attempt: one intended prediction, and its verdict."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import uuid5

from fleek.domain.copies import replace
from fleek.domain.job import AttemptId, JobError, JobId, ModelName, PredictionId, WorkerId
from fleek.domain.values import dataclass


class Verdict(StrEnum):
    """The final result of an attempt. Without a verdict, it is an intent or a running prediction."""

    SUCCEEDED = "succeeded"  # paid for, with outputs
    FAILED = "failed"  # paid for, without outputs
    CANCELLED = "cancelled"  # paid for, and cancelled by Fleek
    NOT_CREATED = "not_bought"  # not paid for: no prediction was created
    LOST = "lost"  # the outcome stayed unknown; counted as paid for


class AttemptIdentity(Protocol):
    """What of an attempt never changes, and is known without its row."""

    @property
    def id(self) -> AttemptId:
        """The attempt."""
        ...

    @property
    def job_id(self) -> JobId:
        """Its job."""
        ...

    @property
    def provider(self) -> str:
        """The provider that it was made at."""
        ...

    @property
    def account(self) -> str | None:
        """The provider's account, see `Attempt.account`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One row of `attempts`: written before the provider is called, never removed."""

    id: AttemptId
    job_id: JobId
    number: int  # from 1, including attempts that were given back
    provider: str
    model: ModelName
    nonce: str  # 128 random bits, hex; authenticates callbacks of this attempt
    request_hash: str  # SHA-256 of provider, model and input; the same for duplicates
    submitted_at: datetime  # when the intent was written
    timeout: timedelta  # maximum run time of the prediction
    worker_id: WorkerId  # the only worker that may start the prediction
    account: str | None = None  # of the provider, if it has several; see `SupportsAccounts`
    provider_time: datetime | None = None  # `submitted_at` by the provider's clock, if known
    prediction_id: PredictionId | None = None  # set once, by the binding
    first_look_at: datetime | None = None  # time of the first poll
    result: Mapping[str, Any] | None = None  # the provider's response, kept until it is collected
    verdict: Verdict | None = None
    error: JobError | None = None
    empty_looks: int = 0  # complete searches in a row that found no prediction
    looked_at: datetime | None = None  # time of the latest of these searches
    inputs: Mapping[str, Any] | None = None
    """What was sent for each media input, by its pointer: `sha256`, `size_bytes`, `content_type`, and
    the `address` if the provider was sent one; None: there was none."""
    cancel_owed: bool = False  # the cancel request is repeated until the prediction ends
    metrics: Mapping[str, Any] | None = None  # from the provider, e.g. predict_time
    estimate: int | None = (
        None  # expected cost in 10^-6 USD, reserved until the verdict; None: unknown
    )
    charged_on: str | None = None  # the day on which it was reserved, in UTC
    cost: int | None = None  # in 10^-6 USD, with the verdict; None: unknown


def attempt_id_of(job_id: JobId, nonce: str) -> AttemptId:
    """Return the id of the attempt of a job with a nonce.

    So the job of a callback URL, which has both, is known without a row of the attempt.
    """
    return AttemptId(uuid5(job_id, nonce))


def bind_prediction(
    attempt: Attempt, prediction_id: PredictionId, *, first_look_at: datetime
) -> Attempt:
    """Return the attempt with its prediction; a premature verdict is removed."""
    return replace(
        attempt,
        prediction_id=prediction_id,
        first_look_at=first_look_at,
        verdict=None,
        error=None,
        cost=None,
    )


def owe_cancel(attempt: Attempt) -> Attempt:
    """Return the attempt with `cancel_owed` set: its prediction must be cancelled."""
    return replace(attempt, cancel_owed=True)


def close_attempt(
    attempt: Attempt, verdict: Verdict, error: JobError | None = None, *, cost: int | None = None
) -> Attempt:
    """Return the attempt with its verdict, which also clears `cancel_owed`.

    `cost`: in 10^-6 USD; None: unknown, so it counts as was estimated, if anything was paid for.
    """
    if verdict is Verdict.NOT_CREATED:
        cost = 0
    elif cost is None:
        cost = attempt.estimate
    return replace(attempt, verdict=verdict, error=error, cancel_owed=False, cost=cost)
