"""Delivery of webhooks: at least once, whatever fails at the receiver or in this process."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network

import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from backing_services import both_databases
from conftest import open_migrated
from fakes import FOR_GOOD, Clock, FakeProvider, a_request
from fleek import failpoints
from fleek.domain.job import Job, JobWebhook
from fleek.domain.webhooks import DELAYS, DISABLED_EVENT, Delivery
from fleek.engine.cancel import cancel
from fleek.engine.deliver import LEASE, PER_LANE, DeliveryLoop
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.webhooks import create_endpoint, signing_secrets
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.settings import Settings
from fleek.store import audit, deliveries, endpoints
from fleek.store.clock import Leap
from fleek.store.owed import DELIVERY
from receivers import OK, Receiver, receiving, status

ENDS = ("job.completed", "job.failed", "job.cancelled")
ALL = ("job.created", "job.started", "job.failed", "job.cancelled")
LOOPBACK = Policy(networks=(ip_network("127.0.0.0/8"),), plain=True)


@pytest.fixture
async def rt(settings: Settings, clock: Clock, provider: FakeProvider) -> AsyncGenerator[Runtime]:
    """Return an open runtime that may call receivers on this machine."""
    async with open_migrated(settings, clock, provider) as opened:
        client = Client(LOOPBACK)
        yield replace(opened, webhooks=client)
        await client.close()


@pytest.fixture(autouse=True)
def _disarmed() -> Generator[None]:
    """Leave no failpoint armed."""
    yield
    failpoints.arm("")


async def a_cancelled_job(
    rt: Runtime, receiver: Receiver, *, events: tuple[str, ...] = ENDS
) -> Job:
    """Return a job with a webhook that was accepted and cancelled."""
    job = await submit(rt, a_request(webhook=JobWebhook(receiver.url, events)))
    job, _ = await cancel(rt, job.id, tenant_id="default")
    return job


async def one_turn(delivering: DeliveryLoop) -> None:
    """Take a turn, and wait for the attempts that it started."""
    await delivering.turn()
    await asyncio.gather(*delivering._running)


async def all_turns(delivering: DeliveryLoop) -> None:
    """Take turns until nothing more is due."""
    await delivering.turn()
    while delivering._running:
        await asyncio.gather(*delivering._running)
        await delivering.turn()


async def all_deliveries(rt: Runtime) -> list[Delivery]:
    """Return all deliveries, oldest first."""
    async with rt.db.read() as tx:
        found = await tx.execute(deliveries.DELIVERIES.select().order_by("id"))
        return [DELIVERY.read(row) for row in found.mappings()]


@both_databases
async def test_the_end_of_a_job_is_delivered_once(rt: Runtime) -> None:
    """The body is the job as it was then, so callers need not poll."""
    async with receiving() as receiver:
        job = await a_cancelled_job(rt, receiver)

        await all_turns(DeliveryLoop(rt))

        (received,) = receiver.received
    (delivery,) = await all_deliveries(rt)
    assert received.type == "job.cancelled"
    assert received.event["data"]["id"] == str(job.id)
    assert received.event["data"]["status"] == "cancelled"
    assert received.headers["content-type"] == "application/json"
    assert received.id == delivery.message_id
    assert (delivery.state, delivery.last_status, delivery.attempts) == ("delivered", 204, 1)


@both_databases
async def test_two_coordinators_deliver_an_event_once(
    rt: Runtime, second_worker: Callable[[], Runtime]
) -> None:
    """A delivery leased by one is skipped by the other."""
    async with receiving() as receiver:
        for _ in range(10):
            await a_cancelled_job(rt, receiver)
        both = DeliveryLoop(rt), DeliveryLoop(second_worker())

        for _ in range(20):
            await asyncio.gather(*(delivering.turn() for delivering in both))
            await asyncio.gather(*both[0]._running, *both[1]._running)

        assert len({received.id for received in receiver.received}) == 10
        assert len(receiver.received) == 10


@both_databases
async def test_a_step_back_of_the_clock_delays_no_delivery(rt: Runtime, clock: Clock) -> None:
    """One that was never sent is due at once, and a failed one waits as long as it was meant to."""
    async with receiving(status(500), OK) as receiver:
        failed = await a_cancelled_job(rt, receiver)
        delivering = DeliveryLoop(rt)
        await all_turns(delivering)
        fresh = await a_cancelled_job(rt, receiver)
        clock.step(hours=-1)
        rt.clock.steps += 1

        await all_turns(delivering)
        soon = [received.event["data"]["id"] for received in receiver.received[1:]]
        clock.tick(seconds=7)
        await all_turns(delivering)

    assert soon == [str(fresh.id)]
    assert receiver.received[-1].event["data"]["id"] == str(failed.id)
    assert {delivery.state for delivery in await all_deliveries(rt)} == {"delivered"}


@both_databases
async def test_a_lease_from_the_future_ends_under_the_next_coordinator(
    rt: Runtime, clock: Clock
) -> None:
    """Its process died after the clock was set ahead, which was set back since."""
    async with receiving() as receiver:
        await a_cancelled_job(rt, receiver)
        clock.step(hours=1)
        (lane,) = await deliveries.lanes(rt.db)
        until = clock() + LEASE
        await deliveries.claim(rt.db, deliveries.Claim(lane.id, 1, now=clock(), until=until))
        clock.step(hours=-1)

        await all_turns(DeliveryLoop(rt))

    assert len(receiver.received) == 1


async def test_an_attempt_that_runs_is_not_repeated_when_the_clock_is_set_back(
    rt: Runtime, clock: Clock
) -> None:
    """Its lease seems to last for an hour, and it ends in seconds."""
    async with receiving() as receiver:
        await a_cancelled_job(rt, receiver)
        delivering = DeliveryLoop(rt)
        await delivering.turn()
        clock.step(hours=-1)
        rt.clock.steps += 1

        await delivering.turn()
        await all_turns(delivering)

    assert len(receiver.received) == 1


async def test_a_failure_is_logged_without_its_address(rt: Runtime) -> None:
    """The address may contain a token; the delivery's id leads to the details."""
    async with receiving(status(500)) as receiver:
        await a_cancelled_job(rt, receiver)

        with capture_logs() as logs:
            await one_turn(DeliveryLoop(rt))

    (delivery,) = await all_deliveries(rt)
    (line,) = [line for line in logs if line["event"] == "webhook_attempted"]
    assert (line["delivery_id"], line["status"]) == (delivery.message_id, 500)
    assert "token" not in str(logs)


