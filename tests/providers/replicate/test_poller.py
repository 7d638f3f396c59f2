"""Looking at predictions: one by one, many at once, and through faults."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fleek.domain.attempt import Attempt
from fleek.domain.errors import ProviderUnavailable
from fleek.domain.job import Job, PredictionId
from fleek.domain.provider_logs import LEFT_OUT
from fleek.emulator.server import Emulator
from fleek.providers.base import Failed, Succeeded
from fleek.providers.replicate.poller import GONE_SECONDS, MAX_CALLS, MAX_SINGLE_CALLS
from fleek.providers.replicate.provider import ReplicateProvider

Buy = Callable[..., Any]


@pytest.fixture
def buy(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> Buy:
    """Return a function that buys a prediction and gives its id."""

    async def one(prompt: str = "a cat") -> PredictionId:
        wanted = job(prompt)
        return (await provider.start(wanted, attempt(wanted))).id

    return one


def reads(emulator: Emulator) -> int:
    """Return how often the emulator was asked for something but a purchase."""
    return sum(row["method"] == "GET" for row in emulator.ledger.rows("request"))


@pytest.mark.parametrize(
    ("marker", "code", "retryable"),
    [
        ("fail_start", "prediction_failed", False),
        ("fail_mid", "prediction_failed", False),
        ("transient_failure", "prediction_failed", True),
        ("interrupted", "prediction_failed", True),
        ("nsfw", "content_flagged", False),
        ("aborted", "prediction_aborted", True),
    ],
)
async def test_how_a_prediction_ends_badly(
    provider: ReplicateProvider, buy: Buy, *, marker: str, code: str, retryable: bool
) -> None:
    """Only what another attempt can help is tried again: each one costs."""
    bought = await buy(f"[[emu:{marker}]]")

    seen = (await provider.poll([bought]))[bought]

    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == (code, retryable)
    assert seen.outcome.message


async def test_how_a_prediction_ends_well(provider: ReplicateProvider, buy: Buy) -> None:
    """Its files, and what it took."""
    bought = await buy("[[emu:images=3]]")

    seen = (await provider.poll([bought]))[bought]

    assert isinstance(seen.outcome, Succeeded)
    assert len(seen.outcome.outputs) == 3
    assert {"predict_time", "total_time", "image_count", "seed"} <= set(seen.metrics)


async def test_progress_is_read_from_the_logs(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """There is no other place where Replicate tells it."""
    bought = await buy("[[emu:predict=1000]]")
    emulator.account.clock.advance(500)

    seen = (await provider.poll([bought]))[bought]

    assert seen.outcome is None
    assert seen.progress is not None
    assert 0.4 <= seen.progress <= 0.6


@pytest.mark.parametrize(
    "marker", ["unknown_status=migrating", "stuck_starting", "stuck_processing"]
)
async def test_what_has_not_ended_runs(provider: ReplicateProvider, buy: Buy, marker: str) -> None:
    """A status that nobody has heard of is no end."""
    bought = await buy(f"[[emu:{marker}]] [[emu:predict=1000]]")

    seen = (await provider.poll([bought]))[bought]

    assert seen.outcome is None


@pytest.mark.parametrize("marker", ["get_429", "get_5xx", "get_reset", "get_html"])
async def test_a_look_that_fails_may_be_repeated(
    provider: ReplicateProvider, buy: Buy, marker: str
) -> None:
    """Nothing is concluded from it."""
    bought = await buy(f"[[emu:{marker}]]")

    with pytest.raises(ProviderUnavailable):
        await provider.poll([bought])
    seen = await provider.poll([bought])

    assert isinstance(seen[bought].outcome, Succeeded)


async def test_429_tells_how_long_to_wait(provider: ReplicateProvider, buy: Buy) -> None:
    """The engine slows down all looks, not only this one."""
    bought = await buy("[[emu:get_429=9]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.poll([bought])

    assert caught.value.code == "provider_rate_limited"
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 9


async def test_one_failed_look_does_not_hide_the_others(
    provider: ReplicateProvider, buy: Buy
) -> None:
    """Half an answer is better than none."""
    bad, good = await buy("[[emu:get_5xx*all]]"), await buy()

    seen = await provider.poll([bad, good])

    assert list(seen) == [good]


async def test_404_is_not_an_end_until_it_has_lasted(shop: Any, buy: Buy, ticks: Any) -> None:
    """Replicas lag; but a prediction of another account must not be waited for until the end."""
    provider = shop.open(clock=ticks)
    bought = await buy("[[emu:get_404*all]]")

    at_first = await provider.poll([bought])
    ticks.seconds = GONE_SECONDS
    at_last = await provider.poll([bought])

    assert at_first == {}
    assert isinstance(at_last[bought].outcome, Failed)
    assert at_last[bought].outcome.code == "prediction_gone"
    assert not at_last[bought].outcome.retryable


async def test_a_prediction_that_was_seen_again_is_not_gone(
    shop: Any, buy: Buy, ticks: Any
) -> None:
    """The time of nothing but 404 begins anew."""
    provider = shop.open(clock=ticks)
    bought = await buy("[[emu:get_404]]")

    at_first = await provider.poll([bought])
    ticks.seconds = GONE_SECONDS
    at_last = await provider.poll([bought])

    assert at_first == {}
    assert isinstance(at_last[bought].outcome, Succeeded)


async def test_removed_data_are_told(provider: ReplicateProvider, buy: Buy) -> None:
    """Paid for and lost: buying again is for somebody to decide."""
    bought = await buy("[[emu:get_data_removed]]")

    seen = (await provider.poll([bought]))[bought]

    assert seen.outcome == Failed(
        "output_expired", "Replicate has removed the output", retryable=False
    )


async def test_many_megabytes_of_logs_are_no_obstacle(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """Else the prediction would be waited for until its deadline."""
    bought = await buy("[[emu:huge_logs=8]] [[emu:queue=10]]")
    emulator.account.clock.advance(20)

    seen = (await provider.poll([bought]))[bought]

    assert isinstance(seen.outcome, Succeeded)


async def test_a_log_is_told_as_it_grows(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """With its CRLF, and progress bars that begin with a carriage return."""
    bought = await buy("[[emu:bar_logs]] [[emu:queue=10]] [[emu:predict=10]]")
    logs = []
    for seconds in (5, 10, 20):
        emulator.account.clock.advance(seconds)
        logs.append((await provider.poll([bought]))[bought].log)

    assert logs[0] is None
    assert logs[1] is not None
    assert logs[2] is not None
    assert logs[1].startswith("Using seed: 42\r\n  0%|")
    assert logs[2].startswith(logs[1])
    assert "\r100%|" in logs[2]


async def test_the_middle_of_a_long_log_is_said_to_be_missing(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """Its end is there."""
    bought = await buy("[[emu:huge_logs=1]] [[emu:queue=10]]")
    emulator.account.clock.advance(20)

    log = (await provider.poll([bought]))[bought].log

    assert log is not None
    assert LEFT_OUT in log
    assert "100%|" in log
    assert len(log) < 300_000


@pytest.mark.usefixtures("_full_suite")
async def test_many_are_looked_at_through_the_list(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """A request each would use up the account's budget; foreign ones are passed over."""
    bought = list(await asyncio.gather(*(buy() for _ in range(260))))
    strange = [PredictionId("notours")]
    before = reads(emulator)

    seen = await provider.poll([*bought[:230], *strange])

    assert set(seen) == set(bought[:230])
    assert reads(emulator) - before == 3 + 1


