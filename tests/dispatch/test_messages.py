"""Valid and invalid messages, for each broker's library."""

import json
import pickle
from typing import Any
from uuid import UUID

import pytest
from kombu import Message

from fleek.dispatch.bridge import MOST_IDS
from fleek.dispatch.celery.application import NAMES
from fleek.dispatch.celery.consumer import fault_of as fault_of_celery
from fleek.dispatch.celery.transport import is_envelope
from fleek.dispatch.dramatiq.broker import fault_of as fault_of_dramatiq

JOB = str(UUID(int=7))

ENVELOPE: dict[str, Any] = {
    "body": "W10=",
    "headers": {"task": "fleek.start", "id": "x"},
    "properties": {
        "delivery_tag": "t",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "fleek.start"},
    },
}
DRAMATIQ: dict[str, Any] = {
    "queue_name": "start",
    "actor_name": "start",
    "args": [JOB],
    "kwargs": {},
    "options": {"redis_message_id": "r"},
    "message_id": "m",
    "message_timestamp": 1,
}


def celery(body: Any, *, kind: str = "application/json", **headers: Any) -> str | None:
    """Return the fault of a message in Celery's second protocol, or None."""
    message = Message(
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        content_type=kind,
        content_encoding="utf-8",
        headers={"task": "fleek.start", "id": "x", **headers},
        accept={"application/json"},
    )
    return fault_of_celery(message, names=NAMES.values())


def test_celery_accepts_messages_of_fleek() -> None:
    """The check must not drop valid messages."""
    assert celery([[JOB], {}, {"callbacks": None, "chain": None}]) is None
    assert celery([[JOB] * MOST_IDS, {}, {}]) is None


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        pytest.param([[JOB], {}, {}], {"task": "os.system"}, "unknown_task", id="unknown"),
        pytest.param([[], {}, {}], {"task": "celery.chord_unlock"}, "unknown_task", id="Celery's"),
        pytest.param([[JOB], {}, {}], {"task": 7}, "wrong_shape", id="no name"),
        pytest.param([[JOB], {}, {}], {"id": None}, "wrong_shape", id="no id"),
        pytest.param([[JOB], {}, {}], {"eta": "2100-01-01"}, "wrong_shape", id="later"),
        pytest.param([["7"], {}, {}], {}, "wrong_shape", id="foreign id"),
        pytest.param([[JOB, "7"], {}, {}], {}, "wrong_shape", id="garbage among ids"),
        pytest.param([[JOB] * (MOST_IDS + 1), {}, {}], {}, "wrong_shape", id="too many"),
        pytest.param([[], {}, {}], {}, "wrong_shape", id="no id in it"),
        pytest.param([{"0": JOB}, {}, {}], {}, "wrong_shape", id="no list"),
        pytest.param([[JOB], {"x": 1}, {}], {}, "wrong_shape", id="more words"),
        pytest.param([[JOB], {}, {"callbacks": [1]}], {}, "wrong_shape", id="callbacks"),
        pytest.param({"args": [JOB]}, {}, "wrong_shape", id="first protocol"),
        pytest.param(7, {}, "wrong_shape", id="a number"),
        pytest.param(b"\xff{", {}, "not_json", id="garbage"),
        pytest.param(b"[" * 100_000, {}, "not_json", id="too deep"),
    ],
)
def test_celery_drops_other_messages(body: Any, headers: dict[str, Any], reason: str) -> None:
    """Anyone who can write to the broker must not be able to end a worker, or to run code in it."""
    assert celery(body, **headers) == reason


@pytest.mark.parametrize("kind", ["application/x-python-serialize", "application/data", ""])
def test_celery_accepts_json_only(kind: str) -> None:
    """A pickle can run code."""
    assert celery(pickle.dumps([[JOB], {}, {}]), kind=kind) == "not_json"


def test_kombu_accepts_an_envelope() -> None:
    """Replies to remote control use the same form."""
    assert is_envelope(ENVELOPE)
    assert is_envelope({**ENVELOPE, "more": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"headers": None},
        {"body": 7},
        {"body": "W"},
        {"properties": {}},
        {"properties": {**ENVELOPE["properties"], "body_encoding": "rot13"}},
        {"properties": {**ENVELOPE["properties"], "delivery_tag": []}},
        {"properties": {**ENVELOPE["properties"], "delivery_info": "x"}},
    ],
    ids=repr,
)
def test_kombu_drops_other_messages(change: dict[str, Any]) -> None:
    """They would raise in the worker's own loop and end it."""
    assert not is_envelope({**ENVELOPE, **change})
    assert not is_envelope([ENVELOPE])


def test_dramatiq_accepts_messages_of_fleek() -> None:
    """The check must not drop valid messages."""
    for number in (1, MOST_IDS):
        message = {**DRAMATIQ, "args": [JOB] * number}
        assert fault_of_dramatiq(json.dumps(message).encode(), "start") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"actor_name": "os.system"}, "unknown_task"),
        ({"actor_name": []}, "unknown_task"),
        ({"args": ["7"]}, "wrong_shape"),
        ({"args": [JOB, "7"]}, "wrong_shape"),
        ({"args": [JOB] * (MOST_IDS + 1)}, "wrong_shape"),
        ({"args": []}, "wrong_shape"),
        ({"args": JOB}, "wrong_shape"),
        ({"kwargs": {"x": 1}}, "wrong_shape"),
        ({"options": {}}, "wrong_shape"),
        ({"options": {"redis_message_id": "r", "eta": 1}}, "wrong_shape"),
        ({"message_id": []}, "wrong_shape"),
        ({"queue_name": "collect"}, "wrong_shape"),
        ({"more": 1}, "wrong_shape"),
    ],
    ids=repr,
)
def test_dramatiq_drops_other_messages(change: dict[str, Any], reason: str) -> None:
    """They would stop the consumer for seconds, and lose what it had fetched."""
    assert fault_of_dramatiq(json.dumps({**DRAMATIQ, **change}).encode(), "start") == reason


@pytest.mark.parametrize(
    "data",
    [None, b"", b"\xff", b"{", b"[" * 100_000, pickle.dumps(DRAMATIQ)],
    ids=lambda d: repr(d)[:20],
)
def test_dramatiq_accepts_json_only(data: bytes | None) -> None:
    """A pickle can run code."""
    assert fault_of_dramatiq(data, "start") == "not_json"
