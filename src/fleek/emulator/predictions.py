"""A prediction: its state at any instant, and its representations in the API and the ledger."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from fleek.emulator.clock import iso
from fleek.emulator.media import file_name, shape_output
from fleek.emulator.plan import Marker, Plan
from fleek.emulator.responses import ERRORS

STATUSES: Final = ("starting", "processing", "succeeded", "failed", "canceled", "aborted")

WORDS: Final = {  # errors of failed predictions
    "fail_start": "Model setup failed",
    "fail_mid": "Prediction failed: an unexpected error occurred (E9999)",
    "nsfw": "NSFW content detected. Try running it again, or try a different prompt.",
    "transient_failure": "CUDA out of memory. Tried to allocate 2.50 GiB",
    "interrupted": "Prediction interrupted; please retry (code: PA)",
    "odd_error": "Prediction failed: an unexpected error occurred (E9999)",
    "stuck_processing": "Prediction timed out: it ran longer than its limit",
}


@dataclass(slots=True, kw_only=True)
class Prediction:
    """A prediction that is charged for. Instants are seconds since 1970 by the emulator's clock."""

    seq: int  # from 0, in the order of creation
    id: str
    model: str
    version: str  # 64 hexadecimal digits, or "hidden" for official models
    input: dict[str, Any]
    created: float
    queue: float  # seconds before it starts
    work: float  # seconds from its start to its end
    shape: str  # of the output
    extension: str  # of its files
    images: int
    base: str  # scheme and host of the API in the request
    request_hash: str
    token: str  # a fingerprint of the token in the request
    running_limit: float
    deployment: str | None = None
    webhook: str | None = None
    events: tuple[str, ...] = ("start", "output", "logs", "completed")
    streams: bool = False
    deadline: float | None = None  # from Cancel-After
    traits: dict[str, str] = field(default_factory=dict)  # its faults, with arguments
    markers: dict[str, Marker] = field(default_factory=dict)
    fate: str = "delivered"  # of the response: delivered, lost, reset, mangled, late
    cancelled: float | None = None  # instant at which a cancel took effect
    released: float | None = None  # instant at which the control API ended it
    cancel_requests: list[float] = field(default_factory=list)
    cancel_lied: bool = False  # whether a response reported it as stopped while it continued

    started_at: float = math.inf  # inf: never
    ended_at: float = math.inf
    end: str = "succeeded"
    error: str | None = None

    def __post_init__(self) -> None:
        """Compute its start and end."""
        self.retime()

    def retime(self) -> None:
        """Compute its start and end from the current facts."""
        self._plan_life()
        if self.released is not None and self.released < self.ended_at:
            self.started_at = min(self.started_at, self.released)
            self.ended_at = self.released
            if "stuck_processing" in self.traits:
                self.end, self.error = "succeeded", None
        deadline = math.inf if self.deadline is None else self.deadline
        cancelled = math.inf if self.cancelled is None else self.cancelled
        if (stop := min(deadline, cancelled)) < self.ended_at:
            running = stop >= self.started_at
            self.end = "canceled" if running or cancelled <= deadline else "aborted"
            self.error = None
            self.ended_at = stop
            if not running:
                self.started_at = math.inf

    def _plan_life(self) -> None:
        traits = self.traits
        self.started_at = self.created + self.queue + float(traits.get("cold_start", 0))
        self.ended_at = self.started_at + self.work
        self.end, self.error = "succeeded", None
        if "aborted" in traits:
            self.end, self.ended_at, self.started_at = "aborted", self.started_at, math.inf
        elif "stuck_starting" in traits:
            self.started_at = self.ended_at = math.inf
        elif failing := next((name for name in WORDS if name in traits), None):
            self.end, self.error = "failed", WORDS[failing]
            share = {"fail_start": 0.0, "nsfw": 1.0}.get(failing, 0.5)
            self.ended_at = self.started_at + self.work * share
        if "stuck_processing" in traits or self.ended_at > self.started_at + self.running_limit:
            self.end, self.error = "failed", WORDS["stuck_processing"]
            self.ended_at = self.started_at + self.running_limit

    def status(self, now: float) -> str:
        """Return its status at an instant, one of `STATUSES`."""
        if now >= self.ended_at:
            return self.end
        return "processing" if now >= self.started_at else "starting"

    def done(self, now: float) -> bool:
        """Whether it has ended."""
        return now >= self.ended_at

    def visible(self, now: float) -> bool:
        """Whether get and list return it; if not, it still runs and is charged for."""
        traits, age = self.traits, now - self.created
        return not (
            age < float(traits.get("unseen", 0))
            or self.vanished(now)
            or 0 <= now - self.started_at < float(traits.get("vanish_while", 0))
        )

    def vanished(self, now: float) -> bool:
        """Whether it is permanently missing from get and list."""
        return now - self.created >= float(self.traits.get("vanish", math.inf))

    def fraction(self, now: float) -> float:
        """Return its progress, 0-1."""
        if now < self.started_at or math.isinf(self.started_at):
            return 0.0
        if self.end == "succeeded" and now >= self.ended_at:
            return 1.0
        return min((min(now, self.ended_at) - self.started_at) / max(self.work, 1e-6), 0.99)

    def history(self, now: float) -> list[tuple[float, str]]:
        """Return its statuses until now, each with the instant of its beginning."""
        life = [(self.created, "starting")]
        if self.started_at <= now:
            life.append((self.started_at, "processing"))
        if self.ended_at <= now:
            life.append((self.ended_at, self.end))
        return life

    def bill(self, now: float) -> str | None:
        """Return its key in the plan's billing; None while it runs."""
        if not self.done(now):
            return None
        if self.end in ("succeeded", "aborted"):
            return self.end
        when = "before" if math.isinf(self.started_at) else "after"
        return f"{self.end}_{when}_start"


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
    shown = _shown_status(prediction, now)
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


