"""A token bucket grants what the rate allows, and no more."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.request_rate import RequestRate, request_rate

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1)

RATES = st.integers(min_value=1, max_value=100_000).map(request_rate)
STEPS = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=90_000_000), st.integers(min_value=0, max_value=300)
    ),
    max_size=40,
)  # microseconds that pass, then requested tokens


@pytest.mark.parametrize(
    ("per_minute", "burst", "lease"), [(600, 100, 20), (60, 10, 2), (6, 1, 1), (1, 1, 1)]
)
def test_the_burst_is_ten_seconds_worth(per_minute: int, burst: int, lease: int) -> None:
    """At least one request; a process leases a part of it in advance."""
    rate = request_rate(per_minute)

    assert (rate.burst, rate.lease) == (burst, lease)
    assert rate.free(LONG_AGO, NOON) == burst


@given(rate=RATES, steps=STEPS)
def test_no_period_exceeds_the_rate(rate: RequestRate, steps: Sequence[tuple[int, int]]) -> None:
    """The limit is the burst and what the rate adds in that time."""
    now, full_at = NOON, LONG_AGO
    given_at = []
    for passed, wanted in steps:
        now += timedelta(microseconds=passed)
        tokens = min(wanted, rate.free(full_at, now))
        full_at = rate.spend(tokens, full_at, now)
        given_at.append((now, tokens))

    for first, (begin, _) in enumerate(given_at):
        total = 0
        for end, tokens in given_at[first:]:
            total += tokens
            assert total <= rate.burst + (end - begin) / rate.interval + 0.001


def test_tokens_return_one_by_one() -> None:
    """One token is free after the promised wait."""
    rate = request_rate(600)
    full_at = rate.spend(rate.burst, LONG_AGO, NOON)

    wait = rate.wait(full_at, NOON)

    assert wait == timedelta(seconds=0.1)
    waits = [rate.free(full_at, NOON + wait * n) for n in range(rate.burst + 3)]
    assert all(later - earlier in {0, 1} for earlier, later in pairwise(waits))
    assert (waits[0], waits[1], waits[-1]) == (0, 1, rate.burst)
    assert rate.wait(full_at, NOON + wait) == timedelta(0)


def test_a_clock_set_back_delays_one_interval_at_most() -> None:
    """A full bucket that lies in the future does not block requests."""
    rate = request_rate(600)
    full_at = rate.spend(1, LONG_AGO, NOON + timedelta(days=1))

    assert rate.free(full_at, NOON) == 0
    assert rate.wait(full_at, NOON) == rate.interval
