"""A prediction and its state at any instant, computed on demand."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from fleek.emulator.plan import Marker

STATUSES: Final = ("starting", "processing", "succeeded", "failed", "canceled", "aborted")

WORDS: Final = {  # what a prediction that fails says
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
    """One sale. Instants are seconds since 1970 by the emulator's clock."""

    seq: int  # from 0, in the order of creation
    id: str
    model: str
    version: str  # 64 hexadecimal digits, or "hidden" for official models
    input: dict[str, Any]
    created: float
    queue: float  # seconds before it starts
    work: float  # seconds it then takes
    shape: str  # of the output
    extension: str  # of its files
    images: int
    base: str  # scheme and host of the API, as its creator addressed it
    request_hash: str
    token: str  # a fingerprint of the token that bought it
    running_limit: float
    deployment: str | None = None
    webhook: str | None = None
    events: tuple[str, ...] = ("start", "output", "logs", "completed")
    streams: bool = False
    deadline: float | None = None  # from Cancel-After
    traits: dict[str, str] = field(default_factory=dict)  # faults of its life, with arguments
    markers: dict[str, Marker] = field(default_factory=dict)
    fate: str = "delivered"  # of create's response: delivered, lost, reset, mangled, late
    cancelled: float | None = None  # when a cancel took effect
    released: float | None = None  # when the control API ended it
    cancel_requests: list[float] = field(default_factory=list)
    cancel_lied: bool = False  # whether a response claimed that it had stopped while it ran on

    started_at: float = math.inf  # inf: never
    ended_at: float = math.inf
    end: str = "succeeded"
    error: str | None = None

    def __post_init__(self) -> None:
        """Compute its life."""
        self.retime()

    def retime(self) -> None:
        """Compute when it starts and how it ends, from what is known now."""
        self._foresee()
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

    def _foresee(self) -> None:
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
        """Say which of `STATUSES` it has at this instant."""
        if now >= self.ended_at:
            return self.end
        return "processing" if now >= self.started_at else "starting"

    def done(self, now: float) -> bool:
        """Whether it has ended."""
        return now >= self.ended_at

    def visible(self, now: float) -> bool:
        """Whether get and list know of it; it runs and is charged for all the same."""
        traits, age = self.traits, now - self.created
        return not (
            age < float(traits.get("unseen", 0))
            or self.vanished(now)
            or 0 <= now - self.started_at < float(traits.get("vanish_while", 0))
        )

    def vanished(self, now: float) -> bool:
        """Whether it is gone for good."""
        return now - self.created >= float(self.traits.get("vanish", math.inf))

    def fraction(self, now: float) -> float:
        """How much of the work is done, 0-1."""
        if now < self.started_at or math.isinf(self.started_at):
            return 0.0
        if self.end == "succeeded" and now >= self.ended_at:
            return 1.0
        return min((min(now, self.ended_at) - self.started_at) / max(self.work, 1e-6), 0.99)

    def history(self, now: float) -> list[tuple[float, str]]:
        """Give its statuses until now, each with the instant it began."""
        life = [(self.created, "starting")]
        if self.started_at <= now:
            life.append((self.started_at, "processing"))
        if self.ended_at <= now:
            life.append((self.ended_at, self.end))
        return life

    def bill(self, now: float) -> str | None:
        """Say under which heading of the plan's billing it falls; None while it runs."""
        if not self.done(now):
            return None
        if self.end in ("succeeded", "aborted"):
            return self.end
        when = "before" if math.isinf(self.started_at) else "after"
        return f"{self.end}_{when}_start"
