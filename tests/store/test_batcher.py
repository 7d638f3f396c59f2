"""One commit for many callers: what they share, and how errors stay separate."""

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
from fleek.store.batcher import (
    FEW,
    FULL,
    LATELY_SECONDS,
    LONGEST_REST_SECONDS,
    MANY,
    PACE_SECONDS,
    RECENT_SECONDS,
    REST_SECONDS,
    SHARE,
    Batcher,
    Pace,
    Requests,
    arrived_at,
)


@asynccontextmanager
async def at_once() -> AsyncGenerator[None]:
    """Open without a wait."""
    yield


class Recorder:
    """Answers each number with its double, and records the batches."""

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


async def test_callers_during_a_flush_share_the_next_one() -> None:
    """A commit waits for the disk, and callers wait for it together."""
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


async def test_the_size_of_a_flush_is_limited() -> None:
    """Very large statements are slow."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, limit=2)

    answers = await asyncio.gather(*(group.put(number) for number in range(5)))

    assert answers == [0, 2, 4, 6, 8]
    assert max(map(len, recorder.batches)) == 2


async def test_few_steps_share_a_flush_while_requests_write() -> None:
    """Else a submission waits for a transaction with the steps of a hundred jobs."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    request = asyncio.create_task(group.put(1))
    await recorder.entered.wait()
    steps = [asyncio.create_task(group.put(100 + n, yields=True)) for n in range(2 * FEW + 1)]
    later = asyncio.create_task(group.put(2))
    await asyncio.sleep(0)

    recorder.gate.set()
    await asyncio.gather(request, later, *steps)

    first, second, *others = recorder.batches
    assert first == [1]
    assert second == [*range(100, 100 + FEW), 2]
    assert [step for flushed in others for step in flushed] == [
        *range(100 + FEW, 100 + len(steps))
    ]
    assert max(map(len, others)) == FEW


async def test_a_backlog_of_steps_does_not_outlast_light_traffic() -> None:
    """A few requests in a second must not hold all jobs at so many steps for each commit."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    await group.put(1)

    await asyncio.gather(*(group.put(100 + n, yields=True) for n in range(SHARE * 3 * FEW)))

    assert len(recorder.batches[1]) == 3 * FEW


async def test_steps_share_a_flush_again_when_the_requests_have_ended() -> None:
    """A step in a small transaction costs more."""
    now = 0.0
    recorder, requests = Recorder(), Requests(lambda: now)
    group = Batcher(at_once, recorder.flush, requests=requests)
    await group.put(1)

    now += RECENT_SECONDS
    await asyncio.gather(*(group.put(100 + n, yields=True) for n in range(2 * FEW)))

    assert recorder.batches == [[1], [*range(100, 100 + 2 * FEW)]]


def test_the_more_requests_come_the_longer_steps_rest() -> None:
    """A few need nothing; a crowd has most of the process, and jobs go on beside it."""
    now = 0.0
    requests = Requests(lambda: now)
    alone = requests.rest()
    requests.come()
    one = requests.rest()
    for _ in range(1000):
        requests.come()
    crowd = requests.rest()
    now += RECENT_SECONDS
    requests.note()  # the answer of a late one
    waning = requests.rest()
    now += 20 * RECENT_SECONDS
    ended = requests.rest()

    assert alone == 0
    assert one == REST_SECONDS
    assert crowd == LONGEST_REST_SECONDS
    assert REST_SECONDS < waning < LONGEST_REST_SECONDS
    assert ended < REST_SECONDS


async def test_steps_rest_until_a_request_takes_them_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While they rest, nothing but a request has a transaction; its own is not delayed by them."""
    recorder, requests = Recorder(), Requests()
    group = Batcher(at_once, recorder.flush, requests=requests)
    monkeypatch.setattr(requests, "rest", lambda: 3600.0)
    await group.put(100, yields=True)  # nothing has been written before it
    step = asyncio.create_task(group.put(101, yields=True))
    for _ in range(10):
        await asyncio.sleep(0)
    resting = list(recorder.batches)

    await group.put(1)

    assert resting == [[100]]
    assert await step == 202
    assert recorder.batches == [[100], [101, 1]]


async def test_neither_steps_nor_requests_wait_for_ever() -> None:
    """They take turns at the one writer, however many requests there are."""
    writer, requests = asyncio.Lock(), Requests()
    steps, submissions = Recorder(), Recorder()
    shared = {"requests": requests}
    stepping = Batcher(lambda: writer, steps.flush, **shared)  # type: ignore[arg-type]  # a lock opens nothing
    accepting = Batcher(lambda: writer, submissions.flush, **shared)  # type: ignore[arg-type]  # likewise

    async def ask_for_ever() -> None:
        while True:
            await accepting.put(1)

    callers = [asyncio.create_task(ask_for_ever()) for _ in range(4)]
    await submissions.entered.wait()
    async with asyncio.timeout(20):
        await asyncio.gather(*(stepping.put(100 + n, yields=True) for n in range(5 * FEW)))
    served = len(submissions.batches)
    for caller in callers:
        caller.cancel()

    assert list(map(len, steps.batches)) == [FEW] * 5
    assert served >= len(steps.batches) - 1


async def test_shards_flush_concurrently() -> None:
    """While one shard waits for its commit, another one fills."""
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


