"""Messages from Replicate: only what it signed, lately, is taken; nothing breaks the check."""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from fleek.domain.attempt import Attempt
from fleek.domain.errors import CallbackRejected, ProviderUnavailable
from fleek.domain.job import Job
from fleek.domain.media import Output
from fleek.emulator.server import Emulator
from fleek.providers.base import Succeeded
from fleek.providers.replicate.callback import REFRESH_SECONDS, read_secret
from fleek.providers.replicate.provider import ReplicateProvider
from listening import listening

BODY = b'{"id": "abc", "status": "succeeded", "output": "https://replicate.delivery/x.png"}'
OTHER = "whsec_" + base64.b64encode(b"another secret").decode()


def signed(
    secret: str, body: bytes = BODY, *, age: float = 0, webhook_id: str = "msg_1"
) -> dict[str, str]:
    """Return the headers of a message, signed by an implementation that is not ours."""
    at = datetime.fromtimestamp(datetime.now(UTC).timestamp() - age, UTC)
    signature = Webhook(secret).sign(webhook_id, at, body.decode())
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }


@pytest.fixture
def secret(emulator: Emulator) -> str:
    """Return the account's secret."""
    return emulator.account.secret


async def test_a_signed_message_is_read(provider: ReplicateProvider, secret: str) -> None:
    """Headers come in any case."""
    headers = {name.title(): value for name, value in signed(secret).items()}

    told = await provider.callback(headers, BODY)

    assert told.webhook_id == "msg_1"
    assert told.prediction.id == "abc"
    assert isinstance(told.prediction.outcome, Succeeded)


@pytest.mark.parametrize("age", [-290, 0, 240])
async def test_clocks_may_differ_by_minutes(
    provider: ReplicateProvider, secret: str, age: float
) -> None:
    """Both ways."""
    told = await provider.callback(signed(secret, age=age), BODY)

    assert told.prediction.id == "abc"


async def test_a_message_with_odd_headers_is_refused(
    provider: ReplicateProvider, secret: str, subtests: pytest.Subtests
) -> None:
    """Never with any other error: the sender is whoever likes to be."""
    cases: list[dict[str, Any]] = [
        {"webhook-id": None},
        {"webhook-timestamp": None},
        {"webhook-signature": None},
        {"webhook-id": ""},
        {"webhook-id": "msg_2"},
        {"webhook-id": "é"},
        {"webhook-id": "x" * 1000},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "abc"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "-5"},
        {"webhook-timestamp": str(2**63)},
        {"webhook-timestamp": "²"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "v1,abc"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "é"},
        {"webhook-signature": "v1,AAAA" + " v1,AAAA" * 500},
        {"webhook-signature": "," * 5000},
    ]
    for change in cases:
        with subtests.test(change=str(change)[:40]):
            headers: dict[str, Any] = {**signed(secret), **change}
            headers = {name: value for name, value in headers.items() if value is not None}

            with pytest.raises(CallbackRejected):
                await provider.callback(headers, BODY)


@pytest.mark.parametrize("age", [360, -360, 86_400], ids=["old", "from the future", "yesterday's"])
async def test_a_message_of_another_time_is_refused(
    provider: ReplicateProvider, secret: str, age: float
) -> None:
    """Who recorded one may send it again, but not for long."""
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret, age=age), BODY)


async def test_a_time_with_decimals_is_refused(provider: ReplicateProvider, secret: str) -> None:
    """The specification has whole seconds; each spelling would be one more message to replay."""
    headers = signed(secret)
    headers["webhook-timestamp"] += ".0"

    with pytest.raises(CallbackRejected, match="webhook-timestamp"):
        await provider.callback(headers, BODY)


async def test_another_version_of_signatures_is_not_believed(
    provider: ReplicateProvider, secret: str
) -> None:
    """The same bytes under another name prove nothing."""
    headers = signed(secret)
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")

    with pytest.raises(CallbackRejected):
        await provider.callback(headers, BODY)


async def test_another_body_is_refused(provider: ReplicateProvider, secret: str) -> None:
    """The signature is over the very bytes."""
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret), BODY + b" ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"<html>",
        b'{"id": 7}',
        b'{"id": "../x"}',
        b'{"status": "succeeded"}',
        b"[" * 100_000,
        b'{"id": "abc", "x": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_signed_body_that_makes_no_sense_is_refused(
    provider: ReplicateProvider, secret: str, body: bytes
) -> None:
    """Even Replicate may send what nobody understands."""
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret, body), body)


async def test_logs_of_any_length_do_not_hide_what_a_message_says(
    provider: ReplicateProvider, secret: str
) -> None:
    """A model may print megabytes."""
    told = {"logs": "a line\n" * 200_000, "id": "abc", "status": "succeeded", "output": "words"}
    body = json.dumps(told).encode()

    callback = await provider.callback(signed(secret, body), body)

    assert callback.prediction.outcome == Succeeded((Output(text="words"),))


