"""Replicate's representation of a prediction. Any field may be missing or invalid.

Source: https://replicate.com/docs/reference/http#predictions.get
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

from fleek.domain.job import PredictionId
from fleek.domain.provider_logs import read_log, read_progress
from fleek.domain.text import LongText, ends_of, one_line
from fleek.providers.base import Failed, Outcome, Prediction, Succeeded
from fleek.providers.error_messages import read_reason
from fleek.providers.http import MIB
from fleek.providers.outputs import OutputUnreadable, read_outputs

NAME: Final = "Replicate"
LARGE: Final = (
    16 * MIB
)  # maximum bytes of a prediction or a page of the list, without the middle of logs

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_SEED: Final = re.compile(r"^\s*(?:using )?seed(?: is|:|=)\s*(\d{1,18})\s*$", re.IGNORECASE)
_FLAGGED: Final = re.compile(
    r"nsfw|flagged as sensitive|\(E005\)|safety (filter|checker)", re.IGNORECASE
)
_TRANSIENT: Final = re.compile(
    r"prediction interrupted|please retry|cuda out of memory|queue is full", re.IGNORECASE
)
LOG_TAIL: Final = 20_000  # characters of the logs that are read
METRICS: Final = 50
MAX_REASON: Final = 2000  # characters
ENDED: Final = frozenset({"succeeded", "failed", "canceled", "aborted"})


def read_id(body: Mapping[str, Any]) -> PredictionId | None:
    """Return a prediction's id, or None if it is not valid."""
    prediction_id = body.get("id")
    return (
        PredictionId(prediction_id)
        if isinstance(prediction_id, str) and _ID.fullmatch(prediction_id)
        else None
    )


def read_prediction(body: Mapping[str, Any], *, date: datetime | None = None) -> Prediction | None:
    """Return the prediction in a body, or None if it has no valid id.

    An unknown status counts as running. `date` is the time of the response by the host's clock.
    """
    prediction_id = read_id(body)
    if prediction_id is None:
        return None
    logs = body.get("logs")
    if isinstance(logs, LongText):
        logs = ends_of(logs)
    tail = logs[-LOG_TAIL:].splitlines() if isinstance(logs, str) else []
    outcome, created = _outcome(body), read_time(body.get("created_at"))
    return Prediction(
        id=prediction_id,
        progress=None if outcome is not None else read_progress(tail),
        outcome=outcome,
        metrics={} if outcome is None else _metrics(body, logs),
        log=read_log(logs),
        age=None if date is None or created is None else date - created,
    )


def _outcome(body: Mapping[str, Any]) -> Outcome | None:
    status = body.get("status")
    reason = read_reason(body.get("error"), MAX_REASON, otherwise="")
    match status:
        case "succeeded":
            return _success(body)
        case "failed":
            return _failure(reason or "the model gave no reason")
        case "canceled":
            return _cancelled(body, reason)
        case "aborted":
            message = reason or "the prediction ran out of time before it started"
            return Failed("prediction_aborted", message, retryable=True)
        case _:
            return None


def _success(body: Mapping[str, Any]) -> Outcome:
    output = body.get("output")
    if output is None and body.get("data_removed") is True:
        return Failed("output_expired", "Replicate has removed the output", retryable=False)
    try:
        return Succeeded(read_outputs(output))
    except OutputUnreadable as error:
        return Failed("invalid_output", str(error), retryable=False)


def _failure(reason: str) -> Failed:
    if _FLAGGED.search(reason):
        return Failed("content_flagged", reason, retryable=False)
    return Failed("prediction_failed", reason, retryable=bool(_TRANSIENT.search(reason)))


def _cancelled(body: Mapping[str, Any], reason: str) -> Failed:
    """Distinguish our time limit, after which a retry may help, from a cancellation."""
    deadline, end = read_time(body.get("deadline")), read_time(body.get("completed_at"))
    if deadline is not None and end is not None and end >= deadline:
        return Failed("attempt_timeout", "the prediction ran longer than allowed", retryable=True)
    message = reason or "the prediction was cancelled at Replicate"
    return Failed("prediction_cancelled", message, retryable=False)


def read_time(value: Any) -> datetime | None:
    """Return the instant in a field, or None if it is not valid."""
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _metrics(body: Mapping[str, Any], logs: Any) -> dict[str, Any]:
    """Return the metrics, e.g. ``predict_time`` in seconds, and the seed if the logs contain it."""
    content = body.get("metrics")
    metrics = {
        one_line(name, 100): one_line(value, 200) if isinstance(value, str) else value
        for name, value in (content.items() if isinstance(content, dict) else ())
        if _is_plain(value)
    }
    head = logs[:LOG_TAIL].splitlines() if isinstance(logs, str) else []
    seed = next((match[1] for line in head if (match := _SEED.match(line))), None)
    if seed is not None:
        metrics.setdefault("seed", int(seed))
    return dict(list(metrics.items())[:METRICS])


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**53
    return isinstance(value, str)
