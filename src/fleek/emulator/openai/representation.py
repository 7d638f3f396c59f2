"""Errors, images and videos in the forms of OpenAI, vLLM-Omni, SGLang-Diffusion and LiteLLM.

Sources: the types of the package `openai` 3.57.0, ``entrypoints/openai`` of `vllm-omni` 0.30.0 and
of `sglang` 0.5.23.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from fleek.emulator.media import file_name, render
from fleek.emulator.openai import litellm
from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction, file_urls, price_micros
from fleek.emulator.responses import answer

NAME: Final = "openai"
PREFIX: Final = "/openai/v1"

CODES: Final = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
STATUSES: Final = {
    "starting": "queued",
    "processing": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "canceled": "failed",
    "aborted": "failed",
}
BLOCKED: Final = "Your request was rejected by the safety system."
UNPAID: Final = "You exceeded your current quota, please check your plan and billing details."


def error(
    plan: Plan, status: int, text: str, _title: str | None, headers: Mapping[str, str] | None
) -> Response:
    """Return an error response."""
    headers = dict(headers or {})
    if plan.openai_server in ("vllm", "sglang"):
        return answer({"detail": text}, status, headers)
    code = CODES.get(status)
    if status == 402:
        status, code, text = 429, "insufficient_quota", UNPAID
        headers = {"x-should-retry": "false"}
    elif status == 422:
        status = 400
    if (after := headers.get("retry-after", "")).isdigit():
        headers["retry-after-ms"] = str(int(after) * 1000)
    if plan.openai_server == "litellm":
        return answer(litellm.wrapped(text, status), status, litellm.renamed(headers))
    return answer({"error": error_of(text, code, status)}, status, headers)


def error_of(text: str, code: str | None, status: int) -> dict[str, Any]:
    """Return the object that describes an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"message": text, "type": kind, "param": None, "code": code}


def failure(prediction: Prediction, plan: Plan) -> tuple[dict[str, Any], int]:
    """Return the body and the status of the response to a synchronous request that failed."""
    text = prediction.error or "the request was stopped"
    status = 400 if "nsfw" in prediction.traits else 500
    if plan.openai_server == "litellm":
        return litellm.wrapped(BLOCKED if status == 400 else text, status), status
    if plan.openai_server != "openai":
        return {"detail": text}, status
    if status == 400:
        return {"error": error_of(BLOCKED, "moderation_blocked", status)}, status
    return {"error": error_of(text, None, status)}, status


def images(prediction: Prediction, plan: Plan, *, host: str, urls: bool) -> dict[str, Any]:
    """Return the response with the images of a prediction that has succeeded.

    `usage` has its `cost` in US dollars, as gateways add it.
    """
    if urls:
        data = [{"url": url} for url in file_urls(prediction, host)]
    else:
        data = [{"b64_json": _encoded(prediction, n)} for n in range(prediction.images)]
    if "missing_output" in prediction.traits:
        del data[-1]
    tokens = 1000 * prediction.images
    return {
        "created": int(prediction.ended_at),
        "background": "opaque",
        "data": data,
        "output_format": {"jpg": "jpeg"}.get(prediction.extension, prediction.extension),
        "quality": "low",
        "size": prediction.input.get("size") or "1024x1024",
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 20},
            "output_tokens": tokens,
            "total_tokens": tokens + 20,
            "cost": price_micros(prediction, plan, prediction.ended_at) / 1e6,
        },
    }


def _encoded(prediction: Prediction, n: int) -> str:
    content = render(file_name(prediction.id, n), prediction.extension)
    return base64.b64encode(content).decode()


def present(
    prediction: Prediction, plan: Plan, now: float, *, delivery: str | None = None
) -> dict[str, Any]:
    """Return a video's job as of `now`."""
    del delivery  # its content is a part of the API
    shown = prediction.shown_status(now)
    status = STATUSES.get(shown, shown)
    body: dict[str, Any] = {
        "id": prediction.id,
        "object": "video",
        "model": prediction.model,
        "status": status,
        "progress": int(prediction.fraction(now) * 100),
        "created_at": int(prediction.created + plan.clock_offset_seconds),
        "completed_at": int(prediction.ended_at) if prediction.done(now) else None,
        "expires_at": None,
        "size": prediction.input.get("size") or "720x1280",
        "seconds": str(prediction.input.get("seconds") or "4"),
        "remixed_from_video_id": None,
        "error": _error(prediction) if status == "failed" else None,
    }
    if prediction.done(now):
        body["usage"] = {"cost": price_micros(prediction, plan, now) / 1e6}
    if plan.openai_server == "litellm":
        body["id"] = litellm.shown_id(prediction.id)
    elif plan.openai_server != "sglang":
        body["prompt"] = prediction.input.get("prompt")
    return body


def _error(prediction: Prediction) -> dict[str, Any]:
    if "nsfw" in prediction.traits:
        return {"code": "moderation_blocked", "message": BLOCKED}
    return {"code": "server_error", "message": prediction.error or "the video was stopped"}


def failed_status(prediction: Prediction) -> int:
    """Return the HTTP status with which vLLM-Omni shows a failed video."""
    return 400 if "nsfw" in prediction.traits else 500
