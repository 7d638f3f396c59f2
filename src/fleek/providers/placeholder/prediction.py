"""A placeholder prediction: all there is to know about it is read from its id and the clock."""

import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, Self

from fleek.domain.attempt import Attempt
from fleek.domain.job import PredictionId
from fleek.domain.media import Output
from fleek.providers.base import Failed, Outcome, Prediction, Succeeded

CLOCKS_DIFFER: Final = 10.0  # seconds, as far as those of workers do
MAX_OUTPUTS: Final = 4
MAX_SEED: Final = 2**32 - 1

_FORM: Final = re.compile(r"ph-[0-9a-f]{32}-([0-9a-f]{1,12})-([1-4])(?:-([0-9a-f]{1,8}))?")
_SCHEME: Final = "placeholder:"
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAILURE: Final = Failed(
    code="prediction_failed",
    message="The placeholder failed, as REPLICATE_MOCK_FAILURE_RATE asks.",
    retryable=True,
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How predictions of this installation behave."""

    delay_min: float  # seconds
    delay_max: float
    failure_rate: float  # 0.0-1.0


@dataclass(frozen=True, slots=True)
class PredictionToken:
    """What a prediction's id says."""

    id: PredictionId
    submitted_ms: int  # since 1970, UTC
    outputs: int  # 1-4
    seed: int  # the caller's, else drawn from the id
    luck: float  # decides between success and failure: at least 0.0, below 1.0
    haste: float  # decides how long it runs, in the same range

    @classmethod
    def read(cls, prediction_id: PredictionId) -> Self | None:
        """Return what the id says, or None if it is not one of ours."""
        match = _FORM.fullmatch(prediction_id)
        if match is None:
            return None
        digest = blake2b(prediction_id.encode(), digest_size=12).digest()
        drawn, luck, haste = struct.unpack(">III", digest)
        submitted, outputs, given = match.groups()
        seed = drawn if given is None else int(given, 16)
        return cls(
            prediction_id, int(submitted, 16), int(outputs), seed, luck / 2**32, haste / 2**32
        )


def name(attempt: Attempt, *, outputs: int, seed: int | None) -> PredictionId:
    """Return the id of the attempt's prediction, a pure function of its arguments.

    Args:
        attempt: Its id and the time of its intent are what makes the prediction different from
            others; the time is cut to milliseconds.
        outputs: How many files it makes, 1-4.
        seed: The caller's seed, 0-4294967295; None: to be drawn from the id.
    """
    submitted = milliseconds(attempt.submitted_at)
    chosen = "" if seed is None else f"-{seed:x}"
    return PredictionId(f"ph-{attempt.id.hex}-{submitted:x}-{outputs}{chosen}")


def look(ticket: PredictionToken, habits: Behaviour, *, now_ms: int) -> Prediction:
    """Return the prediction as it stands."""
    delay = habits.delay_min + ticket.haste * (habits.delay_max - habits.delay_min)
    elapsed = (now_ms - ticket.submitted_ms) / 1000
    if elapsed < -CLOCKS_DIFFER:
        elapsed = delay  # a clock was set back, and nobody knows how long it has run
    elapsed = max(elapsed, 0.0)
    if elapsed < delay:
        eta = timedelta(seconds=delay - elapsed)
        return Prediction(id=ticket.id, progress=round(elapsed / delay, 2), eta=eta)
    outcome: Outcome = _FAILURE
    if ticket.luck >= habits.failure_rate:
        outcome = Succeeded(tuple(_output(ticket.id, i) for i in range(ticket.outputs)))
    metrics = {"seed": ticket.seed, "predict_time": round(delay, 3)}
    return Prediction(id=ticket.id, progress=1.0, outcome=outcome, metrics=metrics)


def seed_of(output: Output) -> int | None:
    """Return the seed of one output, or None if it is not one of ours.

    The outputs of one prediction have seeds in sequence.
    """
    uri = output.uri if isinstance(output.uri, str) else ""
    prediction_id, _, index = uri.removeprefix(_SCHEME).rpartition("/")
    ticket = PredictionToken.read(PredictionId(prediction_id))
    if ticket is None or not uri.startswith(_SCHEME) or index not in {"0", "1", "2", "3"}:
        return None
    return (ticket.seed + int(index)) % (MAX_SEED + 1)


def milliseconds(at: datetime) -> int:
    """Return a time as whole milliseconds since 1970."""
    return (at - _EPOCH) // _MILLISECOND


def _output(prediction_id: PredictionId, index: int) -> Output:
    return Output(uri=f"{_SCHEME}{prediction_id}/{index}")
