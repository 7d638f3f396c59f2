"""Polling predictions: single ones, many at once, and through faults."""

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
from fleek.providers.replicate.poller import (
    GONE_SECONDS,
    MAX_CALLS,
    MAX_POOR_PAGES,
    MAX_SINGLE_CALLS,
    PROBES,
)
from fleek.providers.replicate.provider import ReplicateProvider

Create = Callable[..., Any]


@pytest.fixture
def create(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> Create:
    """Return a function that starts a prediction and returns its id."""

    async def one(prompt: str = "a cat") -> PredictionId:
        wanted = job(prompt)
        return (await provider.start(wanted, attempt(wanted))).id

    return one


def reads(emulator: Emulator) -> int:
    """Return how many GET requests the emulator has received."""
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
async def test_each_failure_has_a_code_and_says_if_it_is_retryable(
    provider: ReplicateProvider, create: Create, *, marker: str, code: str, retryable: bool
) -> None:
    """Each new attempt is paid for, and not all can help."""
    created = await create(f"[[emu:{marker}]]")

    seen = (await provider.poll([created]))[created]

    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == (code, retryable)
    assert seen.outcome.message


async def test_a_success_has_outputs_and_metrics(
    provider: ReplicateProvider, create: Create
) -> None:
    """Its files, and what it took."""
    created = await create("[[emu:images=3]]")

    seen = (await provider.poll([created]))[created]

    assert isinstance(seen.outcome, Succeeded)
    assert len(seen.outcome.outputs) == 3
    assert {"predict_time", "total_time", "image_count", "seed"} <= set(seen.metrics)


async def test_progress_is_read_from_the_logs(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """Replicate has no other field for it."""
    created = await create("[[emu:predict=1000]]")
    emulator.account.clock.advance(500)

    seen = (await provider.poll([created]))[created]

    assert seen.outcome is None
    assert seen.progress is not None
    assert 0.4 <= seen.progress <= 0.6


@pytest.mark.parametrize(
    "marker", ["unknown_status=migrating", "stuck_starting", "stuck_processing"]
)
async def test_unknown_statuses_are_not_final(
    provider: ReplicateProvider, create: Create, marker: str
) -> None:
    """The prediction may still run."""
    created = await create(f"[[emu:{marker}]] [[emu:predict=1000]]")

    seen = (await provider.poll([created]))[created]

    assert seen.outcome is None


@pytest.mark.parametrize("marker", ["get_429", "get_5xx", "get_reset", "get_html"])
async def test_a_failed_poll_can_be_repeated(
    provider: ReplicateProvider, create: Create, marker: str
) -> None:
    """It has no consequence for the job."""
    created = await create(f"[[emu:{marker}]]")

    with pytest.raises(ProviderUnavailable):
        await provider.poll([created])
    seen = await provider.poll([created])

    assert isinstance(seen[created].outcome, Succeeded)


async def test_a_429_response_carries_retry_after(
    provider: ReplicateProvider, create: Create
) -> None:
    """The engine delays all polls, not only this one."""
    created = await create("[[emu:get_429=9]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.poll([created])

    assert caught.value.code == "provider_rate_limited"
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 9


async def test_a_failed_poll_does_not_hide_other_predictions(
    provider: ReplicateProvider, create: Create
) -> None:
    """Partial results are returned."""
    bad, good = await create("[[emu:get_5xx*all]]"), await create()

    seen = await provider.poll([bad, good])

    assert list(seen) == [good]


async def test_repeated_404_ends_a_prediction_after_a_while(
    factory: Any, create: Create, ticks: Any
) -> None:
    """Replicas lag, but a prediction of another account must not be polled until the deadline."""
    provider = factory.open(clock=ticks)
    created = await create("[[emu:get_404*all]]")

    at_first = await provider.poll([created])
    ticks.seconds = GONE_SECONDS
    at_last = await provider.poll([created])

    assert at_first == {}
    assert isinstance(at_last[created].outcome, Failed)
    assert at_last[created].outcome.code == "prediction_gone"
    assert not at_last[created].outcome.retryable


async def test_a_prediction_that_reappears_is_not_gone(
    factory: Any, create: Create, ticks: Any
) -> None:
    """The time of consecutive 404 responses restarts."""
    provider = factory.open(clock=ticks)
    created = await create("[[emu:get_404]]")

    at_first = await provider.poll([created])
    ticks.seconds = GONE_SECONDS
    at_last = await provider.poll([created])

    assert at_first == {}
    assert isinstance(at_last[created].outcome, Succeeded)


async def test_removed_outputs_fail_the_prediction(
    provider: ReplicateProvider, create: Create
) -> None:
    """It is paid for and lost: another attempt is the operator's decision."""
    created = await create("[[emu:get_data_removed]]")

    seen = (await provider.poll([created]))[created]

    assert seen.outcome == Failed(
        "output_expired", "Replicate has removed the output", retryable=False
    )


async def test_megabytes_of_logs_do_not_hide_the_result(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """Otherwise the prediction would be polled until its deadline."""
    created = await create("[[emu:huge_logs=8]] [[emu:queue=10]]")
    emulator.account.clock.advance(20)

    seen = (await provider.poll([created]))[created]

    assert isinstance(seen.outcome, Succeeded)


async def test_a_growing_log_is_reported(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """With CRLF, and progress bars that begin with a carriage return."""
    created = await create("[[emu:bar_logs]] [[emu:queue=10]] [[emu:predict=10]]")
    logs = []
    for seconds in (5, 10, 20):
        emulator.account.clock.advance(seconds)
        logs.append((await provider.poll([created]))[created].log)

    assert logs[0] is None
    assert logs[1] is not None
    assert logs[2] is not None
    assert logs[1].startswith("Using seed: 42\r\n  0%|")
    assert logs[2].startswith(logs[1])
    assert "\r100%|" in logs[2]


async def test_a_long_log_marks_its_missing_middle(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """Its end is complete."""
    created = await create("[[emu:huge_logs=1]] [[emu:queue=10]]")
    emulator.account.clock.advance(20)

    log = (await provider.poll([created]))[created].log

    assert log is not None
    assert LEFT_OUT in log
    assert "100%|" in log
    assert len(log) < 300_000


@pytest.mark.usefixtures("_full_suite")
async def test_many_predictions_are_polled_through_the_list(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """Single requests would use up the rate limit; foreign predictions are skipped."""
    created = list(await asyncio.gather(*(create() for _ in range(260))))
    unknown = [PredictionId("notours")]
    before = reads(emulator)

    seen = await provider.poll([*created[:230], *unknown])

    assert set(seen) == set(created[:230])
    assert reads(emulator) - before == 3 + 1


async def test_few_predictions_are_polled_one_by_one(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """All are then polled in one pass."""
    unknown = [PredictionId(f"unknown{number}") for number in range(MAX_CALLS)]

    await provider.poll(unknown)

    assert reads(emulator) == provider.poll_calls == MAX_CALLS


@pytest.mark.usefixtures("_full_suite")
async def test_older_predictions_are_found_in_the_list(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """Newer ones that have ended, or are others', must not send the older ones to single requests."""
    old = list(await asyncio.gather(*(create() for _ in range(MAX_CALLS + 1))))
    await asyncio.gather(*(create("another prompt") for _ in range(350)))
    before = reads(emulator)

    seen = {prediction for _ in range(3) for prediction in await provider.poll(old)}

    assert seen == set(old)
    assert reads(emulator) - before < 1.5 * MAX_CALLS  # 163 each without the older pages


@pytest.mark.usefixtures("_full_suite")
async def test_predictions_that_the_list_does_not_have_are_polled_one_by_one(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """Some of them now, the others next time."""
    await asyncio.gather(*(create("another prompt") for _ in range(350)))
    unknown = [PredictionId(f"unknown{number}") for number in range(2 * MAX_CALLS)]
    before = reads(emulator)

    seen = await provider.poll(unknown)

    assert seen == {}
    assert reads(emulator) - before == MAX_POOR_PAGES + PROBES + MAX_SINGLE_CALLS
    assert provider.poll_calls == reads(emulator) - before


async def test_an_id_that_cannot_be_replicate_s_is_not_requested(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """It would be a part of an address."""
    seen = await provider.poll([PredictionId(f"../account?{n}") for n in range(MAX_CALLS + 1)])

    assert seen == {}
    assert reads(emulator) == 1  # of the list


@pytest.mark.usefixtures("_full_suite")
async def test_a_failed_list_is_replaced_by_single_requests(
    provider: ReplicateProvider, emulator: Emulator, create: Create
) -> None:
    """The list only saves requests."""
    created = list(await asyncio.gather(*(create() for _ in range(MAX_CALLS + 1))))
    emulator.replan(rates={"list_5xx": 1})

    seen = await provider.poll(created)

    assert set(seen) < set(created)
    assert len(seen) == MAX_SINGLE_CALLS


async def test_connection_refused_is_an_error(factory: Any) -> None:
    """The engine must notice that nothing was polled."""
    with pytest.raises(ProviderUnavailable):
        await factory.open("http://127.0.0.1:1/v1").poll([PredictionId("abc")])


async def test_a_hanging_poll_times_out(factory: Any, create: Create) -> None:
    """One stuck connection must not delay all others."""
    provider = factory.open(whole=0.1)
    created = await create("[[emu:get_slow=30]]")

    with pytest.raises(ProviderUnavailable):
        await provider.poll([created])


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
async def test_cancel_reports_whether_it_was_accepted(
    provider: ReplicateProvider, emulator: Emulator, create: Create, *, marker: str, accepted: bool
) -> None:
    """The engine repeats it until `poll` reports the end."""
    created = await create("[[emu:predict=1000]]" + (f"[[emu:{marker}]]" if marker else ""))

    try:
        await provider.cancel(created)
        confirmed = True
    except ProviderUnavailable:
        confirmed = False
    ended = emulator.account.by_id[created].end == "canceled"

    assert confirmed == accepted
    assert ended == (marker in {"", "cancel_then_5xx", "cancel_then_drop"})


async def test_a_cancelled_prediction_has_ended(
    provider: ReplicateProvider, create: Create
) -> None:
    """`canceled`, in Replicate's spelling, is final and not retryable."""
    created = await create("[[emu:predict=1000]]")

    await provider.cancel(created)
    seen = (await provider.poll([created]))[created]

    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == ("prediction_cancelled", False)


async def test_an_attempt_timeout_is_distinguished_from_a_cancellation(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Replicate reports `canceled` for both; another attempt may be faster."""
    wanted = job("[[emu:predict=1000]]")
    created = (await provider.start(wanted, attempt(wanted, timeout=60))).id
    emulator.account.clock.advance(100)

    seen = (await provider.poll([created]))[created]

    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == ("attempt_timeout", True)


@pytest.mark.parametrize("unknown", ["../account", "a b", "", "x" * 300])
async def test_an_invalid_id_is_not_sent(
    provider: ReplicateProvider, emulator: Emulator, unknown: str
) -> None:
    """It would be part of an address that is called with the token."""
    with pytest.raises(ProviderUnavailable):
        await provider.cancel(PredictionId(unknown))

    assert emulator.ledger.rows("request") == []