async def test_signed_bytes_that_are_no_text_are_refused(
    shop: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """A signature does not make them JSON."""
    headers, body = await _received(shop, job, attempt, "[[emu:hook_not_utf8]]")

    with pytest.raises(CallbackRejected):
        await shop.open().callback(headers, body)


async def test_what_the_emulator_sends_is_taken(
    shop: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The signature comes from another hand than ours, over a socket."""
    headers, body = await _received(shop, job, attempt, "a cat")

    told = await shop.open().callback(headers, body)

    assert told.prediction.id == emulator.account.predictions[0].id


async def test_one_good_signature_among_several_is_enough(
    provider: ReplicateProvider, secret: str
) -> None:
    """While a secret is changed, messages carry one of each."""
    headers = signed(secret)
    foreign = signed(OTHER)["webhook-signature"]
    headers["webhook-signature"] = f"{foreign} {headers['webhook-signature']}"

    told = await provider.callback(headers, BODY)

    assert told.prediction.id == "abc"


async def test_the_operators_own_secrets_are_used_alone(
    shop: Any, emulator: Emulator, secret: str
) -> None:
    """Nothing but the time is asked of Replicate then."""
    provider = shop.open(keys=(read_secret(OTHER), read_secret("whsec_c2Vjb25k")))

    told = await provider.callback(signed(OTHER), BODY)
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret), BODY)

    assert told.prediction.id == "abc"
    assert [row["path"] for row in emulator.ledger.rows("request")] == ["/v1/account"]


async def test_a_changed_secret_is_learnt_and_the_old_one_still_taken(
    shop: Any, emulator: Emulator, secret: str, ticks: Any
) -> None:
    """Messages signed just before the change are still on their way."""
    provider = shop.open(clock=ticks)
    await provider.callback(signed(secret), BODY)
    emulator.replan(seed=99)
    ticks.seconds += REFRESH_SECONDS

    told = [
        await provider.callback(signed(one), BODY) for one in (emulator.account.secret, secret)
    ]

    assert emulator.account.secret != secret
    assert [one.prediction.id for one in told] == ["abc", "abc"]


async def test_forged_messages_do_not_make_us_ask_each_time(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """Otherwise anybody could use up the account's budget."""
    for _ in range(20):
        with pytest.raises(CallbackRejected):
            await provider.callback(signed(OTHER), BODY)

    assert len(emulator.ledger.rows("request")) == 1


async def test_many_first_messages_ask_once(
    provider: ReplicateProvider, emulator: Emulator, secret: str
) -> None:
    """They come in bursts."""
    await asyncio.gather(*(provider.callback(signed(secret), BODY) for _ in range(20)))

    assert len(emulator.ledger.rows("request")) == 1


async def test_without_a_secret_the_message_must_come_again(shop: Any) -> None:
    """It is not known whether it is genuine."""
    provider = shop.open("http://127.0.0.1:1/v1")

    with pytest.raises(ProviderUnavailable):
        await provider.callback(signed(OTHER), BODY)


async def test_a_secret_that_makes_no_sense_is_none(shop: Any, raw: Any) -> None:
    """An empty one would let anybody sign."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"key": "whsec_" }')
        await reader.read()

    provider = shop.open(await raw(answer))

    with pytest.raises(ProviderUnavailable):
        await provider.callback(signed(OTHER), BODY)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_%%%", "whsec_é"])
def test_a_secret_that_is_none_is_refused(text: str) -> None:
    """An empty key would sign anything."""
    with pytest.raises(ValueError, match="must"):
        read_secret(text)


async def _received(
    shop: Any, job: Any, attempt: Any, prompt: str
) -> tuple[dict[str, str], bytes]:
    """Buy with a callback, and return the message that comes."""
    came: asyncio.Future[tuple[dict[str, str], bytes]] = asyncio.Future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if not came.done():
            came.set_result((headers, body))

    async with listening(receive) as url:
        provider = shop.open(callback_base=f"{url}/{secrets.token_hex(4)}")
        wanted = job(prompt)
        await provider.start(wanted, attempt(wanted))
        async with asyncio.timeout(60):
            return await came


@pytest.mark.parametrize("keys", [True, False], ids=["own secret", "asked secret"])
@pytest.mark.parametrize("ours", [-86_400, -3600, -600, 600, 3600, 86_400])
async def test_a_wrong_clock_of_ours_costs_no_message(
    shop: Any, secret: str, ours: float, *, keys: bool
) -> None:
    """Messages are dated by the provider's clock; what is old by that is a replay."""
    known = (read_secret(secret),) if keys else ()
    provider = shop.open(now=lambda: datetime.now(UTC) + timedelta(seconds=ours), keys=known)

    told = await provider.callback(signed(secret), BODY)

    assert told.prediction.id == "abc"
    for age in (ours * 2, -ours, 400 if ours > 0 else -400):
        with pytest.raises(CallbackRejected):
            await provider.callback(signed(secret, age=age), BODY)


async def test_our_clock_dates_messages_while_the_provider_is_away(shop: Any) -> None:
    """Nothing else is left; the operator's own secret is."""
    provider = shop.open("http://127.0.0.1:1/v1", keys=(read_secret(OTHER),))

    told = await provider.callback(signed(OTHER), BODY)

    assert told.prediction.id == "abc"
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(OTHER, age=400), BODY)
