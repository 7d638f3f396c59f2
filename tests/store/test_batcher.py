"""One commit for many callers: who shares what, and who suffers for whom."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from fleek.domain.errors import (
    DatabaseUnavailable,
    FleekError,
    NotFound,
    Overloaded,
    WriteUnknown,
)
from fleek.store.batcher import Batcher, arrived_at


@asynccontextmanager
async def at_once() -> AsyncGenerator[None]:
    """Begin without a wait."""
    yield


class Recorder:
    """Answers each number with its double, and remembers what it was asked together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.gate.set()

    async def flush(self, _opened: None, items: Sequence[int]) -> list[int | FleekError]:
        """Refuse a batch with a 13 in it; answer a 7 with an error of its own."""
        self.batches.append(list(items))
        self.entered.set()
        await self.gate.wait()
        if 13 in items:
            raise ValueError("13")
        if 99 in items:
            raise DatabaseUnavailable("99")
        return [NotFound("7") if item == 7 else 2 * item for item in items]


async def test_callers_that_come_meanwhile_share_the_next_flush() -> None:
    """A commit waits for the disk; those who wait for it wait together."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    first = asyncio.create_task(group.put(1))
    await recorder.entered.wait()
    others = [asyncio.create_task(group.put(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)

    recorder.gate.set()
    answers = await asyncio.gather(first, *others)

    assert answers == [2, 4, 6, 8]
    assert recorder.batches == [[1], [2, 3, 4]]


async def test_a_flush_takes_no_more_than_its_limit() -> None:
    """A statement has a largest sensible size."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, limit=2)

    answers = await asyncio.gather(*(group.put(number) for number in range(5)))

    assert answers == [0, 2, 4, 6, 8]
    assert max(map(len, recorder.batches)) == 2


async def test_lanes_flush_at_the_same_time() -> None:
    """While one lane waits for its commit, another one fills."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, shards=2, limit=1)
    recorder.gate.clear()
    callers = [asyncio.create_task(group.put(number)) for number in (1, 2, 3)]
    async with asyncio.timeout(20):
        while len(recorder.batches) < 2:
            await asyncio.sleep(0)

    under_way = list(recorder.batches)
    recorder.gate.set()
    await asyncio.gather(*callers)

    assert under_way == [[1], [2]]


async def test_a_lane_that_finds_nothing_left_flushes_nothing() -> None:
    """Each caller wakes a lane; the first lane takes them all."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, shards=2)

    await asyncio.gather(*map(group.put, (1, 2, 3)))
    await group.close()

    assert recorder.batches == [[1, 2, 3]]


async def test_an_answer_that_is_an_error_goes_to_its_caller_only() -> None:
    """One job that is not there is no reason for the others to fail."""
    group = Batcher(at_once, Recorder().flush)

    answers = await asyncio.gather(*map(group.put, (6, 7, 8)), return_exceptions=True)

    assert answers[0] == 12
    assert isinstance(answers[1], NotFound)
    assert answers[2] == 16


async def test_only_the_caller_of_a_bad_item_hears_of_it() -> None:
    """The batch is halved until it is known whose fault it is."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    numbers = [1, 2, 13, 4, 5, 6, 8, 9]

    answers = await asyncio.gather(*map(group.put, numbers), return_exceptions=True)

    assert [type(one) for one in answers].count(ValueError) == 1
    assert isinstance(answers[2], ValueError)
    assert answers[3:] == [8, 10, 12, 16, 18]
    assert len(recorder.batches) <= 1 + 2 * 3


async def test_a_host_that_is_away_fails_all_callers_at_once() -> None:
    """Trying each of them alone would only keep everybody waiting."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)

    answers = await asyncio.gather(*map(group.put, (1, 99, 3)), return_exceptions=True)

    assert [type(one) for one in answers] == [DatabaseUnavailable] * 3
    assert len(recorder.batches) == 1


async def test_a_caller_that_goes_away_does_not_stop_its_item() -> None:
    """A client that hangs up has submitted all the same."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    gone = asyncio.create_task(group.put(1))
    stays = asyncio.create_task(group.put(2))
    await recorder.entered.wait()

    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    recorder.gate.set()

    assert await stays == 4
    assert recorder.batches == [[1, 2]]


async def test_a_caller_that_goes_away_does_not_hide_an_error_from_others() -> None:
    """Whoever still waits is told."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    gone = asyncio.create_task(group.put(99))
    stays = asyncio.create_task(group.put(2))
    await recorder.entered.wait()

    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    recorder.gate.set()

    with pytest.raises(DatabaseUnavailable):
        await stays