async def test_only_chosen_events_are_delivered(rt: Runtime, provider: FakeProvider) -> None:
    """Events that the caller did not choose are left out."""
    provider.outcome, provider.at_once = FOR_GOOD, True
    async with receiving() as receiver:
        webhook = JobWebhook(receiver.url, ("job.started", "job.failed"))
        job = await submit(rt, a_request(webhook=webhook))
        await start(rt, job.id)

        await all_turns(DeliveryLoop(rt))

        assert receiver.types == ["job.started", "job.failed"]


@both_databases
async def test_events_of_a_job_are_delivered_in_order(rt: Runtime, clock: Clock) -> None:
    """A later event waits until the earlier one is accepted, but other jobs go on."""
    async with receiving(status(500), OK) as receiver:
        first = await a_cancelled_job(rt, receiver, events=ALL)
        delivering = DeliveryLoop(rt)
        await one_turn(delivering)
        assert receiver.types == ["job.created"]
        second = await a_cancelled_job(rt, receiver, events=ALL)

        await all_turns(delivering)
        before = [(one.type, one.event["data"]["id"]) for one in receiver.received[1:]]
        clock.tick(seconds=10)
        await all_turns(delivering)

        after = [(one.type, one.event["data"]["id"]) for one in receiver.received[3:]]
    whole = ["job.created", "job.cancelled"]
    assert before == [(kind, str(second.id)) for kind in whole]
    assert after == [(kind, str(first.id)) for kind in whole]


@both_databases
async def test_a_failed_attempt_is_repeated_with_the_same_id_and_bytes(
    rt: Runtime, clock: Clock
) -> None:
    """A receiver can distinguish a repetition from another event."""
    async with receiving(status(500), status(503), OK) as receiver:
        await a_cancelled_job(rt, receiver)
        delivering = DeliveryLoop(rt)

        for _ in range(3):
            await one_turn(delivering)
            clock.tick(seconds=60)

        received = receiver.received
    assert len({(one.id, one.body) for one in received}) == 1
    assert len({one.headers["webhook-timestamp"] for one in received}) == 3
    assert len({one.headers["webhook-signature"] for one in received}) == 3


