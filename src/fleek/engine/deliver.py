"""Deliver webhooks: the loop `deliver` of the coordinator.

Deliveries are rows. A turn leases those that are due, and each is sent by a task of its own; what a
process does not report, another sends again when the lease ends: with the same id and body.
Receivers have lanes, so that one which does not answer costs only itself.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from fleek import failpoints
from fleek.domain.errors import ConfigurationError, Conflict, HostError, NotFound
from fleek.domain.text import one_line
from fleek.domain.values import dataclass
from fleek.domain.webhooks import FAILING_FOR, QUIET, Delivery, DeliveryState, retry_delay
from fleek.engine import signing, webhook_keys
from fleek.engine.clock import STEP
from fleek.engine.loops import run_logged
from fleek.engine.runtime import Runtime
from fleek.engine.webhooks import signing_secrets
from fleek.outbound.addresses import UnsafeAddress
from fleek.outbound.client import NotSent, Response, ResponseLost
from fleek.registry import webhook_form
from fleek.store import deliveries, endpoints
from fleek.store.deliveries import Claim, Lane, Outcome

AT_ONCE: Final = 256  # attempts in all
PER_LANE: Final = 4  # attempts to one receiver; one unless it works
WORKING: Final = 10_000  # receivers that are remembered as working
LEASE: Final = timedelta(seconds=60)
SECONDS: Final = 15.0  # for one attempt
BODY_SECONDS: Final = 1.0  # for the body of a response, of which nothing is kept
MAX_BODY: Final = 65_536  # bytes of it
IDLE: Final = timedelta(seconds=0.5)  # other processes write deliveries, too
REST: Final = timedelta(seconds=0.1)  # while there are more old ones to remove
UNREADABLE: Final = timedelta(minutes=5)  # until the secret may be readable
CLOSING_SECONDS: Final = 2.0
REPORT_PAUSES: Final = (0.5, 2.0, 5.0)  # seconds between tries to write what came of an attempt
REMOVED: Final = 500  # old deliveries in one turn
MAX_REASON: Final = 200  # characters
MAX_RETRY_AFTER: Final = 10**8  # seconds that are read
GONE: Final = 410

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt: the HTTP status, if there was one, and a reason."""

    status: int | None
    reason: str
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300


class Receiver(NamedTuple):
    """Where a delivery goes, and what signs it."""

    url: str
    secrets: Sequence[str]
    prefix: str | None = None  # of the headers, if the installation's private key signs


