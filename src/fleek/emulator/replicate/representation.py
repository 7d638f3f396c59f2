"""A prediction in Replicate's form."""

from typing import Any, Final

from fleek.emulator.clock import iso
from fleek.emulator.media import shape_output
from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction, file_urls
from fleek.emulator.responses import ERRORS

NAME: Final = "replicate"
STEPS: Final = 20


def present(
    prediction: Prediction, plan: Plan, now: float, *, delivery: str | None = None
) -> dict[str, Any]:
    """Return the prediction object as of `now`.

    Args:
        prediction: The prediction.
        plan: For retention and the offset of the clock.
        now: By the emulator's clock; an earlier instant for the state in a lagging replica.
        delivery: Scheme and host of the output files; None: those of the API.
    """
    removed = now >= prediction.ended_at + plan.retention_seconds
    status = prediction.status(now)
    shown = prediction.shown_status(now)
    succeeded = shown == "succeeded" and not removed
    body: dict[str, Any] = {
        "id": prediction.id,
        "model": prediction.model,
        "version": prediction.version,
        "input": {} if removed else prediction.input,
        "logs": "" if removed else logs(prediction, now),
        "output": output(prediction, delivery or prediction.base) if succeeded else None,
        "error": _error(prediction) if status == "failed" else None,
        "status": shown,
        "data_removed": removed,
        "source": "api",
        "metrics": _metrics(prediction) if prediction.done(now) else {},
        "urls": _urls(prediction),
    }
    body |= _times(prediction, plan, now)
    if prediction.deployment is not None:
        body["deployment"] = prediction.deployment
    if prediction.webhook is not None:
        body["webhook"] = prediction.webhook
        body["webhook_events_filter"] = list(prediction.events)
    return body


def _error(prediction: Prediction) -> Any:
    kind = prediction.traits.get("odd_error", "")
    return ERRORS[kind](str(prediction.error)) if kind in ERRORS else prediction.error


def output(prediction: Prediction, host: str) -> Any:
    """Return its output."""
    urls = file_urls(prediction, host)
    if "missing_output" in prediction.traits:
        urls = urls[:-1]
    return shape_output(prediction.shape, prediction.id, urls, prediction.extension)


def logs(prediction: Prediction, now: float) -> str:
    """Return its logs: one progress line per step, in the form of tqdm."""
    if now < prediction.started_at:
        return ""
    done = int(prediction.fraction(now) * STEPS)
    lines = ["Using seed: 42"]
    for step in range(done + 1):
        bar = ("█" * (step // 2)).ljust(STEPS // 2)
        lines.append(f"{step * 100 // STEPS:3d}%|{bar}| {step}/{STEPS} [00:00<00:00, 20.00it/s]")
    if prediction.done(now) and prediction.error is not None:
        lines.append(f"Error: {prediction.error}")
    if "huge_logs" in prediction.traits:
        lines.insert(0, "x" * int(float(prediction.traits["huge_logs"]) * 1e6))
    if "bar_logs" in prediction.traits:
        return "\r\n".join([lines[0], "\r".join(lines[1:])])
    return "\n".join(lines) + "\n"


def _metrics(prediction: Prediction) -> dict[str, Any]:
    total = prediction.ended_at - prediction.created
    if (run := prediction.run_seconds) is None:
        return {"total_time": round(total, 6)}
    metrics = {
        "predict_time": run,
        "total_time": round(total, 6),
    }
    if prediction.end == "succeeded":
        metrics["image_count"] = prediction.images
    return metrics


def _urls(prediction: Prediction) -> dict[str, str]:
    own = f"{prediction.base}/v1/predictions/{prediction.id}"
    urls = {"get": own, "cancel": f"{own}/cancel", "web": f"{prediction.base}/p/{prediction.id}"}
    if prediction.streams:
        urls["stream"] = f"{prediction.base}/stream/{prediction.id}"
    return urls


def _times(prediction: Prediction, plan: Plan, now: float) -> dict[str, str | None]:
    def shown(instant: float) -> str | None:
        return iso(instant + plan.clock_offset_seconds) if instant <= now else None

    times = {
        "created_at": iso(prediction.created + plan.clock_offset_seconds),
        "started_at": shown(prediction.started_at),
        "completed_at": shown(prediction.ended_at),
    }
    if "completed_before_created" in prediction.traits and prediction.done(now):
        times["completed_at"] = iso(prediction.created + plan.clock_offset_seconds - 60)
    if prediction.deadline is not None:
        times["deadline"] = iso(prediction.deadline + plan.clock_offset_seconds)
    return times
