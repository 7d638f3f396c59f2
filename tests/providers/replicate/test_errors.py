"""Errors for statuses and headers without a fault in the emulator."""

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
    """Return a response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_any_2xx_is_a_success(status: int) -> None:
    """No error is raised."""
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
def test_a_final_refusal_is_a_rejection(status: int, code: str) -> None:
    """No prediction was created, and the host's message gives the reason."""
    body = b'{"title": "Oh", "detail": "- input.x: \\n must\\u0000 be y"}'

    with pytest.raises(ProviderRejected, match=r"- input\.x: must be y") as caught:
        raise_for_create(an_answer(status, body), HOST)

    assert caught.value.code == code


@pytest.mark.parametrize("status", [300, 301, 304, 307, 408, 500, 502, 503, 504, 520, 599])
def test_an_ambiguous_status_is_an_unknown_outcome(status: int) -> None:
    """A proxy may have answered after the prediction was created."""
    with pytest.raises(OutcomeUnknown):
        raise_for_create(an_answer(status), HOST)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 409, 500, 503])
def test_a_failed_read_is_always_retryable(status: int) -> None:
    """Reading changes nothing."""
    with pytest.raises(ProviderUnavailable):
        raise_for_read(an_answer(status), HOST)


@pytest.mark.parametrize("check", [raise_for_create, raise_for_read])
def test_missing_credit_pauses_the_account(check: object) -> None:
    """Whichever call gets the 402."""
    assert callable(check)

    with pytest.raises(ProviderUnavailable) as caught:
        check(an_answer(402, b'{"detail": "Insufficient credit"}'), HOST)

    assert caught.value.code == "provider_payment_required"
    assert caught.value.retry_after == timedelta(minutes=5)


@pytest.mark.parametrize("check", [raise_for_create, raise_for_read])
def test_a_refused_token_pauses_the_account(check: object) -> None:
    """Jobs must not fail because of a revoked token."""
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
def test_retry_after_is_read_from_the_response(answer: Answer, seconds: float) -> None:
    """Between a second and ten minutes."""
    assert retry_after(answer) == timedelta(seconds=seconds)


@pytest.mark.parametrize("translated", [creation_errors, read_errors])
def test_a_request_that_was_not_sent_is_retryable(
    translated: Callable[[str], AbstractContextManager[None]],
) -> None:
    """No prediction can exist; the message has no password of the proxy's address."""
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
def test_a_lost_response_is_an_unknown_outcome(error: Exception) -> None:
    """The prediction may exist; a read may be repeated."""
    with pytest.raises(OutcomeUnknown), creation_errors(HOST):
        raise error
    with pytest.raises(ProviderUnavailable), read_errors(HOST):
        raise error


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n\tb", "a b"), ("x" * 30, "x" * 9 + "…"), ("\0\ud800", ""), ("", "")],
)
def test_foreign_text_becomes_one_short_line(text: str, line: str) -> None:
    """It is logged and stored."""
    assert one_line(text, 10) == line