class DeliveryLoop:
    """The turns of the loop `deliver` during one leadership.

    Args:
        rt: The runtime.
        seconds: The longest attempt.
        at_once: Attempts at a time.
    """

    def __init__(self, rt: Runtime, *, seconds: float = SECONDS, at_once: int = AT_ONCE) -> None:
        self._rt = rt
        self._seconds = seconds
        self._at_once = at_once
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._steps = -1  # of the clock that were handled; none yet
        self._working: dict[UUID, None] = {}  # lanes whose latest attempt was a success
        self._forgets = rt.steady()  # when old deliveries are looked for

    async def turn(self) -> timedelta:
        """Begin the attempts that are due; returns the time until the next turn."""
        rt, now = self._rt, self._rt.now()
        if rt.clock.steps != self._steps:
            await self._reschedule(rt.clock.steps)
        lanes = await deliveries.lanes(rt.db)
        claims = self._claims([lane for lane in lanes if lane.next_at <= now], now)
        for claimed in await asyncio.gather(*(deliveries.claim(rt.db, wish) for wish in claims)):
            for delivery in claimed:
                self._begin(delivery)
        more = await self._forget(now)
        if more:
            return REST
        return min([IDLE, *(lane.next_at - now for lane in lanes if lane.next_at > now)])

    async def close(self) -> None:
        """Let attempts end that are about to; the others are repeated when their lease ends."""
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSING_SECONDS)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _reschedule(self, steps: int) -> None:
        """Keep to the meant pauses after the clock was set back: at its steps, and as a new leader."""
        moved = await deliveries.reschedule_from_future(
            self._rt.db,
            now=self._rt.now(),
            tolerance=STEP,
            unsent=max(LEASE, UNREADABLE) + STEP,
            kept={delivery.id for delivery in self._running.values()},
        )
        self._steps = steps
        if moved:
            log.warning(
                "deliveries_rescheduled", deliveries=moved, reason="the clock was set back"
            )

    def _claims(self, lanes: list[Lane], now: datetime) -> list[Claim]:
        """Share the free attempts among lanes; those that work have half of them for themselves.

        Others, which fail or are new, may hang: however many there are, what works goes on.
        """
        busy = Counter(delivery.lane for delivery in self._running.values())
        free = self._at_once - len(self._running)
        spare = self._at_once // 2 - sum(
            n for lane, n in busy.items() if lane not in self._working
        )
        claims = []
        for lane in random.sample(lanes, len(lanes)):
            works = lane.id in self._working
            most, share = (PER_LANE, free) if works else (1, min(spare, free))
            limit = min(most - busy[lane.id], share)
            if limit > 0:
                claims.append(Claim(lane.id, limit, now=now, until=now + LEASE))
                free -= limit
                spare -= 0 if works else limit
        return claims

    def _begin(self, delivery: Delivery) -> None:
        attempt = partial(self._attempt, delivery)
        running = run_logged(self._rt, "deliver", attempt, job_id=delivery.job_id)
        task = asyncio.create_task(running)
        self._running[task] = delivery
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._rt.wakeups.notify("deliver")

    async def _attempt(self, delivery: Delivery) -> None:
        rt = self._rt
        failpoints.hit("deliver.claimed")
        outcome = await self._outcome(delivery)
        disabled = await self._report(outcome)
        failpoints.hit("deliver.reported")
        rt.metrics.webhooks.labels(outcome.reason.partition(":")[0]).inc()
        _record(outcome)
        if disabled is not None:
            endpoint_id = str(delivery.endpoint_id)
            log.warning("endpoint_disabled", endpoint_id=endpoint_id, reason=disabled)

    async def _report(self, outcome: Outcome) -> str | None:
        """Write what came of an attempt; a few tries, since it is repeated if nobody knows of it."""
        for pause in REPORT_PAUSES:
            try:
                return await deliveries.report(self._rt.db, outcome)
            except HostError as error:
                log.warning("delivery_not_reported", reason=str(error))
            await asyncio.sleep(pause)
        return await deliveries.report(self._rt.db, outcome)

    async def _outcome(self, delivery: Delivery) -> Outcome:
        rt, began = self._rt, self._rt.steady()
        try:
            receiver = await _receiver(rt, delivery)
        except NotFound:
            return _given_up(delivery, "endpoint_deleted", now=rt.now())
        except Conflict:
            return _given_up(delivery, "endpoint_disabled", now=rt.now())
        except ConfigurationError as error:
            log.warning("webhook_not_signed", reason=str(error))
            if rt.clock.lived(delivery.created_at, rt.now()) > FAILING_FOR:
                return _given_up(delivery, "secret_unreadable", now=rt.now())
            return _postponed(delivery, "secret_unreadable", now=rt.now())
        answer = await send(rt, delivery, receiver, seconds=self._seconds)
        self._learn(delivery.lane, works=answer.delivered)
        return _judged(rt, delivery, answer, seconds=rt.steady() - began)

    def _learn(self, lane: UUID, *, works: bool) -> None:
        self._working.pop(lane, None)
        if works:
            self._working[lane] = None
            if len(self._working) > WORKING:
                del self._working[next(iter(self._working))]

    async def _forget(self, now: datetime) -> bool:
        """Remove deliveries that ended long ago, every few seconds; returns whether there are more."""
        rt = self._rt
        if rt.steady() < self._forgets or not rt.clock.stable:
            return False
        before = rt.clock.back(now, timedelta(days=rt.settings.webhook_retention_days))
        if await deliveries.remove_ended(rt.db, before=before, limit=REMOVED) == REMOVED:
            return True
        self._forgets = rt.steady() + rt.lease.heartbeat.total_seconds()
        return False


def _record(outcome: Outcome) -> None:
    """Log an attempt; one that succeeded only when debugging."""
    delivery = outcome.delivery
    write = log.debug if outcome.state is DeliveryState.DELIVERED else log.info
    write(
        "webhook_attempted",
        delivery_id=delivery.message_id,
        job_id=delivery.job_id and str(delivery.job_id),
        endpoint_id=delivery.endpoint_id and str(delivery.endpoint_id),
        tenant_id=delivery.tenant_id,
        state=outcome.state.value,
        status=outcome.status,
        reason=outcome.reason,
        seconds=round(outcome.seconds, 3),
    )


