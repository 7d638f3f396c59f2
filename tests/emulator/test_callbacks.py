"""Callbacks: signed, filtered, retried, and faulty in every configurable way."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from listening import listening

LIMIT = 30  # seconds; no test waits for time to pass

Message = tuple[Mapping[str, str], bytes]


@dataclass
class Receiver:
    """Receives callbacks, and responds with the given statuses, then 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    inbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one request after the other."""
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            lines = head.decode().split("\r\n")[1:-2]
            headers = {
                name.lower(): value for name, value in (line.split(": ", 1) for line in lines)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.inbox.put_nowait((headers, body))
            status = self.answers.pop(0) if self.answers else 200
            writer.write(f"HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n".encode())
            writer.close()
            return

    async def next(self) -> Message:
        """Wait for the next message."""
        return await asyncio.wait_for(self.inbox.get(), LIMIT)


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    """Yield a receiver of callbacks."""
    receiver = Receiver()
    async with listening(receiver.take) as url:
        receiver.url = f"{url}/hook"
        yield receiver


@pytest.fixture
async def quick(emulator: Emulator) -> Emulator:
    """Retry at once, so that tests need not wait."""
    emulator.replan(webhook_retries=(0, 0, 0))
    return emulator


@pytest.fixture
def standing(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Stop the emulator's time; tests advance it."""
    clock, began = emulator.account.clock, time.time()
    monkeypatch.setattr(clock, "now", lambda: began + clock._ahead)
    return emulator


def verify(emulator: Emulator, message: Message) -> Any:
    """Check the signature like a receiver, and return the body."""
    headers, body = message
    return Webhook(emulator.account.secret).verify(body, dict(headers))


async def test_the_end_is_signed_and_looks_like_a_read(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any, receiver: Receiver
) -> None:
    """The body equals the GET response at that moment."""
    made = await create(webhook=receiver.url, webhook_events_filter=["completed"])

    message = await receiver.next()

    assert verify(emulator, message)["status"] == "succeeded"
    assert message[1] == (await api.get(made.json()["urls"]["get"])).content


async def test_all_events_arrive_in_order(
    standing: Emulator, create: Any, receiver: Receiver
) -> None:
    """Start, logs every half second, output, completed."""
    bodies: list[bytes] = []
    await create("[[emu:predict=0.6]]", webhook=receiver.url)

    for number, seconds in ((1, 0.5), (1, 0.1), (2, 0)):
        bodies += [(await receiver.next())[1] for _ in range(number)]
        standing.account.clock.advance(seconds)

    assert [json.loads(body)["status"] for body in bodies] == [
        "processing",
        "processing",
        "succeeded",
        "succeeded",
    ]
    await _until(lambda: len(standing.ledger.rows("webhook")) == 4)
    reported = [row["event"] for row in standing.ledger.rows("webhook")]
    assert (reported[:2], set(reported[2:])) == (["start", "logs"], {"output", "completed"})


async def test_only_requested_events_are_sent(
    emulator: Emulator, create: Any, receiver: Receiver
) -> None:
    """The request contains a filter."""
    await create(webhook=receiver.url, webhook_events_filter=["start", "completed"])

    await receiver.next()
    await receiver.next()

    await _until(lambda: len(emulator.ledger.rows("webhook")) == 2)
    assert [row["event"] for row in emulator.ledger.rows("webhook")] == ["start", "completed"]


async def test_the_end_is_retried_with_the_same_id(
    quick: Emulator, create: Any, receiver: Receiver
) -> None:
    """So receivers can recognise a repetition."""
    receiver.answers = [500, 404]
    await create(webhook=receiver.url, webhook_events_filter=["completed"])

    messages = [await receiver.next() for _ in range(3)]

    assert len({headers["webhook-id"] for headers, _ in messages}) == 1
    await _until(lambda: len(quick.ledger.rows("webhook")) == 3)
    assert [row["peer_status"] for row in quick.ledger.rows("webhook")] == [500, 404, 200]


async def test_nothing_but_the_end_is_retried(
    quick: Emulator, create: Any, receiver: Receiver
) -> None:
    """As at Replicate."""
    receiver.answers = [500]
    await create(webhook=receiver.url, webhook_events_filter=["start"])

    await receiver.next()

    await _until(lambda: len(quick.ledger.rows("webhook")) == 1)
    assert quick.ledger.rows("webhook")[0]["final"] is True


async def test_redirects_are_not_followed(
    quick: Emulator, create: Any, receiver: Receiver
) -> None:
    """A 301 counts as a failure."""
    receiver.answers = [301, 301, 301, 301]
    await create(webhook=receiver.url, webhook_events_filter=["completed"])

    for _ in range(4):
        await receiver.next()

    await _until(lambda: len(quick.ledger.rows("webhook")) == 4)
    assert {row["peer_status"] for row in quick.ledger.rows("webhook")} == {301}


