"""Callbacks of fal: only recent, signed ones are accepted; no set of keys breaks the check."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleek.domain.errors import CallbackRejected, ProviderUnavailable
from fleek.domain.job import PredictionId
from fleek.emulator.server import Emulator
from fleek.providers.fal.callback import KEPT_SECONDS, REFRESH_SECONDS
from fleek.providers.fal.provider import FalProvider
from fleek.providers.http import Answer
from providers.fal.conftest import FixedApi, Ticks, a_job, an_attempt, with_api

BODY = b'{"request_id": "r-1", "gateway_request_id": "g-1", "status": "OK", "payload": {}}'
OURS = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"2" * 32)


def encoded(key: Ed25519PrivateKey) -> str:
    """Return a public key as it is written in a set."""
    return base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()


def key_set(*keys: Any) -> Answer:
    """Return a response with a set of keys."""
    return Answer(200, {}, json.dumps({"keys": keys}).encode())


GOOD = {"kty": "OKP", "crv": "Ed25519", "x": encoded(OURS)}
NEWER = {"kty": "OKP", "crv": "Ed25519", "x": encoded(OTHER)}


def signed(
    body: bytes = BODY,
    *,
    key: Ed25519PrivateKey = OURS,
    age: float = 0,
    named: str = "r-1",
    user: str = "user",
) -> dict[str, str]:
    """Return the headers of a signed message."""
    stamp = str(int(datetime.now(UTC).timestamp() - age))
    message = f"{named}\n{user}\n{stamp}\n{sha256(body).hexdigest()}"
    return {
        "X-Fal-Webhook-Request-Id": named,
        "X-Fal-Webhook-User-Id": user,
        "X-Fal-Webhook-Timestamp": stamp,
        "X-Fal-Webhook-Signature": key.sign(message.encode()).hex(),
    }


@pytest.mark.parametrize("named", ["r-1", "g-1"])
async def test_a_signed_callback_names_the_prediction_of_its_attempt(named: str) -> None:
    """The model is that of the attempt, as the message does not name it."""
    provider = with_api(FixedApi([key_set(GOOD)]))

    accepted = await provider.callback(signed(named=named), BODY)
    whole = provider.named_in_callback(an_attempt(a_job()), accepted.prediction.id)

    assert (accepted.prediction.id, accepted.prediction.outcome) == ("r-1", None)
    assert whole == PredictionId("fal-ai/flux/requests/r-1")


async def test_an_invalid_callback_is_refused(subtests: pytest.Subtests) -> None:
    """No other error is possible: anyone can send one."""
    provider = with_api(FixedApi([key_set(GOOD)]))
    cases: dict[str, tuple[Mapping[str, str], bytes]] = {
        "no headers": ({}, BODY),
        "another key": (signed(key=OTHER), BODY),
        "another body": (signed(), BODY + b" "),
        "another request": (signed(named="r-2"), BODY),
        "old": (signed(age=360), BODY),
        "from the future": (signed(age=-360), BODY),
        "not JSON": (signed(b"\xff"), b"\xff"),
        "a list": (signed(b"[]"), b"[]"),
        "no id": (signed(b"{}"), b"{}"),
        "a path": (signed(b'{"request_id": "../x"}', named="../x"), b'{"request_id": "../x"}'),
    }
    for name in signed():
        for value in ("", "é", "x" * 300, "-1", "²", str(2**63), "0" * 127, "a\nb"):
            cases[f"{name} {value[:9]}"] = ({**signed(), name: value}, BODY)
    for case, (headers, body) in cases.items():
        with subtests.test(case=case), pytest.raises(CallbackRejected):
            await provider.callback(headers, body)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, {}, b""),
        Answer(200, {}, b"<html>"),
        Answer(200, {}, b"[]"),
        Answer(200, {}, b'{"keys": 7}'),
        key_set(),
        key_set(None, 7, [], {"x": None}, {"x": "é"}, {"x": "AAAA"}, {"x": "%%"}),
        key_set({**GOOD, "crv": "X25519"}, {**GOOD, "use": "enc"}),
        key_set(*[NEWER] * 16, GOOD),
    ],
    ids=["503", "page", "list", "number", "empty", "unusable", "other", "too many"],
)
async def test_an_unusable_set_of_keys_accepts_nothing(answer: Answer) -> None:
    """It is sent again, unless it is certainly wrong."""
    provider = with_api(FixedApi([answer]))

    with pytest.raises((ProviderUnavailable, CallbackRejected)):
        await provider.callback(signed(), BODY)


async def test_new_keys_are_read_seldom_and_replace_the_old_ones(ticks: Ticks) -> None:
    """Forged callbacks must not make us read them each time; an unusable set changes nothing."""
    api = FixedApi([key_set(GOOD), Answer(200, {}, b"<html>"), key_set({"x": "?"}, NEWER)])
    provider = with_api(api, clock=ticks)
    await asyncio.gather(*(provider.callback(signed(), BODY) for _ in range(9)))
    for _ in range(9):
        with pytest.raises(CallbackRejected):
            await provider.callback(signed(key=OTHER), BODY)
    assert len(api.calls) == 1

    ticks.seconds += REFRESH_SECONDS
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(key=OTHER), BODY)
    await provider.callback(signed(), BODY)
    ticks.seconds += REFRESH_SECONDS
    await provider.callback(signed(key=OTHER), BODY)

    assert len(api.calls) == 3
    with pytest.raises(CallbackRejected):
        await provider.callback(signed(), BODY)


async def test_keys_are_read_again_after_a_day(ticks: Ticks) -> None:
    """A key that was withdrawn is not accepted for ever."""
    provider = with_api(FixedApi([key_set(GOOD), key_set(NEWER)]), clock=ticks)
    await provider.callback(signed(), BODY)

    ticks.seconds += KEPT_SECONDS + 1

    with pytest.raises(CallbackRejected):
        await provider.callback(signed(), BODY)


async def test_a_large_set_of_keys_is_not_read(provider: FalProvider, emulator: Emulator) -> None:
    """Its size is limited, and so is the time."""
    emulator.replan(rates={"model_5xx": 1.0})

    with pytest.raises(ProviderUnavailable):
        await provider.callback(signed(), BODY)