async def _receiver(rt: Runtime, delivery: Delivery) -> Receiver:
    """Return where a delivery goes now.

    Raises:
        NotFound: Its endpoint has been deleted.
        Conflict: Its endpoint is disabled.
        ConfigurationError: Its secret cannot be decrypted.
    """
    url = delivery.url
    if delivery.endpoint_id is not None:
        endpoint = await endpoints.get_endpoint(rt.db, delivery.endpoint_id)
        if not endpoint.enabled and not delivery.is_test:
            raise Conflict("the endpoint is disabled")
        url = endpoint.url
    assert url is not None
    form = None if delivery.form is None else webhook_form(delivery.form)
    if form is not None and form.prefix is not None:
        return Receiver(url, [await webhook_keys.seed_of(rt)], form.prefix)
    secrets = await signing_secrets(
        rt, tenant_id=delivery.tenant_id, endpoint_id=delivery.endpoint_id
    )
    return Receiver(url, secrets)


async def send(rt: Runtime, delivery: Delivery, receiver: Receiver, *, seconds: float) -> Answer:
    """Send a delivery once; whatever the receiver does, this ends in time."""
    opening = rt.webhooks.open(
        "POST", receiver.url, delivery.body, _headers(rt, delivery, receiver)
    )
    try:
        async with asyncio.timeout(seconds), opening as response:
            answer = _read(response, now=rt.now())
            await _drain(response)
    except UnsafeAddress as error:
        return Answer(None, f"blocked: {error}")
    except TimeoutError:
        return Answer(None, "timed_out")
    except NotSent as error:
        return Answer(None, f"unreachable: {error}")
    except ResponseLost as error:
        return Answer(None, "timed_out" if error.late else f"no_response: {error}")
    failpoints.hit("deliver.sent")
    return answer


def _headers(rt: Runtime, delivery: Delivery, receiver: Receiver) -> Mapping[str, str]:
    if receiver.prefix is not None:
        seed = receiver.secrets[0]
        return webhook_keys.headers(delivery, seed, now=rt.now(), prefix=receiver.prefix)
    return signing.headers(delivery.message_id, delivery.body, receiver.secrets, now=rt.now())


def _read(response: Response, *, now: datetime) -> Answer:
    status = response.status
    if 200 <= status < 300:
        return Answer(status, "delivered")
    if 300 <= status < 400:
        return Answer(status, "redirected: set the address that it redirects to")
    if status == GONE:
        return Answer(status, "gone")
    wait = _retry_after(response.headers.get("retry-after", ""), now=now)
    return Answer(status, "refused", retry_after=wait)


def _retry_after(value: str, *, now: datetime) -> timedelta | None:
    """Return how long a receiver asks us to wait: in seconds, or until a date."""
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:9]), MAX_RETRY_AFTER))
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(until - now, timedelta(0))


async def _drain(response: Response) -> None:
    """Read a short body, so that the connection can be used again; a long one ends it."""
    size = 0
    with suppress(ResponseLost, TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in response.body:
                size += len(chunk)
                if size > MAX_BODY:
                    return


def _judged(rt: Runtime, delivery: Delivery, answer: Answer, *, seconds: float) -> Outcome:
    """Return what an answer makes of a delivery. A test is not repeated, and proves no outage."""
    now, delay = rt.now(), None
    if not answer.delivered and answer.status != GONE and not delivery.is_test:
        delay = retry_delay(delivery.failures + 1, retry_after=answer.retry_after)
    ended = DeliveryState.DELIVERED if answer.delivered else DeliveryState.FAILED
    return Outcome(
        delivery=delivery,
        at=now,
        seconds=seconds,
        state=ended if delay is None else DeliveryState.PENDING,
        next_at=None if delay is None else now + delay,
        status=answer.status,
        reason=one_line(answer.reason, MAX_REASON),
        healthy=None if delivery.is_test and not answer.delivered else answer.delivered,
        gone=answer.status == GONE,
        quiet_since=rt.clock.back(now, QUIET),
        failing_since=rt.clock.back(now, FAILING_FOR) if rt.clock.stable else None,
    )


def _given_up(delivery: Delivery, reason: str, *, now: datetime) -> Outcome:
    return _unsent(delivery, reason, now=now, state=DeliveryState.FAILED, next_at=None)


def _postponed(delivery: Delivery, reason: str, *, now: datetime) -> Outcome:
    state = DeliveryState.PENDING
    return _unsent(delivery, reason, now=now, state=state, next_at=now + UNREADABLE)


def _unsent(
    delivery: Delivery,
    reason: str,
    *,
    now: datetime,
    state: DeliveryState,
    next_at: datetime | None,
) -> Outcome:
    return Outcome(
        delivery=delivery,
        at=now,
        seconds=0.0,
        state=state,
        next_at=next_at,
        status=None,
        reason=reason,
        healthy=None,
    )
