"""Starting predictions: requests, and what each failure means."""

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
    """Return the requests that the emulator has received."""
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
async def test_each_kind_of_model_has_its_endpoint(
    *,
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    model: str,
    path: str,
) -> None:
    """The name decides, and one request is sent."""
    wanted = job(model=model)

    created = await provider.start(wanted, attempt(wanted))

    assert requests(emulator) == [f"POST {path}"]
    assert [one.id for one in emulator.account.predictions] == [created.id]


async def test_the_request_has_input_callback_and_deadline(
    factory: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The prompt among the parameters, the callback with the nonce, the attempt's time limit."""
    provider = factory.open(callback_base="https://fleek.example/webhooks/replicate")
    wanted = job("a dog", seed=7)
    intent = attempt(wanted, timeout=90.5)

    await provider.start(wanted, intent)

    recorded = emulator.account.predictions[0]
    assert recorded.input == {"prompt": "a dog", "seed": 7}
    assert (
        recorded.webhook == f"https://fleek.example/webhooks/replicate/{intent.id}.{intent.nonce}"
    )
    assert recorded.events == ("start", "completed")
    assert recorded.deadline is not None
    assert round(recorded.deadline - recorded.created) == 91


async def test_without_an_address_no_callback_is_requested(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Polling is enough."""
    wanted = job()

    await provider.start(wanted, attempt(wanted, timeout=0.1))

    assert emulator.account.predictions[0].webhook is None


@pytest.mark.parametrize(
    ("fault", "error", "code", "recorded"),
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
async def test_each_failed_start_is_refused_or_an_unknown_outcome(
    *,
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    fault: str,
    error: type[Exception],
    code: str,
    recorded: int,
) -> None:
    """The distinction is certain, and the request is never repeated."""
    wanted = job(f"[[emu:{fault}]]")

    with pytest.raises(error) as caught:
        await provider.start(wanted, attempt(wanted))

    assert getattr(caught.value, "code", None) == code
    assert emulator.totals()["predictions"] == recorded
    assert len(requests(emulator)) == 1


@pytest.mark.parametrize("fault", ["create_then_timeout", "create_then_delay=30", "create_hang"])
async def test_a_timeout_after_the_request_is_an_unknown_outcome(
    factory: Any,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    fault: str,
) -> None:
    """The prediction may exist and be paid for."""
    provider = factory.open(read=0.1)
    wanted = job(f"[[emu:{fault}]]")

    with pytest.raises(OutcomeUnknown):
        await provider.start(wanted, attempt(wanted))

    async with asyncio.timeout(30):  # it may read the request after the timeout
        while len(emulator.account.predictions) < ("then" in fault):
            await asyncio.sleep(0.01)
    assert len(emulator.account.predictions) == ("then" in fault)


async def test_a_trickling_response_is_an_unknown_outcome(
    factory: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Each byte arrives in time, the whole does not."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    provider = factory.open(await raw(trickle), whole=0.2)
    wanted = job()

    with pytest.raises(OutcomeUnknown):
        await provider.start(wanted, attempt(wanted))


async def test_a_200_response_counts_as_created(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """The response has the prediction's id."""
    wanted = job("[[emu:create_200]]")

    created = await provider.start(wanted, attempt(wanted))

    assert created.id == emulator.account.predictions[0].id


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_connection_refused_means_not_created(
    factory: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt], scheme: str
) -> None:
    """Neither does a failed TLS handshake: no byte of the request was sent."""
    received: list[bytes] = []

    async def reply_without_tls(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        received.append(await reader.read(5))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    address = await raw(reply_without_tls)
    closed = "http://127.0.0.1:1/v1"
    provider = factory.open(address.replace("http", "https") if scheme == "https" else closed)
    wanted = job()

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert caught.value.code == "provider_unreachable"
    assert not any(b"POST" in part for part in received)


@pytest.mark.parametrize(
    ("given", "least", "most"),
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
async def test_the_wait_after_429_is_limited(
    *,
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    given: str,
    least: int,
    most: int,
) -> None:
    """Whatever the headers are."""
    wanted = job(f"[[emu:create_429={given}]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert caught.value.retry_after is not None
    assert timedelta(seconds=least) <= caught.value.retry_after <= timedelta(seconds=most)


async def test_a_402_response_gives_a_long_pause(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Someone must pay first."""
    wanted = job("[[emu:create_402]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert caught.value.retry_after == timedelta(minutes=5)


@pytest.mark.parametrize("model", ["a/b/c", "../x", "a/b:latest", "just-a-name"])
async def test_an_invalid_model_name_is_refused_and_not_sent(
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


async def test_input_without_a_json_form_is_refused_and_not_sent(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Otherwise it would look like an unknown outcome."""
    wanted = job(scale=float("nan"))

    with pytest.raises(ProviderRejected):
        await provider.start(wanted, attempt(wanted))

    assert requests(emulator) == []


async def test_errors_do_not_contain_the_token(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """They are stored with the job and shown to its owner."""
    wanted = job("[[emu:create_401]]")

    with pytest.raises(ProviderUnavailable) as caught:
        await provider.start(wanted, attempt(wanted))

    assert "r8_test" not in str(caught.value)