async def test_an_unrecorded_attempt_is_repeated(rt: Runtime, clock: Clock) -> None:
    """After a crash it is unknown whether the receiver has the event."""
    async with receiving() as receiver:
        await a_cancelled_job(rt, receiver)
        failpoints.arm("deliver.sent=oserror")
        await one_turn(DeliveryLoop(rt))
        assert len(receiver.received) == 1

        await all_turns(DeliveryLoop(rt))
        assert len(receiver.received) == 1  # the lease is still valid
        clock.tick(seconds=LEASE.total_seconds() + 1)
        await all_turns(DeliveryLoop(rt))

        first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    assert [delivery.state for delivery in await all_deliveries(rt)] == ["delivered"]


async def test_a_delivery_fails_after_three_days(rt: Runtime, clock: Clock) -> None:
    """A receiver may be down over a long weekend, but not longer."""
    async with receiving(status(500)) as receiver:
        await a_cancelled_job(rt, receiver)
        delivering, began = DeliveryLoop(rt), rt.now()

        while (delivery := (await all_deliveries(rt))[0]).state == "pending":
            assert delivery.next_at is not None
            clock.time = max(clock.time, delivery.next_at)
            await one_turn(delivering)

        assert len(receiver.received) == len(DELAYS) + 1
    assert timedelta(days=2) < rt.now() - began < timedelta(days=4)
    assert (delivery.state, delivery.last_reason) == ("failed", "refused")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3600", 3600),
        ("999999999999999999999", 86_400),
        (format_datetime(datetime(2026, 1, 1, 13, tzinfo=UTC), usegmt=True), 3600),
        ("soon", 0),
        ("Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", 0),
        ("Wed, 01 Jan 2020 00:00:00 +99999999999999999999", 0),
        ("-1", 0),
    ],
)
async def test_retry_after_delays_the_next_attempt(
    rt: Runtime, clock: Clock, value: str, seconds: float
) -> None:
    """A day at most; an unreadable value is ignored."""
    async with receiving(status(429, retry_after=value)) as receiver:
        await a_cancelled_job(rt, receiver)

        await one_turn(DeliveryLoop(rt))

    (delivery,) = await all_deliveries(rt)
    assert delivery.next_at is not None
    wait = delivery.next_at - clock.time
    assert max(timedelta(seconds=seconds), timedelta(seconds=4)) <= wait
    assert wait <= timedelta(seconds=max(seconds, 6))


async def test_a_redirect_is_not_followed(rt: Runtime) -> None:
    """It could lead to an internal address; the owner has to change the URL."""
    async with (
        receiving() as inside,
        receiving(status(302, location=inside.url)) as receiver,
    ):
        await a_cancelled_job(rt, receiver)

        await one_turn(DeliveryLoop(rt))

        assert inside.received == []
    (delivery,) = await all_deliveries(rt)
    assert delivery.last_status == 302
    assert str(delivery.last_reason).startswith("redirected")


async def test_a_410_response_stops_further_deliveries(rt: Runtime) -> None:
    """410 is how a receiver unsubscribes."""
    async with receiving(status(410)) as receiver:
        await a_cancelled_job(rt, receiver)

        await one_turn(DeliveryLoop(rt))

    (delivery,) = await all_deliveries(rt)
    assert (delivery.state, delivery.last_reason) == ("failed", "gone")


