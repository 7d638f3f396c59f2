"""Errors, rows of the queue and entries of the history in ComfyUI's forms.

Source: ``server.py`` and ``execution.py`` of ComfyUI 0.3.64, and responses of a running server.
"""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import answer

NAME: Final = "comfyui"
PREFIX: Final = "/comfyui"
OUT_OF_MEMORY: Final = "torch.OutOfMemoryError"


def error(
    _plan: Plan, status: int, text: str, _title: str | None, headers: Mapping[str, str] | None
) -> Response:
    """Return an error response; an invalid input is reported for its node."""
    if status == 422:
        row = {"type": "value_not_in_list", "message": "Value not in list", "details": text}
        nodes = {"1": {"errors": [row], "dependent_outputs": ["2"], "class_type": "KSampler"}}
        return answer(refusal("prompt_outputs_failed_validation", text, nodes), 400)
    if status in (400, 413):
        return answer(refusal("invalid_prompt", text), status)
    return Response(status_code=status, headers=headers)


def refusal(kind: str, text: str, nodes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of a refused workflow."""
    problem = {"type": kind, "message": text, "details": "", "extra_info": {}}
    return {"error": problem, "node_errors": nodes or {}}


def queue_row(prediction: Prediction) -> list[Any]:
    """Return a run's row in the queue, which is the head of its entry in the history, too."""
    given = prediction.input
    return [prediction.seq, prediction.id, given["workflow"], given["extra_data"], ["9"]]


def present(
    prediction: Prediction, plan: Plan, now: float, *, delivery: str | None = None
) -> dict[str, Any]:
    """Return the history of a run: empty until it has ended."""
    del plan, delivery  # nothing there has a date, and its files are a part of the API
    if not has_history(prediction, now):
        return {}
    good = prediction.end == "succeeded"
    status = {
        "status_str": "success" if good else "error",
        "completed": good,
        "messages": _messages(prediction),
    }
    outputs = {"9": {"images": _files(prediction)}} if good else {}
    return {prediction.id: {"prompt": queue_row(prediction), "outputs": outputs, "status": status}}


def has_history(prediction: Prediction, now: float) -> bool:
    """Whether a run has ended; what is removed from the queue leaves no trace."""
    ran = prediction.started_at <= prediction.ended_at
    return prediction.done(now) and ran and prediction.end != "aborted"


def _messages(prediction: Prediction) -> list[list[Any]]:
    begun, ended = _moment(prediction, prediction.started_at), _moment(prediction)
    rows = [["execution_start", begun], ["execution_cached", begun | {"nodes": []}]]
    node = {"node_id": "3", "node_type": "KSampler", "executed": []}
    if prediction.end == "succeeded":
        return [*rows, ["execution_success", ended]]
    if prediction.end == "canceled":
        return [*rows, ["execution_interrupted", ended | node]]
    text = prediction.error or "unknown"
    kind = OUT_OF_MEMORY if "transient_failure" in prediction.traits else "RuntimeError"
    about = {"exception_message": text, "exception_type": kind, "traceback": []}
    return [*rows, ["execution_error", ended | node | about]]


def _moment(prediction: Prediction, at: float | None = None) -> dict[str, Any]:
    instant = prediction.ended_at if at is None else at
    return {"prompt_id": prediction.id, "timestamp": int(instant * 1000)}


def _files(prediction: Prediction) -> list[dict[str, str]]:
    rows = [
        {"filename": name_of(prediction, n), "subfolder": "", "type": "output"}
        for n in range(prediction.images)
    ]
    return rows[:-1] if "missing_output" in prediction.traits else rows


def name_of(prediction: Prediction, n: int) -> str:
    """Return the name of a file."""
    return f"{prediction.id}_{n + 1:05}_.{prediction.extension}"
