"""Callbacks of Replicate: only recent, signed ones are accepted; no input breaks the check."""

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
    """Return the headers of a message that an independent implementation has signed."""
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


async def test_a_signed_callback_is_accepted(provider: ReplicateProvider, secret: str) -> None:
    """Header names may have any case."""
    headers = {name.title(): value for name, value in signed(secret).items()}

    accepted = await provider.callback(headers, BODY)

    assert accepted.webhook_id == "msg_1"
    assert accepted.prediction.id == "abc"
    assert isinstance(accepted.prediction.outcome, Succeeded)


@pytest.mark.parametrize("age", [-290, 0, 240])
async def test_clocks_may_differ_by_minutes(
    provider: ReplicateProvider, secret: str, age: float
) -> None:
    """In both directions."""
    accepted = await provider.callback(signed(secret, age=age), BODY)

    assert accepted.prediction.id == "abc"


async def test_a_callback_with_invalid_headers_is_refused(
    provider: ReplicateProvider, secret: str, subtests: pytest.Subtests
) -> None:
    """No other error is possible: anyone can send one."""
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
async def test_an_old_or_future_callback_is_refused(
    provider: ReplicateProvider, secret: str, age: float
) -> None:
    """A recorded message can be replayed for a few minutes only."""
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret, age=age), BODY)


async def test_a_fractional_timestamp_is_refused(provider: ReplicateProvider, secret: str) -> None:
    """The specification has whole seconds; each spelling could be replayed as a new message."""
    headers = signed(secret)
    headers["webhook-timestamp"] += ".0"

    with pytest.raises(CallbackRejected, match="webhook-timestamp"):
        await provider.callback(headers, BODY)


async def test_a_signature_of_another_version_is_refused(
    provider: ReplicateProvider, secret: str
) -> None:
    """Only the version `v1` is known."""
    headers = signed(secret)
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")

    with pytest.raises(CallbackRejected):
        await provider.callback(headers, BODY)


async def test_a_changed_body_is_refused(provider: ReplicateProvider, secret: str) -> None:
    """The signature covers the exact bytes."""
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
async def test_a_signed_but_invalid_body_is_refused(
    provider: ReplicateProvider, secret: str, body: bytes
) -> None:
    """Even Replicate may send unexpected content."""
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret, body), body)


async def test_a_callback_with_long_logs_is_accepted(
    provider: ReplicateProvider, secret: str
) -> None:
    """A model may print megabytes."""
    content = {"logs": "a line\n" * 200_000, "id": "abc", "status": "succeeded", "output": "words"}
    body = json.dumps(content).encode()

    callback = await provider.callback(signed(secret, body), body)

    assert callback.prediction.outcome == Succeeded((Output(text="words"),))


