"""Many reads at once, and ids that a host does not know."""

import asyncio
import math
from datetime import timedelta

from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.providers.base import Prediction
from fleek.providers.polling import KEPT, Missing, read_each

IDS = [PredictionId(str(number)) for number in range(20)]


async def test_what_is_not_known_is_left_out() -> None:
    """The others are found, so many at a time."""
    running, most = 0, 0

    async def read(key: PredictionId) -> Prediction | None:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1
        return Prediction(id=key) if int(key) % 2 else None

    reads = await read_each(IDS, read, most=20, at_once=3)

    assert reads.failure is None
    assert sorted(reads.found) == sorted(key for key in IDS if int(key) % 2)
    assert most == 3


async def test_of_very_many_a_selection_is_read() -> None:
    """Each has its turn in the end."""
    read_ones: list[PredictionId] = []

    async def read(key: PredictionId) -> None:
        read_ones.append(key)

    await read_each(IDS, read, most=5, at_once=2)

    assert len(set(read_ones)) == len(read_ones) == 5


async def test_a_failure_leaves_what_was_found() -> None:
    """One read that fails must not hide the others."""

    async def read(key: PredictionId) -> Prediction:
        if key == IDS[0]:
            raise ProviderUnavailable("no answer")
        return Prediction(id=key)

    reads = await read_each(IDS, read, most=20, at_once=4)

    assert reads.failure is not None
    assert sorted(reads.found) == sorted(IDS[1:])


async def test_a_rate_limit_ends_the_reads() -> None:
    """More of them would only be refused."""
    calls = 0

    async def read(_: PredictionId) -> Prediction | None:
        nonlocal calls
        calls += 1
        raise ProviderUnavailable("too many", retry_after=timedelta(seconds=1))

    reads = await read_each(IDS, read, most=20, at_once=1)

    assert (calls, reads.found) == (1, {})
    assert reads.failure is not None


def test_an_id_is_missing_from_the_first_look_on() -> None:
    """Until it is found again, or for ever if it was removed."""
    now = [100.0]
    missing = Missing(lambda: now[0])
    first = missing.seconds(IDS[0])
    now[0] += 5
    later = missing.seconds(IDS[0])
    missing.found(IDS[0])
    missing.removed(IDS[1])

    assert (first, later, missing.seconds(IDS[0])) == (0, 5, 0)
    assert math.isinf(missing.seconds(IDS[1]))


def test_what_is_remembered_is_bounded() -> None:
    """Ids come from a database, and a host may have forgotten them all."""
    missing = Missing(lambda: 0.0)

    for number in range(KEPT + 5):
        missing.seconds(PredictionId(str(number)))

    assert len(missing._since) <= KEPT
