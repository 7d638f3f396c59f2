"""Errors in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.responses import JSONResponse, Response

from fleek.api.errors import Refusal
from fleek.domain.errors import FieldError, InvalidInput
from fleek.domain.job import Job

INVALID: Final = "invalid_request_error"
STATUSES: Final = {422: 400}
TYPES: Final = {401: INVALID, 403: "permission_error", 429: "rate_limit_error"}
CODES: Final = {
    "unauthorized": "invalid_api_key",
    "unknown_model": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
}
OURS: Final[Mapping[str, str]] = {
    "model_name": "model",
    "num_outputs": "n",
    "num_images": "n",
    "width": "size",
    "height": "size",
    "aspect_ratio": "size",
    "image_size": "size",
    "duration_seconds": "seconds",
    "duration": "seconds",
}
"""What a caller of OpenAI's API knows by another name."""

RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504, 507})
NO_RETRY: Final = {"x-should-retry": "false"}


def present_error(refusal: Refusal) -> Response:
    """Return an error of a request, and say whether it is worth a retry."""
    status = STATUSES.get(refusal.status, refusal.status)
    code, parameter = CODES.get(refusal.code, refusal.code), None
    detail = refusal.detail
    if refusal.errors:
        first = refusal.errors[0]
        parameter = _parameter(first.pointer)
        if first.detail not in detail:
            detail = f"{detail}: {first.detail}"
    if code == "model_not_found":
        status = 404
    body = error_body(detail, code=code, parameter=parameter, kind=_type(status))
    headers = dict(refusal.headers)
    if status not in RETRIED:
        headers |= NO_RETRY
    return JSONResponse(body, status, headers=headers)


def error_body(
    message: str, *, code: str | None, kind: str, parameter: str | None = None
) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def failure(job: Job) -> tuple[int, dict[str, Any]]:
    """Return the status and the body for a job that has failed or was cancelled."""
    code, message = reason(job)
    if code == "moderation_blocked":
        return 400, error_body(message, code=code, kind="image_generation_user_error")
    return 500, error_body(message, code=code, kind="server_error")


def reason(job: Job) -> tuple[str, str]:
    """Return why a job has failed or was cancelled: a code and a text."""
    if job.error is None:
        return "cancelled", "the job was cancelled"
    code = "moderation_blocked" if job.error.code == "content_flagged" else job.error.code
    return code, job.error.message


def refused(name: str, detail: str, *, code: str = "invalid_value") -> InvalidInput:
    """Return the error of a parameter."""
    problem = FieldError(f"/{name}", code, detail)
    return InvalidInput(f"{name}: {detail}", code=code, errors=[problem])


def unknown_model(name: str) -> InvalidInput:
    """Return the error of a model that there is not."""
    return refused("model", f"the model {name[:100]!r} does not exist", code="unknown_model")


def _type(status: int) -> str:
    return TYPES.get(status, INVALID if status < 500 else "server_error")


def _parameter(pointer: str) -> str | None:
    names = [name for name in pointer.split("/") if name and name != "parameters"]
    return OURS.get(names[0], names[0]) if names else None