async def test_an_unreachable_receiver_is_retried_by_schedule(
    quick: Emulator, create: Any
) -> None:
    """After the last try the callback is dropped."""
    await create(webhook="http://127.0.0.1:9/", webhook_events_filter=["completed"])

    await _until(lambda: len(quick.ledger.rows("webhook")) == 4)

    assert {row["peer_status"] for row in quick.ledger.rows("webhook")} == {None}


async def test_a_cancelled_prediction_reports_its_end_at_once_and_once(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any, receiver: Receiver
) -> None:
    """Its end was scheduled for later."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["output", "completed"]}
    made = (await create("[[emu:predict=60]]", **wanted)).json()
    await api.post(made["urls"]["cancel"])

    message = await receiver.next()
    emulator.account.clock.advance(120)
    await create(webhook=receiver.url, webhook_events_filter=["completed"])
    other = await receiver.next()

    assert json.loads(message[1])["status"] == "canceled"
    assert json.loads(other[1])["id"] != made["id"]


@pytest.mark.parametrize(
    "fault",
    [
        "hook_wrong_signature",
        "hook_old_timestamp",
        "hook_future_timestamp",
        "hook_missing_headers",
    ],
)
async def test_faulty_signatures_can_be_sent(
    emulator: Emulator, create: Any, receiver: Receiver, fault: str
) -> None:
    """Forged, outdated, or missing."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
    await create(f"[[emu:{fault}]]", **wanted)

    message = await receiver.next()

    with pytest.raises(WebhookVerificationError):
        verify(emulator, message)


async def test_the_body_may_be_about_another_prediction(
    emulator: Emulator, create: Any, receiver: Receiver
) -> None:
    """With a valid signature."""
    other = (await create()).json()
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
    await create("[[emu:hook_wrong_body]]", **wanted)

    message = await receiver.next()

    assert verify(emulator, message)["id"] == other["id"]


async def test_the_body_may_be_invalid_text(create: Any, receiver: Receiver) -> None:
    """Signatures cover bytes, not characters."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
    await create("[[emu:hook_not_utf8]]", **wanted)

    _, body = await receiver.next()

    with pytest.raises(UnicodeDecodeError):
        body.decode()


@pytest.mark.parametrize(
    ("fault", "messages"),
    [("hook_duplicate=3", 3), ("hook_replay=0", 2), ("hook_delay=0", 1), ("hook_huge=1", 1)],
)
async def test_an_event_may_be_sent_repeatedly(
    create: Any, receiver: Receiver, fault: str, messages: int
) -> None:
    """With the same id, or much later, or very large."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
    await create(f"[[emu:{fault}]]", **wanted)

    ids = {(await receiver.next())[0]["webhook-id"] for _ in range(messages)}

    assert len(ids) == 1


async def test_an_event_may_be_lost(emulator: Emulator, create: Any, receiver: Receiver) -> None:
    """The ledger records that it was never sent."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
    await create("[[emu:hook_drop]]", **wanted)

    await _until(lambda: bool(emulator.ledger.rows("webhook")))

    assert emulator.ledger.rows("webhook")[0]["faults"] == ["hook_drop"]
    assert receiver.inbox.empty()


async def test_the_end_may_arrive_before_the_start(
    standing: Emulator, create: Any, receiver: Receiver
) -> None:
    """The first event sent arrives last."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["start", "completed"]}
    await create("[[emu:hook_reorder]][[emu:predict=1]]", **wanted)
    await create(webhook=receiver.url, webhook_events_filter=["completed"])
    standing.account.clock.advance(0.1)  # even a quick prediction takes some time
    await receiver.next()  # was written after the other's start

    statuses = []
    for _ in range(2):
        standing.account.clock.advance(1)
        statuses.append(json.loads((await receiver.next())[1])["status"])

    assert statuses == ["succeeded", "processing"]


async def test_a_callback_may_overtake_the_response(create: Any, receiver: Receiver) -> None:
    """It arrives before the caller has the prediction's id."""
    wanted = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}

    made = await create("[[emu:hook_early]]", **wanted)

    _, body = receiver.inbox.get_nowait()
    assert json.loads(body)["id"] == made.json()["id"]


async def test_pending_callbacks_survive_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    """The ledger contains the ends that were not reported."""
    path = tmp_path / "ledger.jsonl"
    body: dict[str, Any] = {"version": "a/b", "input": {"prompt": "x"}, "webhook": receiver.url}
    headers = {"authorization": "Bearer t"}
    plan = Plan(queue_seconds=0, predict_seconds=200)
    async with (
        serve(plan, ledger=path) as first,
        httpx2.AsyncClient(headers=headers, timeout=LIMIT) as client,
    ):
        body["webhook_events_filter"] = ["completed"]
        await client.post(f"{first.api_url}/predictions", json=body)

    async with serve(Plan(), ledger=path) as second:
        second.account.clock.advance(200)
        message = await receiver.next()

        assert verify(second, message)["status"] == "succeeded"


async def _until(true: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not true():
            await asyncio.sleep(0.01)