async def test_closing_waits_for_what_was_handed_in() -> None:
    """A process that is told to stop finishes its commits."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    caller = asyncio.create_task(group.put(1))
    await asyncio.sleep(0)

    await group.close()

    assert caller.done() or recorder.batches == [[1]]
    assert await caller == 2


async def test_closing_right_after_an_answer_comes_to_an_end() -> None:
    """Whoever is answered wakes before the lane has told that it has ended."""
    group = Batcher(at_once, Recorder().flush)

    answer = await group.put(1)
    await group.close()

    assert answer == 2


async def test_a_flush_that_is_cancelled_leaves_nobody_waiting() -> None:
    """When the loop ends in the middle, callers hear that nothing is known."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    caller = asyncio.create_task(group.put(1))
    await recorder.entered.wait()

    for task in group._tasks:
        task.cancel()

    with pytest.raises(FleekError, match="stopping"):
        await caller


HOUR = timedelta(hours=1)
AT_ONCE = timedelta(0)  # a patience that ends as soon as the loop turns
SOON = timedelta(seconds=1)  # one that ends when a batch has long been under way


async def test_what_waits_for_too_long_is_taken_back() -> None:
    """Whoever was told that it is not taken does not find it stored later."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    first = asyncio.create_task(group.put(1))
    await recorder.entered.wait()

    with pytest.raises(Overloaded):
        await group.put(2, patience=AT_ONCE)
    recorder.gate.set()

    assert await first == 2
    await group.close()
    assert recorder.batches == [[1]]


async def test_the_wait_counts_from_the_arrival_of_the_request() -> None:
    """It may have waited for a busy event loop: the caller has waited all the same."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    first = asyncio.create_task(group.put(1))
    await recorder.entered.wait()

    arrived_at.set(time.monotonic() - HOUR.total_seconds())
    with pytest.raises(Overloaded):
        await group.put(2, patience=HOUR)
    recorder.gate.set()

    assert await first == 2
    await group.close()
    assert recorder.batches == [[1]]


async def test_what_waits_for_a_transaction_to_open_can_be_taken_back() -> None:
    """Another process may hold the lock on the file for minutes."""
    recorder, gate = Recorder(), asyncio.Event()

    @asynccontextmanager
    async def locked() -> AsyncGenerator[None]:
        await gate.wait()
        yield

    group = Batcher(locked, recorder.flush)

    with pytest.raises(Overloaded):
        await group.put(1, patience=AT_ONCE)
    gate.set()
    await group.close()

    assert recorder.batches == []


async def test_what_is_under_way_is_waited_for() -> None:
    """It may be written already; a refusal would be a lie."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    caller = asyncio.create_task(group.put(1, patience=SOON))
    await recorder.entered.wait()
    await asyncio.sleep(2 * SOON.total_seconds())

    recorder.gate.set()

    assert await caller == 2


async def test_what_does_not_end_is_unknown() -> None:
    """A database may freeze in the middle of a commit: the caller is told, and need not hang."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, under_way=AT_ONCE)
    recorder.gate.clear()

    with pytest.raises(WriteUnknown):
        await group.put(1, patience=SOON)
    recorder.gate.set()
    await group.close()

    assert recorder.batches == [[1]]


async def test_those_who_wait_behind_a_lock_are_refused_with_the_first() -> None:
    """One after the other they would wait for the same lock; who has no patience goes on."""

    async def flush(_opened: None, items: Sequence[int]) -> list[int | FleekError]:
        batches.append(list(items))
        await gate.wait()
        if 1 in items:
            raise Overloaded("locked")
        return list(items)

    batches: list[list[int]] = []
    gate = asyncio.Event()
    group = Batcher(at_once, flush)
    long = timedelta(hours=1)
    first = asyncio.create_task(group.put(1, patience=long))
    await asyncio.sleep(0.01)
    others = [
        asyncio.create_task(group.put(2, patience=long)),
        asyncio.create_task(group.put(3)),
    ]
    await asyncio.sleep(0)

    gate.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Overloaded, Overloaded, int]
    assert batches == [[1], [3]]
