"""Callbacks: signed webhook messages, sent by a timer."""

import asyncio
import base64
import heapq
import hmac
import math
import secrets
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from typing import Any, Final

import httpx2

from fleek.emulator.account import Account
from fleek.emulator.dialect import SignCallback
from fleek.emulator.plan import Faults
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import encode

WRONG_SECRET: Final = "whsec_" + base64.b64encode(b"not the secret of this account").decode()


Sign = Callable[[str, bytes], Mapping[str, str]]
"""Returns the headers of a signature, from its time in seconds since 1970 and the body."""


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A webhook message. Each delivery attempt is signed anew, with the same id and body."""

    body: bytes
    sign: Sign
    skew: float = 0.0  # seconds to add to the timestamp
    bare: bool = False  # whether to omit its headers
    stamp: float | None = None  # a fixed time of the signature; None: that of each attempt

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers, signed as of `now` unless `stamp` is set."""
        plain = {"content-type": "application/json", "user-agent": "Replicate/1.0"}
        if self.bare:
            return plain
        timestamp = str(int((now if self.stamp is None else self.stamp) + self.skew))
        return plain | dict(self.sign(timestamp, self.body))


def _standard(message_id: str, secret: str) -> Sign:
    """Return what signs a message by the Standard Webhooks specification, as Replicate does."""

    def headers(timestamp: str, body: bytes) -> Mapping[str, str]:
        return {
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(secret, message_id, timestamp, body),
        }

    return headers


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a message: `v1,` and an HMAC-SHA256 in base 64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, sha256)).decode()


def write(account: Account, prediction: Prediction, faults: Mapping[str, str]) -> WebhookMessage:
    """Build the message for a prediction's current state, with the given faults."""
    shown = prediction
    if "hook_wrong_body" in faults:
        shown = account.predictions[prediction.seq - 1]
    view = _content(account, shown)
    if "hook_huge" in faults:
        view["logs"] = "x" * int(float(faults["hook_huge"]) * 1e6)
    body = encode(view)
    if "hook_not_utf8" in faults:
        body = b"\xff\xfe" + body[1:]
    return WebhookMessage(
        body=body,
        sign=_signer(account, prediction, forged="hook_wrong_signature" in faults),
        skew=account.plan.clock_offset_seconds
        + float(faults.get("hook_future_timestamp", 0))
        - float(faults.get("hook_old_timestamp", 0)),
        bare="hook_missing_headers" in faults,
    )


def _content(account: Account, prediction: Prediction) -> dict[str, Any]:
    dialect = account.dialects[prediction.dialect]
    notify = dialect.notify or dialect.present
    return notify(prediction, account.plan, account.now(), delivery=account.delivery)


def _signer(account: Account, prediction: Prediction, *, forged: bool) -> Sign:
    own: SignCallback | None = account.dialects[prediction.dialect].sign
    if own is not None:
        return partial(own, prediction.id, seed=account.plan.seed, forged=forged)
    secret = WRONG_SECRET if forged else account.secret
    return _standard("msg_" + secrets.token_hex(13), secret)


TICK_SECONDS: Final = 0.5  # minimum time between two callbacks about logs


@cache
def _certificates() -> ssl.SSLContext:
    """Return the system's certificates, read once per process, as that takes 50 ms."""
    return httpx2.create_ssl_context(trust_env=False)


@dataclass(order=True, slots=True)
class Due:
    """A callback that is due at an instant by the emulator's clock."""

    at: float
    turn: int
    prediction: Prediction = field(compare=False)
    event: str = field(compare=False)


