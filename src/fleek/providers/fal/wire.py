"""Names of models, and fal's responses as predictions of ours. Any field may be missing or invalid.

Source: https://docs.fal.ai/model-apis/model-endpoints/queue and `fal-client` 1.0.3.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from math import isfinite
from typing import Any, Final

from fleek.domain.errors import NotFound, ProviderUnavailable
from fleek.domain.job import MODEL_NAME, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.domain.provider_logs import read_log, read_progress
from fleek.domain.text import LongText, head_of, one_line
from fleek.providers.base import PAYMENT_REQUIRED, Failed, Outcome, Prediction, Succeeded
from fleek.providers.error_messages import read_reason
from fleek.providers.http import UNPAID, Answer, Unreadable, detail, raise_for_create
from fleek.providers.outputs import OutputUnreadable, read_outputs

NAME: Final = "fal"
COMPLETED: Final = "COMPLETED"
REQUEST_ID: Final = "x-fal-request-id"
STATED: Final = ("x-fal-error-type", "x-fal-retryable")  # headers of a failure that fal reports

MAX_REASON: Final = 2000  # characters
MAX_METRICS: Final = 30
MAX_LINES: Final = 20_000  # of a log
LOG_TAIL: Final = 50  # lines of a log that are searched for the progress

_NAMESPACES: Final = frozenset({"workflows", "comfy"})
_REQUEST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_PATH: Final = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}/){{2,3}}requests/{_REQUEST.pattern}"
)
_FILE: Final = re.compile(r"(?!text/)[a-z]{1,20}/[a-z0-9.+-]{1,60}")
_TRANSIENT: Final = re.compile(r"out of memory|timed? ?out|unavailable", re.IGNORECASE)

_UNPAID: Final = re.compile(r"exhausted balance|insufficient (?:balance|credit)", re.IGNORECASE)
_CANCELLED: Final = frozenset({"client_cancelled", "client_disconnected"})
_LATE: Final = frozenset({"startup_timeout", "runner_scheduling_failure"})
_FLAGGED: Final = "content_policy_violation"
_ENVELOPE: Final = frozenset(
    ["detail", "error", "error_type", "id", "message", "next", "request_id", "results", "status"]
)
"""What errors and other responses than a result consist of."""

EMPTY: Final = Failed("empty_output", "the response has no output", retryable=False)
CANCELLED: Final = Failed("prediction_cancelled", "the request was cancelled", retryable=False)


def app_of(model: ModelName) -> str:
    """Return the part of a model's name under which its requests are read: ``owner/app``.

    Raises:
        NotFound: It is not the name of a model at fal.
    """
    parts = model.split("/")
    most = 3 if parts[0] in _NAMESPACES else 2
    if MODEL_NAME.fullmatch(model) is None or ":" in model or len(parts) < most:
        raise NotFound("no such model: the name must be owner/app or owner/app/path")
    return "/".join(parts[:most])


def read_request_id(body: Mapping[str, Any]) -> str | None:
    """Return the id of a request, or None if it is not valid."""
    request_id = body.get("request_id")
    valid = isinstance(request_id, str) and _REQUEST.fullmatch(request_id) is not None
    return str(request_id) if valid else None


def prediction_id(model: ModelName, request_id: str) -> PredictionId:
    """Return the id of a prediction: the path of its request, as that cannot be read without the app.

    Raises:
        NotFound: The model's name is not valid.
    """
    return PredictionId(f"{app_of(model)}/requests/{request_id}")


def is_prediction_id(key: PredictionId) -> bool:
    """Whether an id is the path of a request."""
    return len(key) <= 400 and _PATH.fullmatch(key) is not None


def raise_for_submit(answer: Answer) -> None:
    """Raise the error for the status of a response to a submission; see `raise_for_create`.

    fal locks an account without credit, and says so with the status 403.
    """
    if answer.status == 403 and _UNPAID.search(reason := detail(answer)):
        message = f"the account has no credit left: {reason}"
        raise ProviderUnavailable(message, code=PAYMENT_REQUIRED, retry_after=UNPAID)
    raise_for_create(answer, NAME)


def read_running(key: PredictionId, status: Mapping[str, Any]) -> Prediction:
    """Return the prediction of a status; its outcome is not known yet."""
    log = read_log(_log(status.get("logs")))
    progress = None if log is None else read_progress(log.splitlines()[-LOG_TAIL:])
    return Prediction(id=key, progress=progress, log=log)


def _log(rows: Any) -> str:
    """Return the messages of a log as one text."""
    listed = islice(rows, MAX_LINES) if isinstance(rows, list) else ()
    messages = (row.get("message") for row in listed if isinstance(row, dict))
    texts = (head_of(text) for text in messages if isinstance(text, str | LongText))
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts)


def is_failure(status: Mapping[str, Any], answer: Answer) -> bool:
    """Whether a response in place of a result is the failure of the request, by fal or its model.

    Else it is that of a gateway, or of a part of fal that does not know yet that the request has ended.
    """
    if 200 <= answer.status < 300:
        return False
    if status.get("error") or status.get("error_type"):
        return True
    if any(name in answer.headers for name in STATED):
        return True
    try:
        body = answer.json()
    except Unreadable:
        return False
    return "error_type" in body or isinstance(body.get("detail"), list)


def read_failure(status: Mapping[str, Any], answer: Answer) -> Failed:
    """Return the failure of a request: what the model refuses, or why it did not run."""
    try:
        body = answer.json()
    except Unreadable:
        body = {}
    stated = body.get("detail") or status.get("error")
    reason = read_reason(stated, MAX_REASON, otherwise=detail(answer))
    kind = body.get("error_type") or status.get("error_type") or answer.headers.get(STATED[0])
    if kind in _CANCELLED:
        return CANCELLED
    if _FLAGGED in _types(body.get("detail")) or kind == _FLAGGED:
        return Failed("content_flagged", reason, retryable=False)
    if kind in _LATE:
        return Failed("prediction_aborted", reason, retryable=True)
    if answer.status == 422:
        return Failed("provider_invalid_input", reason, retryable=False)
    again = answer.headers.get(STATED[1], "").lower()
    retryable = (
        again == "true" or answer.status in {502, 503, 504} or bool(_TRANSIENT.search(reason))
    )
    return Failed("prediction_failed", reason, retryable=retryable and again != "false")


def _types(errors: Any) -> Iterator[str]:
    """Yield the types of a model's errors."""
    for error in islice(errors, 20) if isinstance(errors, list) else ():
        kind = error.get("type") if isinstance(error, dict) else None
        if isinstance(kind, str):
            yield kind