async def test_signed_bytes_that_are_not_text_are_refused(
    factory: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """A signature does not make them JSON."""
    headers, body = await _received(factory, job, attempt, "[[emu:hook_not_utf8]]")

    with pytest.raises(CallbackRejected):
        await factory.open().callback(headers, body)


async def test_a_callback_of_the_emulator_is_accepted(
    factory: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """It is signed by an independent implementation and sent over a socket."""
    headers, body = await _received(factory, job, attempt, "a cat")

    accepted = await factory.open().callback(headers, body)

    assert accepted.prediction.id == emulator.account.predictions[0].id


async def test_one_valid_signature_of_several_is_enough(
    provider: ReplicateProvider, secret: str
) -> None:
    """During a change of the secret, messages have two."""
    headers = signed(secret)
    foreign = signed(OTHER)["webhook-signature"]
    headers["webhook-signature"] = f"{foreign} {headers['webhook-signature']}"

    accepted = await provider.callback(headers, BODY)

    assert accepted.prediction.id == "abc"


async def test_configured_secrets_replace_the_account_s(
    factory: Any, emulator: Emulator, secret: str
) -> None:
    """Replicate is then asked only for the time."""
    provider = factory.open(keys=(read_secret(OTHER), read_secret("whsec_c2Vjb25k")))

    accepted = await provider.callback(signed(OTHER), BODY)
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(secret), BODY)

    assert accepted.prediction.id == "abc"
    assert [row["path"] for row in emulator.ledger.rows("request")] == ["/v1/account"]


async def test_a_changed_secret_is_fetched_and_the_old_one_still_accepted(
    factory: Any, emulator: Emulator, secret: str, ticks: Any
) -> None:
    """Messages signed before the change may still arrive."""
    provider = factory.open(clock=ticks)
    await provider.callback(signed(secret), BODY)
    emulator.replan(seed=99)
    ticks.seconds += REFRESH_SECONDS

    accepted = [
        await provider.callback(signed(one), BODY) for one in (emulator.account.secret, secret)
    ]

    assert emulator.account.secret != secret
    assert [one.prediction.id for one in accepted] == ["abc", "abc"]


async def test_forged_callbacks_do_not_cause_requests(
    provider: ReplicateProvider, emulator: Emulator
) -> None:
    """Otherwise anyone could use up the account's rate limit."""
    for _ in range(20):
        with pytest.raises(CallbackRejected):
            await provider.callback(signed(OTHER), BODY)

    assert len(emulator.ledger.rows("request")) == 1


async def test_concurrent_first_callbacks_fetch_the_secret_once(
    provider: ReplicateProvider, emulator: Emulator, secret: str
) -> None:
    """Callbacks arrive in bursts."""
    await asyncio.gather(*(provider.callback(signed(secret), BODY) for _ in range(20)))

    assert len(emulator.ledger.rows("request")) == 1


async def test_without_the_secret_a_callback_is_retryable(factory: Any) -> None:
    """It cannot be verified yet."""
    provider = factory.open("http://127.0.0.1:1/v1")

    with pytest.raises(ProviderUnavailable):
        await provider.callback(signed(OTHER), BODY)


async def test_an_invalid_secret_of_the_account_is_not_used(factory: Any, raw: Any) -> None:
    """With an empty one anyone could sign."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"key": "whsec_" }')
        await reader.read()

    provider = factory.open(await raw(answer))

    with pytest.raises(ProviderUnavailable):
        await provider.callback(signed(OTHER), BODY)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_%%%", "whsec_é"])
def test_an_invalid_configured_secret_is_refused(text: str) -> None:
    """With an empty one anyone could sign."""
    with pytest.raises(ValueError, match="must"):
        read_secret(text)


async def _received(
    factory: Any, job: Any, attempt: Any, prompt: str
) -> tuple[dict[str, str], bytes]:
    """Start a prediction with a callback, and return the received message."""
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
        provider = factory.open(callback_base=f"{url}/{secrets.token_hex(4)}")
        wanted = job(prompt)
        await provider.start(wanted, attempt(wanted))
        async with asyncio.timeout(60):
            return await came


@pytest.mark.parametrize("keys", [True, False], ids=["own secret", "account's secret"])
@pytest.mark.parametrize("ours", [-86_400, -3600, -600, 600, 3600, 86_400])
async def test_a_wrong_local_clock_accepts_genuine_callbacks(
    factory: Any, secret: str, ours: float, *, keys: bool
) -> None:
    """Messages are dated by the provider's clock; an old one is a replay."""
    known = (read_secret(secret),) if keys else ()
    provider = factory.open(now=lambda: datetime.now(UTC) + timedelta(seconds=ours), keys=known)

    accepted = await provider.callback(signed(secret), BODY)

    assert accepted.prediction.id == "abc"
    for age in (ours * 2, -ours, 400 if ours > 0 else -400):
        with pytest.raises(CallbackRejected):
            await provider.callback(signed(secret, age=age), BODY)


async def test_the_local_clock_is_used_while_the_provider_is_unreachable(factory: Any) -> None:
    """The configured secret is enough to verify."""
    provider = factory.open("http://127.0.0.1:1/v1", keys=(read_secret(OTHER),))

    accepted = await provider.callback(signed(OTHER), BODY)

    assert accepted.prediction.id == "abc"
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(OTHER, age=400), BODY)
