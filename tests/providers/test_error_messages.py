"""The reason of an error is found in any form, and becomes one short line."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import ProviderRejected
from fleek.providers.base import Failed
from fleek.providers.cog.wire import Unreadable, _refusal, parse_prediction
from fleek.providers.error_messages import MAX_VALUES, UNSTATED, read_reason, reason_of_body
from fleek.providers.http import Answer, raise_for_create
from fleek.providers.replicate.wire import read_prediction
from untrusted_json import ANYTHING

SAID: dict[str, tuple[Any, str]] = {
    "words": ("out of memory", "out of memory"),
    "code and message": ({"code": "E1", "message": "too wide"}, "too wide (E1)"),
    "number as code": ({"code": 7, "message": "too wide"}, "too wide (7)"),
    "code in the message": ({"code": "E1", "message": "E1: too wide"}, "E1: too wide"),
    "list of words": (["too wide", "too high"], "too wide; too high"),
    "error": ({"error": "too wide"}, "too wide"),
    "message": ({"message": "too wide"}, "too wide"),
    "problem": ({"title": "Bad", "detail": "too wide", "status": 422}, "too wide"),
    "title alone": ({"title": "Bad", "detail": None}, "Bad"),
    "validation": (
        {"detail": [{"loc": ["body", "input", "width"], "msg": "too wide", "type": "x"}]},
        "width: too wide",
    ),
    "validation of two": (
        {"detail": [{"loc": ["width"], "msg": "a"}, {"loc": ["a", 0], "msg": "b"}]},
        "width: a; a/0: b",
    ),
    "nested": ({"error": {"errors": [{"message": "too wide"}]}}, "too wide"),
    "by field": ({"width": ["too wide"], "ok": True}, "width: too wide"),
    "oauth": ({"error": "x", "error_description": "too wide"}, "too wide"),
    "number": (7, "7"),
    "controls": ("a\x1b[2J\r\nb\0\ud800\u202e", "a [2J b"),
}
BODIES: dict[str, tuple[bytes, str]] = {
    "plain text": (b"Forbidden: too wide\r\n", "Forbidden: too wide"),
    "page": (
        b"<!DOCTYPE html><title>403 Forbidden</title><h1>Access &amp; more</h1><script>x()</script>",
        "403 Forbidden Access & more",
    ),
    "latin-1": (b"caf\xe9 closed", "caf\N{REPLACEMENT CHARACTER} closed"),
    "list": (b'[{"msg": "too wide"}]', "too wide"),
    "cut JSON": (b'{"detail": "too', '{"detail": "too'),
    "nothing": (b"", UNSTATED),
    "null": (b"null", UNSTATED),
    "empty object": (b"{}", UNSTATED),
    "too deep": (b"[" * 100_000, "[" * 499 + "…"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_reason_is_found_in_any_shape(name: str) -> None:
    """As a value, or as the whole body."""
    said, words = SAID[name]

    assert read_reason(said, 500) == words
    assert reason_of_body(json.dumps(said).encode(), 500) == words


@pytest.mark.parametrize("name", BODIES)
def test_a_reason_is_found_in_any_body(name: str) -> None:
    """A proxy may have written it."""
    body, words = BODIES[name]

    assert reason_of_body(body, 500) == words


@pytest.mark.parametrize("name", [name for name in SAID if name != "number"])
def test_both_providers_report_the_reason(name: str) -> None:
    """With a refusal, and with a failed prediction."""
    said, words = SAID[name]
    body = json.dumps(said).encode()
    failed = {"id": "a" * 32, "status": "failed", "error": said}

    with pytest.raises(ProviderRejected) as refused:
        raise_for_create(Answer(422, {}, body), "the host")
    ended = read_prediction(json.loads(json.dumps(failed)))
    assert words in str(refused.value)
    assert words in str(_refusal(422, body))
    assert ended is not None
    for outcome in (ended.outcome, parse_prediction(json.dumps(failed).encode()).outcome):
        assert isinstance(outcome, Failed)
        assert outcome.message == words


def test_the_search_in_a_large_error_is_limited() -> None:
    """The values that are read are counted."""
    said: Any = "x"
    for _ in range(6):
        said = [{"a": said}] * 20

    assert len(read_reason(said, 10**9)) < 100 * MAX_VALUES


@given(said=ANYTHING, status=st.sampled_from(["failed", "canceled", "succeeded", "odd"]))
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_any_json_can_be_an_error_a_metric_and_an_output(said: Any, status: str) -> None:
    """The prediction that is read can be stored."""
    body = {"id": "a" * 32, "status": status, "error": said, "metrics": said, "logs": said}
    ours = read_prediction({**body, "output": said, "deadline": said, "completed_at": said})
    predictions = [ours, parse_prediction(json.dumps(body).encode())]

    for prediction in predictions:
        assert prediction is not None
        json.dumps(dict(prediction.metrics), allow_nan=False).encode()
        if isinstance(prediction.outcome, Failed):
            assert prediction.outcome.message.isprintable()
            assert len(prediction.outcome.message) <= 2000


@given(said=st.one_of(ANYTHING.map(lambda value: json.dumps(value).encode()), st.binary()))
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_any_bytes_can_be_a_response(said: bytes) -> None:
    """Of either provider."""
    assert reason_of_body(said, 500).isprintable()
    with pytest.raises(Unreadable):
        parse_prediction(said)
    with pytest.raises(ProviderRejected):
        raise_for_create(Answer(400, {}, said), "the host")
