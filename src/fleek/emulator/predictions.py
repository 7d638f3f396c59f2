"""A prediction: its state at any instant, and its row in the ledger."""

import math
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from fleek.emulator.media import file_name
from fleek.emulator.plan import Marker, Plan

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
    dialect: str = "replicate"  # the name of its provider
    deployment: str | None = None
    webhook: str | None = None
    events: tuple[str, ...] = ("start", "output", "logs", "completed")
    streams: bool = False
    deadline: float | None = None  # from Cancel-After; at fal only for its start
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
        if self.dialect == "fal" and self.started_at <= deadline:
            deadline = math.inf
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

    def shown_status(self, now: float) -> str:
        """Return the status in responses, which may differ from the true one."""
        status, traits = self.status(now), self.traits
        if now - self.ended_at < 0:
            return traits.get(
                {"processing": "unknown_status"}.get(status, "starting_status"), status
            )
        late = now - self.ended_at < float(traits.get("end_late", 0))
        return "unknown" if late else traits.get("end_status", status)

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

    @property
    def deleted(self) -> bool:
        """Whether its result was deleted after its end, where the cancel request is a deletion."""
        late = any(at >= self.ended_at for at in self.cancel_requests)
        return late and self.dialect == "openai"

    @property
    def overran(self) -> bool:
        """Whether it was stopped by the time limit of its own request, not by a cancel."""
        return self.end == "canceled" and self.ended_at == self.deadline

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

    @property
    def run_seconds(self) -> float | None:
        """How long it ran, as answers say it; None: it did not run."""
        if math.isinf(self.started_at):
            return None
        return round(self.ended_at - self.started_at, 6)


def price_micros(prediction: Prediction, plan: Plan, now: float) -> int:
    """Return what it costs in 10^-6 US dollars, rounded up; 0 while it runs."""
    heading = prediction.bill(now)
    units = plan.billing.get(heading, 0) if heading is not None else 0
    run = Decimal(str(prediction.run_seconds or 0))
    each = Decimal(str(plan.price_usd)) + Decimal(str(plan.price_per_second_usd)) * run
    price = Decimal(str(units)) * each * 1_000_000
    return int(price.to_integral_value(rounding=ROUND_CEILING))


def file_urls(prediction: Prediction, host: str) -> list[str]:
    """Return the addresses of its files."""
    return [
        f"{host}/out/{file_name(prediction.id, n)}.{prediction.extension}"
        for n in range(prediction.images)
    ]


def ledger_row(prediction: Prediction, plan: Plan, now: float) -> dict[str, Any]:
    """Return a prediction's row in the ledger: its history and cost."""
    heading, price = prediction.bill(now), price_micros(prediction, plan, now)
    units = plan.billing.get(heading, 0) if heading is not None else 0
    return {
        "id": prediction.id,
        "provider": prediction.dialect,
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
        "billed_micros": price,
        "billed_usd": price / 1e6,
        "cancel_requests": prediction.cancel_requests,
        "cancel_lied": prediction.cancel_lied,
        "deleted": prediction.deleted,
        "overran": prediction.overran and prediction.done(now),
        "vanished": prediction.vanished(now),
    }