def _shown_status(prediction: Prediction, now: float) -> str:
    """Return the status in the response, which may differ from the true one."""
    status, traits = prediction.status(now), prediction.traits
    if now - prediction.ended_at < 0:
        return traits.get({"processing": "unknown_status"}.get(status, "starting_status"), status)
    late = now - prediction.ended_at < float(traits.get("end_late", 0))
    return "unknown" if late else traits.get("end_status", status)


def _error(prediction: Prediction) -> Any:
    kind = prediction.traits.get("odd_error", "")
    return ERRORS[kind](str(prediction.error)) if kind in ERRORS else prediction.error


def file_urls(prediction: Prediction, host: str) -> list[str]:
    """Return the addresses of its files."""
    return [
        f"{host}/out/{file_name(prediction.id, n)}.{prediction.extension}"
        for n in range(prediction.images)
    ]


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
    return "\n".join(lines) + "\n"


def ledger_row(prediction: Prediction, plan: Plan, now: float) -> dict[str, Any]:
    """Return a prediction's row in the ledger: its history and cost."""
    heading = prediction.bill(now)
    units = plan.billing.get(heading, 0) if heading is not None else 0
    return {
        "id": prediction.id,
        "t": prediction.created,
        "model": prediction.model,
        "request_hash": prediction.request_hash,
        "prompt": prediction.input.get("prompt"),
        "webhook_url": prediction.webhook,
        "token": prediction.token,
        "response_fate": prediction.fate,
        "traits": prediction.traits,
        "status": prediction.status(now),
        "history": prediction.history(now),
        "heading": heading,
        "billed": units,
        "billed_usd": round(units * plan.price_usd, 6),
        "cancel_requests": prediction.cancel_requests,
        "cancel_lied": prediction.cancel_lied,
        "vanished": prediction.vanished(now),
    }


def _metrics(prediction: Prediction) -> dict[str, Any]:
    total = prediction.ended_at - prediction.created
    if math.isinf(prediction.started_at):
        return {"total_time": round(total, 6)}
    metrics = {
        "predict_time": round(prediction.ended_at - prediction.started_at, 6),
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