async def test_up_to_a_number_each_is_asked_for(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """Then nobody has to wait for the next time."""
    strange = [PredictionId(f"unknown{number}") for number in range(MAX_CALLS)]

    await provider.poll(strange)

    assert reads(emulator) == MAX_CALLS


@pytest.mark.usefixtures("_full_suite")
async def test_a_sweep_ends_where_few_of_ours_are_left(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """Some of the rest are asked for one by one; the others have their chance next time."""
    old = [await buy() for _ in range(150)]
    await asyncio.gather(*(buy("somebody else's") for _ in range(350)))
    strange = [PredictionId(f"unknown{number}") for number in range(100)]
    before = reads(emulator)

    seen = await provider.poll([*old, *strange])

    assert set(seen) < set(old)
    assert len(seen) >= MAX_SINGLE_CALLS - len(strange)
    assert reads(emulator) - before == 3 + MAX_SINGLE_CALLS


@pytest.mark.usefixtures("_full_suite")
async def test_a_list_that_fails_is_done_without(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy
) -> None:
    """It only saves requests."""
    bought = list(await asyncio.gather(*(buy() for _ in range(MAX_CALLS + 1))))
    emulator.replan(rates={"list_5xx": 1})

    seen = await provider.poll(bought)

    assert set(seen) < set(bought)
    assert len(seen) == MAX_SINGLE_CALLS


async def test_nobody_there_raises(shop: Any) -> None:
    """The engine must know that it has seen nothing."""
    with pytest.raises(ProviderUnavailable):
        await shop.open("http://127.0.0.1:1/v1").poll([PredictionId("abc")])


async def test_a_hanging_look_ends(shop: Any, buy: Buy) -> None:
    """One stuck connection must not hold up the watch."""
    provider = shop.open(whole=0.1)
    bought = await buy("[[emu:get_slow=30]]")

    with pytest.raises(ProviderUnavailable):
        await provider.poll([bought])


@pytest.mark.parametrize(
    ("marker", "accepted"),
    [
        ("", True),
        ("cancel_ignored", True),
        ("cancel_404", False),
        ("cancel_5xx", False),
        ("cancel_then_5xx", False),
        ("cancel_then_drop", False),
    ],
)
async def test_cancel_says_whether_it_was_heard(
    provider: ReplicateProvider, emulator: Emulator, buy: Buy, *, marker: str, accepted: bool
) -> None:
    """The engine asks on in any case until `poll` says that it has ended."""
    bought = await buy("[[emu:predict=1000]]" + (f"[[emu:{marker}]]" if marker else ""))

    try:
        await provider.cancel(bought)
        heard = True
    except ProviderUnavailable:
        heard = False
    ended = emulator.account.by_id[bought].end == "canceled"

    assert heard == accepted
    assert ended == (marker in {"", "cancel_then_5xx", "cancel_then_drop"})


async def test_a_cancelled_prediction_has_ended(provider: ReplicateProvider, buy: Buy) -> None:
    """`canceled`, as Replicate spells it, is an end, and nothing is bought again for it."""
    bought = await buy("[[emu:predict=1000]]")

    await provider.cancel(bought)
    seen = (await provider.poll([bought]))[bought]

    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == ("prediction_cancelled", False)


async def test_the_attempts_own_limit_is_told_from_a_cancel(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Replicate says `canceled` for both; another attempt may be quicker."""
    wanted = job("[[emu:predict=1000]]")
    bought = (await provider.start(wanted, attempt(wanted, timeout=60))).id
    emulator.account.clock.advance(100)

    seen = (await provider.poll([bought]))[bought]

    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == ("attempt_timeout", True)


@pytest.mark.parametrize("strange", ["../account", "a b", "", "x" * 300])
async def test_an_odd_id_reaches_no_path(
    provider: ReplicateProvider, emulator: Emulator, strange: str
) -> None:
    """It would be part of an address that is called with the token."""
    with pytest.raises(ProviderUnavailable):
        await provider.cancel(PredictionId(strange))

    assert emulator.ledger.rows("request") == []
