"""Results of synchronous requests, kept in memory until the engine has certainly stored them.

The engine stores a result as soon as it has it. If it cannot, it asks for it again within 30 seconds.
"""

import re
import secrets
from collections.abc import Callable
from typing import Final

from fleek.domain.job import PredictionId
from fleek.providers.base import Prediction, Succeeded

KEPT_SECONDS: Final = 120.0  # after the last read
MOST: Final = 128 * 1_048_576  # characters of all results; the newest one is kept in any case

_ID: Final = re.compile(r"result-[0-9a-f]{32}")


def new_id() -> PredictionId:
    """Return an id for a result."""
    return PredictionId(f"result-{secrets.token_hex(16)}")


def is_result(key: PredictionId) -> bool:
    """Whether an id is that of a result, of this process or another."""
    return _ID.fullmatch(key) is not None


class Results:
    """The results that this process has received."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[PredictionId, tuple[float, Prediction]] = {}  # least recently read first

    def keep(self, prediction: Prediction) -> Prediction:
        """Keep a result, and return it."""
        now = self._clock()
        self._kept[prediction.id] = now, prediction
        total = 0
        for key, (read_at, kept) in list(reversed(self._kept.items())):
            total += _chars(kept)
            if key != prediction.id and (total > MOST or now - read_at > KEPT_SECONDS):
                del self._kept[key]
        return prediction

    def get(self, key: PredictionId) -> Prediction | None:
        """Return a result, or None if it is not kept here."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        self._kept[key] = self._clock(), kept[1]
        return kept[1]


def _chars(prediction: Prediction) -> int:
    outcome = prediction.outcome
    outputs = outcome.outputs if isinstance(outcome, Succeeded) else ()
    return sum(len(output.uri or "") for output in outputs)
