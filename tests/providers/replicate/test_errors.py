"""Statuses and headers in our words, where the emulator has no fault for them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest

from fleek.domain.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.text import one_line
from fleek.outbound.client import NotSent, ResponseLost
from fleek.providers.http import (
    Answer,
    Unreadable,
    creation_errors,
    raise_for_create,
    raise_for_read,
    read_errors,
    retry_after,
)

HOST = "the host"


def an_answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Return an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_success_raises_nothing(status: int) -> None:
    """Any 2xx will do."""
    raise_for_create(an_answer(status), HOST)
    raise_for_read(an_answer(status), HOST)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "provider_bad_request"),
        (403, "provider_forbidden"),
        (404, "provider_model_not_found"),
        (405, "provider_rejected"),
        (409, "provider_rejected"),
        (413, "provider_too_large"),
        (418, "provider_rejected"),
        (422, "provider_invalid_input"),
        (451, "provider_rejected"),
    ],
)
def test_refused_for_good(status: int, code: str) -> None:
    """Nothing was bought, and the words of the host say why."""
    body = b'{"title": "Oh", "detail": "- input.x: \\n must\\u0000 be y"}'

    with pytest.raises(ProviderRejected, match=r"- input\.x: must be y") as caught:
        raise_for_create(an_answer(status, body), HOST)

    assert caught.value.code == code


@pytest.mark.parametrize("status", [300, 301, 304, 307, 408, 500, 502, 503, 504, 520, 599])
def test_perhaps_bought(status: int) -> None:
    """Whatever stands between us and the host may have said this after the sale."""
    with pytest.raises(OutcomeUnknown):
        raise_for_create(an_answer(status), HOST)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 409, 500, 503])
def test_a_question_may_always_be_asked_again(status: int) -> None:
    """Nothing is lost by it."""
    with pytest.raises(ProviderUnavailable):
        raise_for_read(an_answer(status), HOST)


@pytest.mark.parametrize("check", [raise_for_create, raise_for_read])
def test_no_credit_parks_the_account(check: object) -> None:
    """Whichever call hears of it first."""
    assert callable(check)

    with pytest.raises(ProviderUnavailable) as caught:
        check(an_answer(402, b'{"detail": "Insufficient credit"}'), HOST)

    assert caught.value.code == "provider_payment_required"
    assert caught.value.retry_after == timedelta(minutes=5)


@pytest.mark.parametrize("check", [raise_for_create, raise_for_read])
def test_a_refused_token_parks_the_account(check: object) -> None:
    """It says nothing about the job: a revoked token must not end a whole queue."""
    assert callable(check)

    with pytest.raises(ProviderUnavailable, match="not accept the token") as caught:
        check(an_answer(401, b'{"title": "Unauthenticated"}'), HOST)

    assert caught.value.code == "provider_unauthorized"
    assert caught.value.retry_after == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (an_answer(429), 10),
        (an_answer(429, retry_after="30"), 30),
        (an_answer(429, retry_after=" 1.5 "), 1.5),
        (an_answer(429, retry_after="0"), 10),
        (an_answer(429, retry_after="-3"), 10),
        (an_answer(429, retry_after="1e9"), 10),
        (an_answer(429, retry_after="9" * 30), 10),
        (an_answer(429, retry_after="3600"), 600),
        (an_answer(429, retry_after="soon", ratelimit_reset="20"), 20),
        (an_answer(429, b"Your rate limit resets in ~30s.", retry_after="soon"), 30),
        (an_answer(429, b"Expected available in 1 second."), 1),
        (an_answer(429, b"\xff\xfe"), 10),
        (
            an_answer(
                429,
                retry_after="Fri, 31 Dec 1999 23:59:59 GMT",
                date="Fri, 31 Dec 1999 23:59:00 GMT",
            ),
            59,
        ),
        (an_answer(429, retry_after="Fri, 31 Dec 1999 23:59:59 GMT"), 10),
        (an_answer(429, retry_after="Fri, 99 Dec 1999 99:59:59 GMT"), 10),
    ],
)
def test_how_long_to_wait(answer: Answer, seconds: float) -> None:
    """Between a second and ten minutes, whatever is said."""
    assert retry_after(answer) == timedelta(seconds=seconds)


@pytest.mark.parametrize("translated", [creation_errors, read_errors])
def test_before_a_byte_was_sent(translated: Callable[[str], AbstractContextManager[None]]) -> None:
    """No money can have been spent; the message has no password of an address."""
    with pytest.raises(ProviderUnavailable) as caught, translated(HOST):
        raise NotSent("no way to http://me:secret@proxy/")

    assert str(caught.value).startswith("the host cannot be reached: no way to")
    assert "secret" not in str(caught.value)
    assert caught.value.code == "provider_unreachable"


@pytest.mark.parametrize(
    "error",
    [
        ResponseLost("reset"),
        Unreadable("no JSON"),
        ConnectionResetError("reset"),
        TimeoutError("slow"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_after_bytes_were_sent(error: Exception) -> None:
    """A purchase is unknown; a question may be asked again."""
    with pytest.raises(OutcomeUnknown), creation_errors(HOST):
        raise error
    with pytest.raises(ProviderUnavailable), read_errors(HOST):
        raise error


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n\tb", "a b"), ("x" * 30, "x" * 9 + "…"), ("\0\ud800", ""), ("", "")],
)
def test_words_of_others_become_one_short_line(text: str, line: str) -> None:
    """They are logged and stored."""
    assert one_line(text, 10) == line