def read_result(answer: Answer) -> Outcome:
    """Return the result in a response: JSON with addresses of files, or a file.

    Raises:
        Unreadable: It is not a result.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    ours = bool(answer.headers.get(REQUEST_ID))
    if ours and answer.body and kind != "application/json" and _FILE.fullmatch(kind):
        encoded = base64.b64encode(answer.body).decode()
        return Succeeded((Output(uri=f"data:{kind};base64,{encoded}"),))
    body = answer.json()
    if not ours and body.keys() <= _ENVELOPE:
        raise Unreadable("the response is not a result")
    try:
        outputs = read_outputs(body)
        files = tuple(output for output in outputs if output.uri is not None)
        text = body.get("output")
        if not files and isinstance(text, str | LongText):
            outputs = read_outputs(text)
    except OutputUnreadable as error:
        return Failed("invalid_output", str(error), retryable=False)
    return Succeeded(files or outputs) if outputs else EMPTY


def read_metrics(status: Mapping[str, Any], result: Answer) -> dict[str, Any]:
    """Return the run time in seconds, and plain values of the result, such as the seed."""
    named: dict[str, Any] = {}
    metrics = status.get("metrics")
    if isinstance(metrics, dict):
        named |= metrics
    try:
        body = result.json()
    except Unreadable:
        body = {}
    if 200 <= result.status < 300:
        named |= {name: body[name] for name in body if isinstance(body[name], int | float)}
    plain = ((one_line(name, 100), value) for name, value in named.items() if _is_plain(value))
    return dict(islice(plain, MAX_METRICS))


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
