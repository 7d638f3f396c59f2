"""Results of deliveries and their effect on endpoints; limits and rotations under concurrency."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import select
from uuid_utils.compat import uuid7

from fleek.domain.errors import Conflict
from fleek.domain.job import JobId
from fleek.domain.webhooks import (
    FAILING_FOR,
    MAX_ENDPOINTS,
    QUIET,
    Delivery,
    DeliveryId,
    DeliveryState,
    Endpoint,
    EndpointId,
)
from fleek.store import deliveries, delivery_log, endpoints
from fleek.store.database import Database, open_database
from fleek.store.deliveries import Claim, Outcome
from fleek.store.tables import SigningSecretRow
from samples import NOON

DAY: Final = timedelta(days=1)


def an_endpoint() -> Endpoint:
    """Return a new endpoint."""
    return Endpoint(
        id=EndpointId(uuid7()),
        tenant_id="default",
        url="https://example.com/hook",
        events=("job.failed",),
        created_at=NOON,
    )


def a_delivery(endpoint: Endpoint, seq: int = 1, job_id: JobId | None = None) -> Delivery:
    """Return a delivery that is due."""
    return Delivery(
        id=DeliveryId(uuid7()),
        tenant_id="default",
        lane=endpoint.id,
        endpoint_id=endpoint.id,
        job_id=job_id or JobId(uuid7()),
        seq=seq,
        type="job.failed",
        body=b"{}",
        created_at=NOON,
        next_at=NOON,
    )


def an_outcome(delivery: Delivery, *, at: datetime, healthy: bool, gone: bool = False) -> Outcome:
    """Return the result of an attempt; a failed one is due again."""
    return Outcome(
        delivery=delivery,
        at=at,
        seconds=0.1,
        state=DeliveryState.DELIVERED if healthy else DeliveryState.PENDING,
        next_at=None if healthy else at,
        status=204 if healthy else 500,
        reason="delivered" if healthy else "refused",
        healthy=healthy,
        gone=gone,
        quiet_since=at - QUIET,
        failing_since=at - FAILING_FOR,
    )


async def attempted(
    db: Database, endpoint: Endpoint, *, days: float, healthy: bool = False, gone: bool = False
) -> str | None:
    """Attempt a delivery some days after noon, and return why the endpoint is disabled with it."""
    delivery = a_delivery(endpoint)
    await delivery_log.add(db, delivery)
    at = NOON + days * DAY
    return await deliveries.report(db, an_outcome(delivery, at=at, healthy=healthy, gone=gone))


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([0, 1, 2, 3, 4, 4.9], None),
        ([0, 1, 2, 3, 4, 5], "failing"),
        ([0, 0.1, 5.1], None),  # two outages without an attempt in between
        ([0, 1, 30, 31, 32, 33, 34.9], None),
        ([0, 1, 30, 31, 32, 33, 34, 35.1], "failing"),
        ([*[0] * 100, *[1] * 100], None),  # the number of failures does not matter
    ],
)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_an_endpoint_is_disabled_by_time_alone(
    db: Database, days: list[float], expected: str | None
) -> None:
    """Only after five days of failures without a success."""
    endpoint = an_endpoint()
    await endpoints.insert_endpoint(db, endpoint, "whsec_x")

    reasons = [await attempted(db, endpoint, days=day) for day in days]

    after = await endpoints.get_endpoint(db, endpoint.id)
    assert reasons == [None] * (len(days) - 1) + [expected]
    assert (after.enabled, after.disabled_reason) == (expected is None, expected)


async def test_a_success_ends_an_outage(db: Database) -> None:
    """The next failure is the first one again."""
    endpoint = an_endpoint()
    await endpoints.insert_endpoint(db, endpoint, "whsec_x")
    for day in (0, 1, 2, 3, 4):
        await attempted(db, endpoint, days=day)
    await attempted(db, endpoint, days=4.5, healthy=True)

    assert (await endpoints.get_endpoint(db, endpoint.id)).failing_since is None
    assert await attempted(db, endpoint, days=5.5) is None
    assert (await endpoints.get_endpoint(db, endpoint.id)).enabled


async def test_a_410_response_disables_an_endpoint_at_once(db: Database) -> None:
    """The receiver has unsubscribed; this is reported once."""
    endpoint = an_endpoint()
    await endpoints.insert_endpoint(db, endpoint, "whsec_x")

    assert await attempted(db, endpoint, days=0, gone=True) == "gone"
    assert await attempted(db, endpoint, days=0, gone=True) is None


@pytest.mark.parametrize("changes", [{"enabled": True}, {"url": "https://example.org/"}])
async def test_an_enabled_endpoint_starts_without_failures(
    db: Database, changes: dict[str, object]
) -> None:
    """Earlier failures do not count."""
    endpoint = an_endpoint()
    await endpoints.insert_endpoint(db, endpoint, "whsec_x")
    for day in (0, 1, 2, 3, 4):
        await attempted(db, endpoint, days=day)

    await endpoints.change_endpoint(db, endpoint.id, tenant_id="default", changes=changes)

    assert await attempted(db, endpoint, days=5.1) is None


async def test_concurrent_creations_store_twenty_endpoints_only(db: Database) -> None:
    """The limit is exact under concurrency."""
    made = [an_endpoint() for _ in range(MAX_ENDPOINTS + 10)]

    results = await asyncio.gather(
        *(endpoints.insert_endpoint(db, endpoint, "whsec_x") for endpoint in made),
        return_exceptions=True,
    )

    assert [type(result) for result in results if result is not None] == [Conflict] * 10
    assert len(await endpoints.list_endpoints(db, tenant_id="default")) == MAX_ENDPOINTS


async def test_concurrent_rotations_leave_two_secrets(db: Database) -> None:
    """The latest one and its predecessor, which expires."""
    await endpoints.first_secret(db, "endpoint:1", "first", now=NOON)

    await asyncio.gather(
        *(endpoints.rotate(db, "endpoint:1", f"secret {n}", now=NOON) for n in range(8))
    )

    async with db.read() as tx:
        kept = (await tx.execute(select(SigningSecretRow.__table__))).mappings().all()
    assert sorted(row["expires_at"] is None for row in kept) == [False, True]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_two_processes_never_deadlock(db: Database, database_url: str) -> None:
    """Rows are locked in one order, or one of the two would fail."""
    ends = [an_endpoint() for _ in range(8)]
    for endpoint in ends:
        await endpoints.insert_endpoint(db, endpoint, "whsec_x")
    async with open_database(database_url) as other:
        for _ in range(10):
            ours, theirs = ([a_delivery(endpoint) for endpoint in ends] for _ in range(2))
            for delivery in (*ours, *theirs):
                await delivery_log.add(db, delivery)

            results = await asyncio.gather(
                *(deliveries.report(db, an_outcome(one, at=NOON, healthy=True)) for one in ours),
                *(
                    deliveries.report(other, an_outcome(one, at=NOON, healthy=False))
                    for one in reversed(theirs)
                ),
                *(deliveries.claim(other, Claim(one.id, 4, now=NOON, until=NOON)) for one in ends),
            )

            assert len(results) == 24


async def test_a_replay_is_claimed_before_later_events(db: Database) -> None:
    """The order of a job's events holds for replays, too."""
    endpoint, job_id = an_endpoint(), JobId(uuid7())
    first, second = (a_delivery(endpoint, seq, job_id) for seq in (1, 2))
    given_up = replace(first, state=DeliveryState.FAILED, next_at=None, ended_at=NOON)
    await endpoints.insert_endpoint(db, endpoint, "whsec_x")
    await delivery_log.add(db, given_up)
    await delivery_log.add(db, second)

    await delivery_log.replay(db, first.id, tenant_id="default", now=NOON)
    claimed = await deliveries.claim(db, Claim(endpoint.id, 4, now=NOON, until=NOON + DAY))

    assert [delivery.id for delivery in claimed] == [first.id]
