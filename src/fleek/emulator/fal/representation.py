"""Statuses, results, callbacks and errors in fal's form."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from fleek.emulator.clock import iso
from fleek.emulator.media import CONTENT_TYPES
from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction, file_urls
from fleek.emulator.replicate.representation import logs
from fleek.emulator.responses import ERRORS, answer

NAME: Final = "fal"
PREFIX: Final = "/fal"
JWKS: Final = "/.well-known/jwks.json"

STATUSES: Final = {"starting": "IN_QUEUE", "processing": "IN_PROGRESS"}
NO_CREDIT: Final = "User is locked. Reason: Exhausted balance."
NAMESPACES: Final = ("workflows", "comfy")

RUNNERS: Final = {  # failures of what runs a model: status and type
    "transient_failure": (503, "runner_disconnected"),
    "interrupted": (503, "runner_disconnected"),
    "stuck_processing": (504, "request_timeout"),
}

Failure = tuple[int, dict[str, Any], dict[str, str]]
"""The status, the body and the headers of the response in place of a result."""


def error(
    _plan: Plan, status: int, text: str, _title: str | None, headers: Mapping[str, str] | None
) -> Response:
    """Return an error response."""
    if status == 402:  # as an account without credit is told
        status, text = 403, NO_CREDIT
    return answer({"detail": text}, status, headers)


def app_of(model: str) -> str:
    """Return the part of a model's name under which its requests are read."""
    parts = model.split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def urls(prediction: Prediction) -> dict[str, str]:
    """Return the addresses of a request."""
    own = f"{prediction.base}{PREFIX}/{app_of(prediction.model)}/requests/{prediction.id}"
    return {"response_url": own, "status_url": f"{own}/status", "cancel_url": f"{own}/cancel"}


def present(
    prediction: Prediction, plan: Plan, now: float, *, delivery: str | None = None
) -> dict[str, Any]:
    """Return the status of a request as of `now`, with its log."""
    del delivery  # a status has no files
    shown = prediction.shown_status(now)
    ended = shown in ("succeeded", "failed", "canceled", "aborted")
    status = "COMPLETED" if ended else STATUSES.get(shown, shown)
    body: dict[str, Any] = {"status": status, "request_id": prediction.id, **urls(prediction)}
    if status == "IN_QUEUE":
        return body | {"queue_position": 0}
    lines = logs(prediction, now).splitlines()
    at = iso(prediction.created + plan.clock_offset_seconds)
    body["logs"] = [
        {"message": line, "level": "INFO", "source": "USER", "timestamp": at} for line in lines
    ]
    if ended:
        body["metrics"] = {"inference_time": prediction.run_seconds}
    if ended and shown != "succeeded":
        failed = failure(prediction)[1]
        body |= {"error": prediction.error or "the request was stopped"}
        body |= {key: value for key, value in failed.items() if key == "error_type"}
    return body


def result(prediction: Prediction, host: str) -> dict[str, Any]:
    """Return the result of a request that has succeeded."""
    addresses = file_urls(prediction, host)
    if "missing_output" in prediction.traits:
        del addresses[-1]
    kind = CONTENT_TYPES[prediction.extension]
    return {
        "images": [
            {"url": url, "content_type": kind, "width": 64, "height": 64} for url in addresses
        ],
        "timings": {"inference": round(prediction.work, 6)},
        "seed": 42,
        "has_nsfw_concepts": [False] * len(addresses),
        "prompt": prediction.input.get("prompt"),
    }


def failure(prediction: Prediction) -> Failure:
    """Return the response in place of the result of a request that has failed or was stopped."""
    text = str(prediction.error)
    match prediction.end:
        case "canceled":
            return _flat(499, "The request was cancelled", "client_cancelled")
        case "aborted":
            status, body, headers = _flat(504, "Request timed out", "startup_timeout")
            return status, body, headers | {"x-fal-request-timeout-type": "user"}
    if kind := prediction.traits.get("odd_error"):
        return 500, {"detail": ERRORS[kind](text)}, {}
    failing = (name for name in RUNNERS if name in prediction.traits)
    if (name := next(failing, None)) is not None:
        status, kind = RUNNERS[name]
        return _flat(status, text, kind)
    flagged = "nsfw" in prediction.traits
    kind = "content_policy_violation" if flagged else "internal_server_error"
    error = {"loc": ["body", "prompt"], "msg": text, "type": kind}
    return 422 if flagged else 500, {"detail": [error]}, {"x-fal-retryable": "false"}


def _flat(status: int, text: str, kind: str) -> Failure:
    return status, {"detail": text, "error_type": kind}, {"x-fal-error-type": kind}


def notify(
    prediction: Prediction, plan: Plan, now: float, *, delivery: str | None = None
) -> dict[str, Any]:
    """Return the content of a callback."""
    del plan  # a callback has no times
    body: dict[str, Any] = {"request_id": prediction.id, "gateway_request_id": prediction.id}
    if prediction.status(now) == "succeeded":
        payload = result(prediction, delivery or prediction.base)
        return body | {"status": "OK", "payload": payload, "error": None}
    payload = failure(prediction)[1]
    return body | {"status": "ERROR", "payload": payload, "error": prediction.error or "stopped"}
