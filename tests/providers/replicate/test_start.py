"""A purchase: what is sent, and what every failure of it means for the money."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import Job
from fleek.emulator.server import Emulator
from fleek.providers.replicate.provider import ReplicateProvider

VERSION = "0123456789abcdef" * 4


def requests(emulator: Emulator) -> list[str]:
    """Return what the emulator was asked for."""
    return [f"{row['method']} {row['path']}" for row in emulator.ledger.rows("request")]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (
            "black-forest-labs/flux-schnell",
            "/v1/models/black-forest-labs/flux-schnell/predictions",
        ),
        (f"some/body:{VERSION}", "/v1/predictions"),
        (VERSION, "/v1/predictions"),
        ("my/own:deployment", "/v1/deployments/my/own/predictions"),
    ],
    ids=["official", "version", "bare version", "deployment"],
)
async def test_each_kind_of_model_is_bought_where_it_is_sold(
    *,
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    model: str,
    path: str,
) -> None:
    """The kind is told by the name alone, and one request buys."""
    wanted = job(model=model)

    bought = await provider.start(wanted, attempt(wanted))

    assert requests(emulator) == [f"POST {path}"]
    assert [one.id for one in emulator.account.predictions] == [bought.id]


async def test_what_is_sent(
    shop: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The prompt among the parameters, the callback with the nonce, the limit of the attempt."""
    provider = shop.open(callback_base="https://fleek.example/webhooks/replicate")
    wanted = job("a dog", seed=7)
    intent = attempt(wanted, timeout=90.5)

    await provider.start(wanted, intent)

    sold = emulator.account.predictions[0]
    assert sold.input == {"prompt": "a dog", "seed": 7}
    assert sold.webhook == f"https://fleek.example/webhooks/replicate/{intent.id}.{intent.nonce}"
    assert sold.events == ("start", "completed")
    assert sold.deadline is not None
    assert round(sold.deadline - sold.created) == 91


async def test_no_callback_is_asked_for_without_an_address(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Polling alone must do then."""
    wanted = job()

    await provider.start(wanted, attempt(wanted, timeout=0.1))

    assert emulator.account.predictions[0].webhook is None


@pytest.mark.parametrize(
    ("fault", "error", "code", "sold"),
    [
        ("create_422", ProviderRejected, "provider_invalid_input", 0),
        ("create_401", ProviderUnavailable, "provider_unauthorized", 0),
        ("create_402", ProviderUnavailable, "provider_payment_required", 0),
        ("create_429=7", ProviderUnavailable, "provider_rate_limited", 0),
        ("create_5xx=500", OutcomeUnknown, "provider_outcome_unknown", 0),
        ("create_5xx=503", OutcomeUnknown, "provider_outcome_unknown", 0),
        ("create_5xx=408", OutcomeUnknown, "provider_outcome_unknown", 0),
        ("create_redirect", OutcomeUnknown, "provider_outcome_unknown", 0),
        ("create_reset", OutcomeUnknown, "provider_outcome_unknown", 0),
        ("create_drop", OutcomeUnknown, "provider_outcome_unknown", 0),
        ("create_then_drop", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_then_reset", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_then_5xx=504", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_cut_headers", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_cut_body", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_truncated", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_invalid", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_html", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_empty", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_gzip_bomb", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_odd_id=path", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_odd_id=long", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_odd_id=empty", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_odd_id=number", OutcomeUnknown, "provider_outcome_unknown", 1),
        ("create_odd_id=space", OutcomeUnknown, "provider_outcome_unknown", 1),
    ],
)
async def test_a_failed_purchase_is_told_apart_by_what_it_may_have_cost(
    *,
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    fault: str,
    error: type[Exception],
    code: str,
    sold: int,
) -> None:
    """Not bought, or perhaps bought: never guessed, and never asked a second time."""
    wanted = job(f"[[emu:{fault}]]")

    with pytest.raises(error) as caught:
        await provider.start(wanted, attempt(wanted))

    assert getattr(caught.value, "code", None) == code
    assert emulator.totals()["predictions"] == sold
    assert len(requests(emulator)) == 1


@pytest.mark.parametrize("fault", ["create_then_timeout", "create_then_delay=30", "create_hang"])
async def test_silence_after_the_request_is_unknown(
    shop: Any,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    fault: str,
) -> None:
    """The money may be spent; waiting longer does not tell."""
    provider = shop.open(read=0.1)
    wanted = job(f"[[emu:{fault}]]")

    with pytest.raises(OutcomeUnknown):
        await provider.start(wanted, attempt(wanted))

    async with asyncio.timeout(30):  # it may read the request after we have given it up
        while len(emulator.account.predictions) < ("then" in fault):
            await asyncio.sleep(0.01)
    assert len(emulator.account.predictions) == ("then" in fault)


async def test_an_answer_that_trickles_is_unknown(
    shop: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Each byte comes in time, the whole does not."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    provider = shop.open(await raw(trickle), whole=0.2)
    wanted = job()

    with pytest.raises(OutcomeUnknown):
        await provider.start(wanted, attempt(wanted))


async def test_a_200_is_as_good_as_a_201(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """What counts is that the answer names the prediction."""
    wanted = job("[[emu:create_200]]")

    bought = await provider.start(wanted, attempt(wanted))

    assert bought.id == emulator.account.predictions[0].id


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nobody_there_is_not_bought(
    shop: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt], scheme: str
) -> None:
    """A refused connection, or one that is not TLS: no byte of the request was sent."""
    heard: list[bytes] = []

    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(5))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    address = await raw(speak_plainly)
    closed = "http://127.0.0.1:1/v1"
    provider = shop.open(address.replace("http", "https") if scheme == "https" else closed)
    wanted = job()

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert caught.value.code == "provider_unreachable"
    assert not any(b"POST" in part for part in heard)


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        ("7", 7, 7),
        ("date", 1, 3),
        ("garbage", 30, 30),  # the emulator's ratelimit-reset
        ("none", 30, 30),
        ("-5", 10, 10),
        ("0", 1, 10),
        ("999999999", 600, 600),
    ],
)
async def test_how_long_to_wait_after_429(
    *,
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    told: str,
    least: int,
    most: int,
) -> None:
    """Whatever it says, the wait is a sane one."""
    wanted = job(f"[[emu:create_429={told}]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert caught.value.retry_after is not None
    assert timedelta(seconds=least) <= caught.value.retry_after <= timedelta(seconds=most)


async def test_402_asks_for_a_long_pause(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Somebody has to pay first; asking every second helps nobody."""
    wanted = job("[[emu:create_402]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert caught.value.retry_after == timedelta(minutes=5)


@pytest.mark.parametrize("model", ["a/b/c", "../x", "a/b:latest", "just-a-name"])
async def test_a_name_that_cannot_be_sold_is_refused_before_anything_is_sent(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    model: str,
) -> None:
    """It would become part of a path."""
    wanted = job(model=model)

    with pytest.raises(ProviderRejected):
        await provider.start(wanted, attempt(wanted))

    assert requests(emulator) == []


async def test_input_that_has_no_json_form_is_refused_before_anything_is_sent(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Otherwise it would look like a purchase that may have been made."""
    wanted = job(scale=float("nan"))

    with pytest.raises(ProviderRejected):
        await provider.start(wanted, attempt(wanted))

    assert requests(emulator) == []


async def test_the_token_is_in_no_error(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Errors are stored with the job and shown to its owner."""
    wanted = job("[[emu:create_401]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert "r8_test" not in str(caught.value)
