"""A placeholder prediction: its state is a function of its id and the time."""

import re
import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, Self

from fleek.domain.attempt import Attempt
from fleek.domain.job import PredictionId
from fleek.domain.media import Output
from fleek.domain.values import dataclass
from fleek.providers.base import Failed, Outcome, Prediction, Succeeded

CLOCKS_DIFFER: Final = 10.0  # maximum difference between the clocks of two workers, in seconds
MAX_OUTPUTS: Final = 4
MAX_SEED: Final = 2**32 - 1

_FORM: Final = re.compile(r"ph-[0-9a-f]{32}-([0-9a-f]{1,12})-([1-4])(?:-([0-9a-f]{1,8}))?")
_SCHEME: Final = "placeholder:"
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAILURE: Final = Failed(
    code="prediction_failed",
    message="The placeholder failed, as set by REPLICATE_MOCK_FAILURE_RATE.",
    retryable=True,
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The settings of an installation's predictions."""

    delay_min: float  # seconds
    delay_max: float
    failure_rate: float  # 0.0-1.0


@dataclass(frozen=True, slots=True)
class PredictionToken:
    """The content of a prediction's id."""

    id: PredictionId
    submitted_ms: int  # since 1970, UTC
    outputs: int  # 1-4
    seed: int  # the caller's, else drawn from the id
    failure_draw: float  # fails if below the failure rate; 0.0 to 1.0, without 1.0
    delay_draw: float  # position between the shortest and the longest delay, in the same range

    @classmethod
    def read(cls, prediction_id: PredictionId) -> Self | None:
        """Return the content of an id, or None if it is not the placeholder's."""
        match = _FORM.fullmatch(prediction_id)
        if match is None:
            return None
        digest = blake2b(prediction_id.encode(), digest_size=12).digest()
        drawn_seed, failure_draw, delay_draw = struct.unpack(">III", digest)
        submitted, outputs, chosen_seed = match.groups()
        seed = drawn_seed if chosen_seed is None else int(chosen_seed, 16)
        return cls(
            prediction_id,
            int(submitted, 16),
            int(outputs),
            seed,
            failure_draw / 2**32,
            delay_draw / 2**32,
        )


def new_id(attempt: Attempt, *, outputs: int, seed: int | None) -> PredictionId:
    """Return the id of the attempt's prediction, a pure function of its arguments.

    Args:
        attempt: Its id and the time of its intent, cut to milliseconds, make the id unique.
        outputs: How many files it makes, 1-4.
        seed: The caller's seed, 0-4294967295; None: to be drawn from the id.
    """
    submitted = milliseconds(attempt.submitted_at)
    suffix = "" if seed is None else f"-{seed:x}"
    return PredictionId(f"ph-{attempt.id.hex}-{submitted:x}-{outputs}{suffix}")


def prediction_of(token: PredictionToken, behaviour: Behaviour, *, now_ms: int) -> Prediction:
    """Return the state of a prediction at the given time."""
    delay = behaviour.delay_min + token.delay_draw * (behaviour.delay_max - behaviour.delay_min)
    elapsed = (now_ms - token.submitted_ms) / 1000
    if elapsed < -CLOCKS_DIFFER:
        elapsed = delay  # a clock was set back, so the age is unknown
    elapsed = max(elapsed, 0.0)
    if elapsed < delay:
        eta = timedelta(seconds=delay - elapsed)
        return Prediction(id=token.id, progress=round(elapsed / delay, 2), eta=eta)
    outcome: Outcome = _FAILURE
    if token.failure_draw >= behaviour.failure_rate:
        outcome = Succeeded(tuple(_output(token.id, i) for i in range(token.outputs)))
    metrics = {"seed": token.seed, "predict_time": round(delay, 3)}
    return Prediction(id=token.id, progress=1.0, outcome=outcome, metrics=metrics)


def seed_of(output: Output) -> int | None:
    """Return the seed of one output, or None if it is not the placeholder's.

    The outputs of one prediction have seeds in sequence.
    """
    uri = output.uri if isinstance(output.uri, str) else ""
    prediction_id, _, index = uri.removeprefix(_SCHEME).rpartition("/")
    token = PredictionToken.read(PredictionId(prediction_id))
    if token is None or not uri.startswith(_SCHEME) or index not in {"0", "1", "2", "3"}:
        return None
    return (token.seed + int(index)) % (MAX_SEED + 1)


def milliseconds(at: datetime) -> int:
    """Return a time as whole milliseconds since 1970."""
    return (at - _EPOCH) // _MILLISECOND


def _output(prediction_id: PredictionId, index: int) -> Output:
    return Output(uri=f"{_SCHEME}{prediction_id}/{index}")