async def test_an_idle_shard_flushes_nothing() -> None:
    """Each caller wakes a shard, and the first shard takes all items."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, shards=2)

    await asyncio.gather(*map(group.put, (1, 2, 3)))
    await group.close()

    assert recorder.batches == [[1, 2, 3]]


async def test_an_error_result_is_raised_for_its_caller_only() -> None:
    """One missing job does not fail the others."""
    group = Batcher(at_once, Recorder().flush)

    answers = await asyncio.gather(*map(group.put, (6, 7, 8)), return_exceptions=True)

    assert answers[0] == 12
    assert isinstance(answers[1], NotFound)
    assert answers[2] == 16


async def test_only_the_caller_of_a_bad_item_fails() -> None:
    """The batch is halved until the bad item is found."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    numbers = [1, 2, 13, 4, 5, 6, 8, 9]

    answers = await asyncio.gather(*map(group.put, numbers), return_exceptions=True)

    assert [type(one) for one in answers].count(ValueError) == 1
    assert isinstance(answers[2], ValueError)
    assert answers[3:] == [8, 10, 12, 16, 18]
    assert len(recorder.batches) <= 1 + 2 * 3


async def test_an_unavailable_database_fails_all_callers_at_once() -> None:
    """Trying each item alone would only delay the error."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)

    answers = await asyncio.gather(*map(group.put, (1, 99, 3)), return_exceptions=True)

    assert [type(one) for one in answers] == [DatabaseUnavailable] * 3
    assert len(recorder.batches) == 1


async def test_a_cancelled_caller_does_not_stop_its_item() -> None:
    """A client that disconnects has submitted all the same."""
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


async def test_a_cancelled_caller_does_not_hide_an_error_from_others() -> None:
    """Callers that still wait receive the error."""
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


async def test_closing_waits_for_submitted_items() -> None:
    """A stopping process finishes its commits."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    caller = asyncio.create_task(group.put(1))
    await asyncio.sleep(0)

    await group.close()

    assert caller.done() or recorder.batches == [[1]]
    assert await caller == 2


async def test_closing_right_after_a_result_returns() -> None:
    """The caller continues before the shard has reported its end."""
    group = Batcher(at_once, Recorder().flush)

    answer = await group.put(1)
    await group.close()

    assert answer == 2


async def test_a_cancelled_flush_leaves_no_caller_waiting() -> None:
    """At the end of the loop, callers receive an error with an unknown outcome."""
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
AT_ONCE = timedelta(0)  # ends with the next turn of the loop
SOON = timedelta(seconds=0.25)  # ends while a batch is in progress


async def test_items_waiting_too_long_are_withdrawn() -> None:
    """A refused item must not be stored later."""
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
    """A busy event loop may have delayed it, and the caller has waited for that, too."""
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


async def test_items_waiting_for_a_transaction_are_withdrawn() -> None:
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


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_items_in_progress_are_not_withdrawn() -> None:
    """They may be committed already, and a refusal would be wrong."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush)
    recorder.gate.clear()
    caller = asyncio.create_task(group.put(1, patience=SOON))
    await recorder.entered.wait()
    await asyncio.sleep(2 * SOON.total_seconds())

    recorder.gate.set()

    assert await caller == 2


async def test_an_endless_flush_has_an_unknown_outcome() -> None:
    """A database may freeze during a commit, and the caller must not hang."""
    recorder = Recorder()
    group = Batcher(at_once, recorder.flush, under_way=AT_ONCE)
    recorder.gate.clear()

    with pytest.raises(WriteUnknown):
        await group.put(1, patience=SOON)
    recorder.gate.set()
    await group.close()

    assert recorder.batches == [[1]]


async def test_items_behind_a_lock_are_refused_together() -> None:
    """They would all wait for the same lock; items without a time limit stay."""

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


class Resting(Pace):
    """Lets transactions wait until told otherwise, and says when one does."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.001
        self.asked = asyncio.Event()

    def rest(self) -> float:
        """Return the seconds to wait."""
        self.asked.set()
        return self.seconds


async def test_a_transaction_with_few_steps_waits_for_others() -> None:
    """Each step of a busy worker comes alone, and each commit costs as much as two steps."""
    recorder, pace = Recorder(), Resting()
    group = Batcher(at_once, recorder.flush, pace=pace)
    first = asyncio.create_task(group.put(1, yields=True))
    await pace.asked.wait()
    second = asyncio.create_task(group.put(2, yields=True))
    await asyncio.sleep(0)

    pace.seconds = 0
    await asyncio.gather(first, second)

    assert recorder.batches == [[1, 2]]


async def test_requests_and_enough_steps_wait_for_no_others() -> None:
    """A caller waits, or nothing is gained."""
    recorder, pace = Recorder(), Resting()
    group = Batcher(at_once, recorder.flush, pace=pace)

    await asyncio.gather(*(group.put(200 + n, yields=True) for n in range(FULL)))
    step = asyncio.create_task(group.put(100, yields=True))
    await pace.asked.wait()
    await group.put(101)
    await step

    assert recorder.batches == [[*range(200, 200 + FULL)], [100, 101]]


async def test_the_last_of_enough_steps_ends_the_wait_of_the_others() -> None:
    """They would gain nothing by the rest of it."""
    recorder, pace = Recorder(), Resting()
    pace.seconds = 3600
    group = Batcher(at_once, recorder.flush, pace=pace)
    steps = [asyncio.create_task(group.put(200, yields=True))]
    await pace.asked.wait()

    steps += [asyncio.create_task(group.put(200 + n, yields=True)) for n in range(1, FULL)]
    async with asyncio.timeout(20):
        await asyncio.gather(*steps)

    assert recorder.batches == [[*range(200, 200 + FULL)]]


def test_steps_of_few_jobs_rest_for_no_others() -> None:
    """Only while there are many is a commit shared by waiting for a moment."""
    now = 0.0
    pace = Pace(lambda: now)
    rests = []

    for steps in (1, MANY - 2, 1, 1):
        pace.note(steps)
        rests.append(pace.rest())
        now += PACE_SECONDS / 4
    now += LATELY_SECONDS
    rests.append(pace.rest())

    assert rests == pytest.approx([0, 0, PACE_SECONDS, PACE_SECONDS, 0])
