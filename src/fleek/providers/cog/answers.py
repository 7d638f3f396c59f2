"""What a Cog server says about a prediction, read into our values."""

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
MAX_PREFIXED: Final = 10_000  # characters of an error that are looked at
MAX_METRICS: Final = 50
MAX_NUMBER: Final = 2**53
LOG_TAIL: Final = 4000  # characters in which progress is looked for

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PERCENT: Final = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?%")
_STEPS: Final = re.compile(r"(?<![\d/.])(\d{1,6})/(\d{1,6})(?![\d/.])")
_PREFIX: Final = re.compile(r"^((Async )?[Pp]rediction failed: )+")
_PASSING: Final = re.compile(  # the server's own troubles, and the machine's: not the input's
    r"worker crashed|socket error|failed to send request|task lost|mutex poisoned"
    r"|out of memory|cuda error|no space left",
    re.IGNORECASE,
)


class Unreadable(ValueError):
    """The server's words are not an answer about a prediction."""


def is_ours(prediction_id: str) -> bool:
    """Whether this is the id of a prediction that we could have asked for."""
    return _ID.fullmatch(prediction_id) is not None


def answer(body: bytes) -> Prediction:
    """Return the prediction that `body` tells of.

    Raises:
        Unreadable: It tells of none.
    """
    try:
        told = parse(body)
    except NotJson as error:
        raise Unreadable("the Cog server's answer is not JSON") from error
    if not isinstance(told, dict) or not isinstance(told.get("status"), str):
        raise Unreadable("the Cog server's answer is not about a prediction")
    prediction_id = told.get("id")
    if not isinstance(prediction_id, str) or not is_ours(prediction_id):
        raise Unreadable("the Cog server's answer is about no prediction of ours")
    outcome = _outcome(told)
    return Prediction(
        id=PredictionId(prediction_id),
        progress=_progress(told.get("logs")) if outcome is None else None,
        outcome=outcome,
        metrics=_metrics(told.get("metrics")),
    )


def lost(prediction_id: PredictionId) -> Prediction:
    """Return the end of a prediction that runs no more and whose answer has not come."""
    reason = "the prediction runs no more at the Cog server, and its answer has not come"
    return Prediction(id=prediction_id, outcome=Failed("prediction_lost", reason, retryable=True))


def _outcome(told: Mapping[str, Any]) -> Outcome | None:
    match told["status"]:
        case "succeeded":
            return _success(told.get("output"))
        case "failed":
            return _failure(told.get("error"))
        case "canceled":
            return Failed("prediction_cancelled", "the Cog server stopped it", retryable=True)
        case _:  # starting, processing, or a word of a later version: it will end in one of these
            return None


def _success(output: object) -> Outcome:
    try:
        return Succeeded(read_outputs(output))
    except OutputUnreadable as error:
        return Failed("invalid_output", str(error), retryable=False)


def _failure(said: object) -> Failed:
    told = head_of(said) if isinstance(said, str | LongText) else said
    words = _PREFIX.sub("", told[:MAX_PREFIXED]) if isinstance(told, str) else told
    message = read_reason(words, MESSAGE_CHARS, otherwise="the Cog server gave no reason")
    return Failed("prediction_failed", message, retryable=bool(_PASSING.search(message)))


def _progress(logs: object) -> float | None:
    """Return how far the log says it is: the last ``37%`` or ``3/8`` in it."""
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


def _metrics(told: object) -> dict[str, Any]:
    """Return the numbers among the metrics."""
    if not isinstance(told, dict):
        return {}
    numbers = (
        (one_line(name, 100), value)
        for name, value in told.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if -MAX_NUMBER < value < MAX_NUMBER  # neither NaN, nor more than others can read
    )
    return dict(islice(numbers, MAX_METRICS))
