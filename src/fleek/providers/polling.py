"""Polling a host that has one address for each prediction."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.domain.values import dataclass
from fleek.providers.base import Prediction

KEPT: Final = 10_000  # ids


@dataclass(frozen=True, slots=True)
class Reads:
    """What many reads have found.

    Args:
        found: By id, without those that the host does not know.
        failure: The last of the reads that have failed; None: none has.
    """

    found: dict[PredictionId, Prediction]
    failure: ProviderUnavailable | None


async def read_each(
    ids: Sequence[PredictionId],
    read: Callable[[PredictionId], Awaitable[Prediction | None]],
    *,
    most: int,
    at_once: int,
) -> Reads:
    """Read predictions one by one; a random selection of very many, so that all have their turn.

    Args:
        ids: Each once.
        read: Returns a prediction; None: it is not known now.
        most: Number of reads.
        at_once: Number of concurrent ones.
    """
    found: dict[PredictionId, Prediction] = {}
    failures: list[ProviderUnavailable] = []
    places = asyncio.Semaphore(at_once)

    async def read_one(key: PredictionId) -> None:
        """Read one, unless the provider has asked to wait meanwhile; a failure is noted."""
        async with places:
            if any(failure.retry_after is not None for failure in failures):
                return  # rate limited: the others are polled next time
            try:
                prediction = await read(key)
            except ProviderUnavailable as error:
                failures.append(error)
                return
        if prediction is not None:
            found[key] = prediction

    await asyncio.gather(*map(read_one, random.sample(ids, min(len(ids), most))))
    return Reads(found, failures[-1] if failures else None)


class Missing:
    """The predictions that a host does not know, and since when: they may become known again.

    Args:
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[PredictionId, float] = {}

    def found(self, key: PredictionId) -> None:
        """Forget one that is known again."""
        self._since.pop(key, None)

    def removed(self, key: PredictionId) -> None:
        """Remember that we have removed one: it does not become known again."""
        self._since[key] = -math.inf

    def seconds(self, key: PredictionId) -> float:
        """Return how long one has been missing, from this call on; infinite: we have removed it."""
        if len(self._since) >= KEPT:
            self._since.clear()
        return self._clock() - self._since.setdefault(key, self._clock())