async def _hang(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-drop: 1\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("script", [_hang, _drip])
async def test_a_slow_receiver_is_disconnected(rt: Runtime, script: object) -> None:
    """It may send nothing, or a few bytes for ever."""
    async with receiving(script) as receiver:  # type: ignore[arg-type]  # one of the two above
        await a_cancelled_job(rt, receiver)

        await one_turn(DeliveryLoop(rt, seconds=0.2))

    (delivery,) = await all_deliveries(rt)
    assert (delivery.state, delivery.attempts) == ("pending", 1)
    assert str(delivery.last_reason).partition(":")[0] in {"timed_out", "no_response"}


async def test_an_endless_response_is_not_read(rt: Runtime) -> None:
    """Only the status counts, so the connection is closed before the body has arrived."""
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    async with receiving(flood) as receiver:
        await a_cancelled_job(rt, receiver)

        await one_turn(DeliveryLoop(rt))

    (delivery,) = await all_deliveries(rt)
    assert (delivery.state, delivery.last_status) == ("delivered", 200)
    assert sent < 16_000_000  # what the buffers of the sockets hold


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_an_accepted_delivery_does_not_wait_for_the_body(rt: Runtime) -> None:
    """The status has arrived, and the rest of the response does not count."""

    async def accept_and_drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with receiving(accept_and_drip) as receiver:
        await a_cancelled_job(rt, receiver)

        await one_turn(DeliveryLoop(rt))

    (delivery,) = await all_deliveries(rt)
    assert (delivery.state, delivery.last_status, delivery.attempts) == ("delivered", 200, 1)


async def test_received_deliveries_pass_third_party_verifiers(rt: Runtime) -> None:
    """Headers and bytes are taken from the wire; see `test_signing` for one more verifier."""
    secret, *_ = await signing_secrets(rt, tenant_id="default")
    async with receiving() as receiver:
        rt = replace(rt, now=lambda: datetime.now(UTC))  # verifiers use their own clock
        await a_cancelled_job(rt, receiver)

        await all_turns(DeliveryLoop(rt))

        (received,) = receiver.received
    assert Webhook(secret).verify(received.body, received.headers) == received.event
    Webhooks.validate(
        headers=received.headers,
        body=received.body.decode(),
        secret=WebhookSigningSecret(key=secret),
    )


async def test_a_hanging_receiver_slows_no_other(rt: Runtime) -> None:
    """Its deliveries have a limit of their own, however many are due."""
    async with receiving(_hang) as dead, receiving() as alive:
        for _ in range(2 * PER_LANE):
            await a_cancelled_job(rt, dead)
        for _ in range(20):
            await a_cancelled_job(rt, alive)
        delivering = DeliveryLoop(rt, seconds=60)

        while len(alive.received) < 20:
            await delivering.turn()
            await asyncio.wait(delivering._running, return_when=asyncio.FIRST_COMPLETED)

        assert len(dead.received) <= PER_LANE
        for task in delivering._running:
            task.cancel()
        await delivering.close()


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_many_hanging_receivers_slow_no_responsive_one(rt: Runtime) -> None:
    """Half of all attempts are reserved for receivers that respond."""
    async with receiving(_hang) as dead, receiving() as alive:
        await a_cancelled_job(rt, alive)
        delivering = DeliveryLoop(rt, seconds=60, at_once=8)
        await all_turns(delivering)
        for number in range(12):
            webhook = JobWebhook(dead.url, ("job.created",))
            await submit(rt, a_request(webhook=webhook, tenant_id=f"tenant {number}"))
        await delivering.turn()
        for _ in range(6):
            await a_cancelled_job(rt, alive)

        while len(alive.received) < 7:
            await delivering.turn()
            await asyncio.wait(delivering._running, return_when=asyncio.FIRST_COMPLETED)

        assert len(dead.received) <= 4
        for task in delivering._running:
            task.cancel()
        await delivering.close()


async def test_the_result_of_an_attempt_is_recorded_after_a_database_outage(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the receiver would get the event twice."""
    monkeypatch.setattr("fleek.engine.deliver.REPORT_PAUSES", (0.0, 0.0))
    await signing_secrets(rt, tenant_id="default")
    async with receiving() as receiver:
        await a_cancelled_job(rt, receiver)
        delivering = DeliveryLoop(rt)
        await delivering.turn()
        failpoints.arm("database.commit=dberror@1-2")

        await asyncio.gather(*delivering._running)

        assert len(receiver.received) == 1
    assert [delivery.state for delivery in await all_deliveries(rt)] == ["delivered"]


async def test_a_leap_of_the_clock_disables_no_endpoint(rt: Runtime, clock: Clock) -> None:
    """Skipped time does not count as five days of failures."""
    async with receiving(status(500)) as receiver:
        endpoint, _ = await create_endpoint(
            rt, tenant_id="default", url=receiver.url, events=("job.created",), description=""
        )
        await submit(rt, a_request())
        await one_turn(DeliveryLoop(rt))
        clock.tick(days=6)
        rt.clock.leaps = (Leap(clock(), timedelta(days=6)),)

        await one_turn(DeliveryLoop(rt))

        assert len(receiver.received) == 2
    assert (await endpoints.get_endpoint(rt.db, endpoint.id)).enabled


async def test_an_endpoint_is_disabled_after_five_days_of_failures(
    rt: Runtime, clock: Clock
) -> None:
    """Only the time counts; the log reports it, and what is due is dropped."""
    async with receiving(status(500)) as receiver:
        endpoint, _ = await create_endpoint(
            rt, tenant_id="default", url=receiver.url, events=("job.created",), description=""
        )
        delivering, began = DeliveryLoop(rt), clock.time
        with capture_logs() as logs:
            for _ in range(12):
                await submit(rt, a_request())
                await one_turn(delivering)
                clock.tick(hours=12)

    after = await endpoints.get_endpoint(rt.db, endpoint.id)
    assert (after.enabled, after.disabled_reason) == (False, "failing")
    assert after.last_failure_at == began + timedelta(days=5)
    (logged,) = [line for line in logs if line["event"] == "endpoint_disabled"]
    assert (logged["endpoint_id"], logged["reason"]) == (str(endpoint.id), "failing")


async def test_a_disabled_endpoint_is_reported_to_the_others(rt: Runtime, clock: Clock) -> None:
    """To those of its tenant with this type of event, and in the audit log."""
    events = ("job.created", DISABLED_EVENT)
    async with receiving(status(410)) as gone, receiving() as other, receiving() as foreign:
        one, _ = await create_endpoint(
            rt, tenant_id="default", url=gone.url, events=events, description=""
        )
        for receiver, tenant_id, chosen in (
            (other, "default", (DISABLED_EVENT,)),
            (other, "default", ("job.failed",)),
            (foreign, "acme", (DISABLED_EVENT,)),
        ):
            await create_endpoint(
                rt, tenant_id=tenant_id, url=receiver.url, events=chosen, description=""
            )
        await submit(rt, a_request())
        delivering = DeliveryLoop(rt)
        await one_turn(delivering)
        clock.tick(seconds=1)
        await one_turn(delivering)

        assert [received.type for received in gone.received] == ["job.created"]
        (told,) = other.received
        assert foreign.received == []
    assert told.event["type"] == DISABLED_EVENT
    assert told.event["data"] == {"endpoint_id": str(one.id), "reason": "gone"}
    line = (await audit.latest(rt.db, limit=1))[0].entry
    assert (line.action, line.target, line.actor) == ("endpoint.disabled", str(one.id), "service")
    assert line.detail == {"reason": "gone"}
    assert await audit.verify(rt.db) == (5, None)


async def test_the_log_contains_no_resolved_addresses(rt: Runtime) -> None:
    """The addresses of a private network are not for the owners of endpoints."""
    async with receiving() as receiver:
        url = receiver.url
    job = await submit(rt, a_request(webhook=JobWebhook(url, ENDS)))
    await cancel(rt, job.id, tenant_id="default")

    await one_turn(DeliveryLoop(rt))

    (delivery,) = await all_deliveries(rt)
    assert delivery.last_reason == "unreachable: no connection: Connection refused"


async def test_a_receiver_at_a_private_address_is_not_called(rt: Runtime) -> None:
    """The resolved address is checked at each attempt, and the log gives the reason."""
    async with receiving() as receiver:
        await a_cancelled_job(rt, receiver)
        guarded = replace(
            rt, webhooks=Client(Policy(networks=(ip_network("10.0.0.0/8"),), plain=True))
        )

        await one_turn(DeliveryLoop(guarded))

        assert receiver.received == []
    (delivery,) = await all_deliveries(rt)
    assert str(delivery.last_reason).startswith("blocked")


async def test_jobs_without_webhooks_cost_no_statement(rt: Runtime) -> None:
    """There is neither a row nor a statement for them."""
    job = await submit(rt, a_request())

    await cancel(rt, job.id, tenant_id="default")

    assert await all_deliveries(rt) == []


async def test_old_deliveries_are_removed(rt: Runtime, clock: Clock) -> None:
    """Bodies contain prompts, so they are kept as long as the settings say."""
    async with receiving() as receiver:
        await a_cancelled_job(rt, receiver)
        await all_turns(DeliveryLoop(rt))
        assert len(await all_deliveries(rt)) == 1
    clock.tick(days=rt.settings.webhook_retention_days + 1)

    await all_turns(DeliveryLoop(rt))

    assert await all_deliveries(rt) == []
