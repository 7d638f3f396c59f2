"""A client follows jobs: after any interruption the stream continues behind the last event."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from fleek import Client, NotFound, ServerError, ServerUnreachable
from fleek.client import RetryPolicy
from fleek.client.events import EventParser, read_event

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
HELLO = (
    b'retry: 2000\nevent: hello\ndata: {"version":"1","server_time":"2026-01-02T03:04:05Z"}\n\n'
)
DONE = b"event: done\ndata: {}\n\n"


def frame(job: dict[str, Any], kind: str, seq: int, event_id: str | None = None) -> bytes:
    """Return an event as the server sends it."""
    data = json.dumps({"seq": seq, "at": "2026-01-02T03:04:05Z", **job})
    return f"id: {event_id or seq}\nevent: {kind}\ndata: {data}\n\n".encode()


def stream(*frames: bytes) -> httpx2.Response:
    """Return a response with these frames, which then ends."""
    content = b"".join(frames)
    return httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})


def test_a_job_is_followed_across_reconnections(client: Client, server: Any, a_job: Maker) -> None:
    """After a missing `done`, half an event, a refusal, or a refused connection."""
    first, second = frame(a_job(), "job.created", 1), frame(a_job(), "job.started", 2)
    last = frame(a_job("completed"), "job.completed", 5)
    server.script = [
        stream(HELLO, first, second[:20]),
        httpx2.ConnectError("refused"),
        httpx2.Response(503, json={"code": "too_many_streams"}),
        stream(HELLO, b":\n\n", second),
        stream(HELLO, last, DONE),
    ]

    events = list(client.events(JOB))

    assert [(one.type, one.id) for one in events] == [
        ("job.created", "1"),
        ("job.started", "2"),
        ("job.completed", "5"),
    ]
    assert events[2].job is not None
    assert (events[2].job.status, events[2].job.seq) == ("completed", 5)
    sent = [request.headers.get("last-event-id") for request in server.requests]
    assert sent == [None, "1", "1", "1", "2"]
    assert {request.url.path for request in server.requests} == {f"/api/v1/jobs/{JOB}/events"}
    assert server.requests[0].headers["authorization"] == "Bearer secret"


def test_the_stream_of_an_ended_job_ends(client: Client, server: Any) -> None:
    """204 means that there is nothing after the given event."""
    server.script = [httpx2.Response(204)]

    assert list(client.events(JOB, after="5")) == []
    assert server.requests[0].headers["last-event-id"] == "5"


def test_all_jobs_are_followed_and_a_gap_is_reported(
    client: Client, server: Any, a_job: Maker
) -> None:
    """The position is also in `hello` and in keep-alive comments."""
    reset = b"id: 9-1-0-0\nevent: reset\ndata: {}\n\n"
    server.script = [
        stream(b"id: 7-1-0-0\n" + HELLO),
        stream(reset, frame(a_job(), "job.created", 1, "10-1-a-1"), b":\nid: 11-1-0-0\n\n"),
        stream(b"event: lagging\ndata: {}\n\n"),
        stream(frame(a_job(), "job.started", 2, "12-1-a-2"), DONE),
    ]

    events = list(client.events())

    assert [(one.type, one.id, one.job is None) for one in events] == [
        ("reset", "9-1-0-0", True),
        ("job.created", "10-1-a-1", False),
        ("job.started", "12-1-a-2", False),
    ]
    sent = [request.headers.get("last-event-id") for request in server.requests]
    assert sent == [None, "7-1-0-0", "11-1-0-0", "11-1-0-0"]


def test_a_refusal_is_raised(client: Client, server: Any) -> None:
    """It would be refused again."""
    server.script = [httpx2.Response(404, json={"detail": "no", "code": "not_found"})]

    with pytest.raises(NotFound):
        list(client.events(JOB))


def test_the_outage_of_a_stream_is_limited(server: Any) -> None:
    """As for `wait`."""
    impatient = RetryPolicy(outage_seconds=-1)
    server.script = [httpx2.ConnectError("refused")]

    with (
        Client(
            "http://fleek.test", transport=httpx2.MockTransport(server), retry_policy=impatient
        ) as client,
        pytest.raises(ServerUnreachable),
    ):
        list(client.events(JOB))


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"seq":1}', b"[" * 100_000])
def test_an_invalid_event_is_an_error(client: Client, server: Any, data: bytes) -> None:
    """Such as the page of a proxy, or another version."""
    server.script = [stream(b"event: job.created\ndata: " + data + b"\n\n")]

    with pytest.raises(ServerError):
        list(client.events(JOB))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_are_parsed_from_any_chunks(a_job: Maker, size: int) -> None:
    """Lines may end in CR LF, after a proxy."""
    whole = (HELLO + frame(a_job(prompt="ä\u2028"), "job.created", 1)).replace(b"\n", b"\r\n")
    parser = EventParser(None, read_event)

    events = [
        event
        for start in range(0, len(whole), size)
        for event in parser.feed(whole[start : start + size])
    ]

    assert [(one.type, one.id) for one in events] == [("job.created", "1")]
    assert events[0].job is not None
    assert events[0].job.prompt == "ä\u2028"
