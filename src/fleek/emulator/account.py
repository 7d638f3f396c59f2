"""The emulator's only account, of all dialects: its predictions, uploads and limits."""

import base64
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from fleek.emulator.clock import Clock
from fleek.emulator.dialect import Dialect
from fleek.emulator.ledger import Ledger
from fleek.emulator.plan import FaultSampler, Marker, Plan
from fleek.emulator.predictions import Prediction, ledger_row

ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
COMPUTED = ("started_at", "ended_at", "end", "error")


@dataclass(slots=True, kw_only=True)
class Upload:
    """An uploaded input file."""

    id: str
    name: str
    content_type: str
    content: bytes
    metadata: dict[str, Any]
    created: float


@dataclass(slots=True)
class Account:
    """The emulator's state. Used from one event loop only."""

    plan: Plan
    ledger: Ledger
    dialects: Mapping[str, Dialect]  # by name
    delivery: str | None = None  # scheme and host of output files; None: the API's own
    clock: Clock = field(default_factory=Clock)
    sampler: FaultSampler = field(default_factory=FaultSampler)
    predictions: list[Prediction] = field(default_factory=list)  # in the order of creation
    by_id: dict[str, Prediction] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    boot: bytes = field(default_factory=lambda: os.urandom(16))  # makes ids of two runs differ
    on_retime: Callable[[Prediction], None] = lambda _: None  # called when an end is moved forward
    windows: Counter[tuple[str, int]] = field(default_factory=Counter)  # requests by minute
    failed: Counter[tuple[str, int]] = field(
        default_factory=Counter
    )  # number of failures of a file

    @property
    def secret(self) -> str:
        """The signing secret of callbacks, a function of the seed."""
        key = sha256(f"webhook secret of {self.plan.seed}".encode()).digest()
        return "whsec_" + base64.b64encode(key).decode()

    def now(self) -> float:
        """Return the time of the emulator's clock."""
        return self.clock.now()

    def new_id(self) -> str:
        """Return a unique id like Replicate's: 26 characters of base 32."""
        digest = sha256(self.boot + os.urandom(16)).digest()
        return bytes(ALPHABET[byte % 32] for byte in digest[:26]).decode()

    def next_instant(self) -> float:
        """Return the time of the next creation, later than that of the previous one."""
        now = self.now()
        return max(now, self.predictions[-1].created + 1e-6) if self.predictions else now

    def record_prediction(self, prediction: Prediction) -> None:
        """Record a new prediction; it exists even if the response is lost."""
        self.ledger.add("prediction", **_record(prediction))
        self._enter(prediction)

    def cancel(self, prediction: Prediction, *, heeded: bool = True, lied: bool = False) -> None:
        """Record a cancel request, and end the prediction now if it is heeded and still runs.

        `lied`: the response reports it as stopped, in any state.
        """
        now = self.now()
        running = not prediction.done(now)
        heeded, lied = heeded and running, lied and running
        self.ledger.add("cancel", id=prediction.id, t=now, heeded=heeded, lied=lied)
        _cancel(prediction, now, heeded=heeded, lied=lied)
        if heeded:
            self.on_retime(prediction)
            self.clock.wake()

    def release(self, prediction: Prediction) -> None:
        """End a prediction now with its planned result; one that is stuck succeeds."""
        now = self.now()
        if not prediction.done(now):
            self.ledger.add("release", id=prediction.id, t=now)
            prediction.released = now
            prediction.retime()
            self.on_retime(prediction)
            self.clock.wake()

    def since(self, instant: float) -> int:
        """Return the index in `predictions` of the first one created at or after an instant.

        The instant is a time as it is shown, to the microsecond.
        """
        offset = self.plan.clock_offset_seconds
        return bisect_left(
            self.predictions,
            round(instant, 6),
            key=lambda prediction: round(prediction.created + offset, 6),
        )

    def show(self, prediction: Prediction, *, at: float | None = None) -> dict[str, Any]:
        """Return a prediction's representation as of now, or of another instant."""
        present = self.dialects[prediction.dialect].present
        return present(
            prediction, self.plan, self.now() if at is None else at, delivery=self.delivery
        )

    def totals(self) -> dict[str, Any]:
        """Return the totals of the ledger: counts and costs."""
        now = self.now()
        rows = [ledger_row(prediction, self.plan, now) for prediction in self.predictions]
        return {
            "predictions": len(rows),
            "running": sum(row["heading"] is None for row in rows),
            "statuses": Counter(row["status"] for row in rows),
            "headings": Counter(row["heading"] for row in rows if row["heading"] is not None),
            "fates": Counter(row["response_fate"] for row in rows),
            "vanished": sum(row["vanished"] for row in rows),
            "billed": sum(row["billed"] for row in rows),
            "billed_usd": round(sum(row["billed_usd"] for row in rows), 6),
            "rows": dict(self.ledger.counts),
        }

    def reset(self, seed: int | None) -> None:
        """Remove all state except the plan. Ids of earlier predictions are not reused."""
        if seed is not None:
            self.plan = self.plan.model_copy(update={"seed": seed})
        self.predictions.clear()
        self.by_id.clear()
        self.uploads.clear()
        self.windows.clear()
        self.failed.clear()
        self.sampler = FaultSampler()
        self.ledger.forget()
        self.clock.wake()

    def restore(self) -> None:
        """Restore the state from the ledger's file."""
        for row in self.ledger.replay():
            match row.pop("row"):
                case "prediction":
                    self._enter(_prediction(row))
                case "cancel":
                    prediction = self.by_id[row["id"]]
                    lied = row.get("lied", False)
                    _cancel(prediction, row["t"], heeded=row["heeded"], lied=lied)
                case "release":
                    self.by_id[row["id"]].released = row["t"]
                    self.by_id[row["id"]].retime()
                case _:
                    pass  # requests, callbacks and downloads do not change the state

    def _enter(self, prediction: Prediction) -> None:
        self.predictions.append(prediction)
        self.by_id[prediction.id] = prediction


def fingerprint(token: str) -> str:
    """Return a short hash that identifies a token."""
    return sha256(token.encode()).hexdigest()[:12]


def _cancel(prediction: Prediction, instant: float, *, heeded: bool, lied: bool) -> None:
    prediction.cancel_requests.append(instant)
    prediction.cancel_lied |= lied
    if heeded:
        prediction.cancelled = instant
        prediction.retime()


def _record(prediction: Prediction) -> dict[str, Any]:
    record = asdict(prediction)
    return {name: value for name, value in record.items() if name not in COMPUTED}


def _prediction(record: dict[str, Any]) -> Prediction:
    record["markers"] = {name: Marker(**marker) for name, marker in record["markers"].items()}
    record["events"] = tuple(record["events"])
    return Prediction(**record)
