"""Parse a Cog server's JSON about a prediction."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from fleek.domain.job import PredictionId
from fleek.domain.long_text import LongText, ends_of, head_of
from fleek.domain.text import one_line
from fleek.providers.base import Failed, Outcome, Prediction, Succeeded
from fleek.providers.error_messages import read_reason
from fleek.providers.foreign_json import NotJson, parse
from fleek.providers.outputs import OutputUnreadable, read_outputs

MESSAGE_CHARS: Final = 2000
MAX_PREFIXED: Final = 10_000  # characters of an error that are searched for prefixes
MAX_METRICS: Final = 50
MAX_NUMBER: Final = 2**53
LOG_TAIL: Final = 4000  # characters that are searched for progress

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PERCENT: Final = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?%")
_STEPS: Final = re.compile(r"(?<![\d/.])(\d{1,6})/(\d{1,6})(?![\d/.])")
_PREFIX: Final = re.compile(r"^((Async )?[Pp]rediction failed: )+")
_TRANSIENT: Final = re.compile(  # faults of the server or its machine, not of the input
    r"worker crashed|socket error|failed to send request|task lost|mutex poisoned"
    r"|out of memory|cuda error|no space left",
    re.IGNORECASE,
)


class Unreadable(ValueError):
    """The body does not describe a prediction of ours."""


def is_ours(prediction_id: str) -> bool:
    """Whether an id has the form of those that we give to predictions."""
    return _ID.fullmatch(prediction_id) is not None


def answer(body: bytes) -> Prediction:
    """Return the prediction that a body describes.

    Raises:
        Unreadable: It describes none of ours.
    """
    try:
        content = parse(body)
    except NotJson as error:
        raise Unreadable("the Cog server's response is not JSON") from error
    if not isinstance(content, dict) or not isinstance(content.get("status"), str):
        raise Unreadable("the Cog server's response does not describe a prediction")
    prediction_id = content.get("id")
    if not isinstance(prediction_id, str) or not is_ours(prediction_id):
        raise Unreadable("the Cog server's response names another prediction")
    outcome = _outcome(content)
    return Prediction(
        id=PredictionId(prediction_id),
        progress=_progress(content.get("logs")) if outcome is None else None,
        outcome=outcome,
        metrics=_metrics(content.get("metrics")),
    )


def lost(prediction_id: PredictionId) -> Prediction:
    """Return the failure of a prediction that does not run and whose result did not arrive."""
    reason = "the Cog server does not run the prediction any more, and its result did not arrive"
    return Prediction(id=prediction_id, outcome=Failed("prediction_lost", reason, retryable=True))


def _outcome(content: Mapping[str, Any]) -> Outcome | None:
    match content["status"]:
        case "succeeded":
            return _success(content.get("output"))
        case "failed":
            return _failure(content.get("error"))
        case "canceled":
            return Failed("prediction_cancelled", "the Cog server cancelled it", retryable=True)
        case _:  # starting, processing, or a status of a later version
            return None


def _success(output: object) -> Outcome:
    try:
        return Succeeded(read_outputs(output))
    except OutputUnreadable as error:
        return Failed("invalid_output", str(error), retryable=False)


def _failure(error: object) -> Failed:
    head = head_of(error) if isinstance(error, str | LongText) else error
    reason = _PREFIX.sub("", head[:MAX_PREFIXED]) if isinstance(head, str) else head
    message = read_reason(reason, MESSAGE_CHARS, otherwise="the Cog server gave no reason")
    return Failed("prediction_failed", message, retryable=bool(_TRANSIENT.search(message)))


def _progress(logs: object) -> float | None:
    """Return the progress that a log shows: its last ``37%`` or ``3/8``."""
    if isinstance(logs, LongText):
        logs = ends_of(logs)
    if not isinstance(logs, str):
        return None
    tail = logs[-LOG_TAIL:]
    if percents := _PERCENT.findall(tail):
        return min(int(percents[-1]), 100) / 100
    steps = [(int(done), int(all_)) for done, all_ in _STEPS.findall(tail)]
    done, all_ = steps[-1] if steps else (0, 0)
    return round(done / all_, 2) if 0 <= done <= all_ and all_ else None


def _metrics(metrics: object) -> dict[str, Any]:
    """Return the numbers among the metrics."""
    if not isinstance(metrics, dict):
        return {}
    numbers = (
        (one_line(name, 100), value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if -MAX_NUMBER < value < MAX_NUMBER  # neither NaN, nor more than others can read
    )
    return dict(islice(numbers, MAX_METRICS))