class Callbacks:
    """Sends due callbacks; idle if no prediction has a webhook."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._due: list[Due] = []
        self._turn = 0
        self._delivered: set[tuple[str, str]] = set()  # (prediction, event), sent only once
        self._timer: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(64)
        self._http: httpx2.AsyncClient | None = None
        account.on_retime = self._retimed

    async def watch(self, prediction: Prediction, *, early: bool = False) -> None:
        """Send the callbacks of a prediction when they are due.

        With `early`, send the one of its end at once, and return after that.
        """
        if prediction.webhook is None:
            return
        if early and "completed" in prediction.events:
            await asyncio.wait({self._spawn(self._deliver(prediction, "completed"))}, timeout=5)
            return
        for event, at in _events(prediction):
            self._push(prediction, event, at)

    def resume(self) -> None:
        """Resume the callbacks of an earlier process: ends that were not delivered."""
        self._delivered |= {
            (row["id"], "completed")
            for row in self._account.ledger.rows("webhook")
            if row["event"] == "completed" and row["final"]
        }
        for prediction in self._account.predictions:
            if prediction.webhook is not None:
                self._push(prediction, "completed", prediction.ended_at)

    def forget(self) -> None:
        """Discard all scheduled callbacks."""
        self._due.clear()
        self._delivered.clear()

    async def close(self) -> None:
        """Stop sending."""
        tasks = [*self._sends, *([] if self._timer is None else [self._timer])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    def _retimed(self, prediction: Prediction) -> None:
        """Reschedule the callbacks of a prediction whose end was moved forward."""
        if prediction.webhook is not None:
            for event, at in _events(prediction):
                if event in ("output", "completed"):
                    self._push(prediction, event, at)

    def _push(self, prediction: Prediction, event: str, at: float) -> None:
        if event not in prediction.events or (prediction.id, event) in self._delivered:
            return
        self._turn += 1
        heapq.heappush(self._due, Due(at, self._turn, prediction, event))
        if self._timer is None:
            self._timer = asyncio.create_task(self._run())
        if self._due[0].turn == self._turn:  # due before the one that the timer waits for
            self._account.clock.wake()

    async def _run(self) -> None:
        clock = self._account.clock
        while True:
            await clock.wait(lambda: self._due[0].at if self._due else math.inf)
            while self._due and self._due[0].at <= clock.now():
                due = heapq.heappop(self._due)
                if self._is_current(due):
                    self._spawn(self._deliver(due.prediction, due.event))
                    if due.event == "logs":
                        self._push(due.prediction, "logs", due.at + TICK_SECONDS)

    def _is_current(self, due: Due) -> bool:
        """Whether the event happened at the planned instant, and was not delivered yet."""
        prediction = due.prediction
        match due.event:
            case "start":
                return prediction.started_at <= due.at <= prediction.ended_at
            case "logs":
                return due.at <= prediction.ended_at
            case "output" if prediction.end != "succeeded":
                return False
            case _:
                first = (prediction.id, due.event) not in self._delivered
                self._delivered.add((prediction.id, due.event))
                return first

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)
        return task

    async def _deliver(self, prediction: Prediction, event: str) -> None:
        """Send one event, with the faults that the sampler draws."""
        faults = self._account.sampler.draw(
            self._account.plan,
            "hook",
            subject=prediction.id,
            markers=prediction.markers,
            model=prediction.model,
        )
        message = write(self._account, prediction, faults)
        if "hook_drop" in faults:
            self._enter(prediction, event, 0, faults, None, final=True)
            return
        if "hook_delay" in faults:
            await asyncio.sleep(float(faults["hook_delay"]))
        if "hook_reorder" in faults and event != "completed":
            await self._account.clock.wait(lambda: prediction.ended_at + TICK_SECONDS)
        if "hook_replay" in faults:
            message = replace(message, stamp=self._account.now())
        for _ in range(int(faults.get("hook_duplicate", 1))):
            await self._send(prediction, event, message, faults)
        if "hook_replay" in faults:
            await asyncio.sleep(float(faults["hook_replay"]))
            await self._send(prediction, event, message, faults)

    async def _send(
        self, prediction: Prediction, event: str, message: WebhookMessage, faults: Faults
    ) -> None:
        """Send until accepted; events other than an end are sent once."""
        plan = self._account.plan
        pauses = plan.webhook_retries if event == "completed" else ()
        for attempt, pause in enumerate((*pauses, None), start=1):
            status = await self._post(str(prediction.webhook), message)
            taken = status is not None and 200 <= status < 300
            final = taken or pause is None
            self._enter(prediction, event, attempt, faults, status, final=final)
            if taken or pause is None:
                return
            await asyncio.sleep(pause)

    async def _post(self, url: str, message: WebhookMessage) -> int | None:
        if self._http is None:
            self._http = httpx2.AsyncClient(
                trust_env=False,
                timeout=self._account.plan.webhook_timeout_seconds,
                verify=_certificates(),
            )
        async with self._places:
            try:
                headers = message.headers(self._account.now())
                response = await self._http.post(url, content=message.body, headers=headers)
            except (httpx2.HTTPError, httpx2.InvalidURL):
                return None
        return response.status_code

    def _enter(
        self,
        prediction: Prediction,
        event: str,
        attempt: int,
        faults: Faults,
        status: int | None,
        *,
        final: bool,
    ) -> None:
        self._account.ledger.add(
            "webhook",
            id=prediction.id,
            event=event,
            attempt=attempt,
            t=self._account.now(),
            faults=[*faults],
            peer_status=status,
            final=final,
        )


def _events(prediction: Prediction) -> Iterator[tuple[str, float]]:
    """Yield its events with their planned instants."""
    start, end = prediction.started_at, prediction.ended_at
    yield "start", start
    yield "logs", start + TICK_SECONDS  # repeated until the end
    if prediction.end == "succeeded":
        yield "output", end
    yield "completed", end
