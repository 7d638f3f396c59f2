"""Commands that follow jobs: by an event stream if there is one, else by polling."""

import json
from collections.abc import Callable
from typing import Any

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
OTHER = "0198f000-0000-7000-8000-000000000002"
STATUS = f"GET /api/v1/jobs/{JOB}"
EVENTS = f"GET /api/v1/jobs/{JOB}/events"
LOGS = f"GET /api/v1/jobs/{JOB}/logs"
STREAM = "text/event-stream"
PROBLEM = "application/problem+json"
REFUSED = {"title": "Too many", "detail": "too many", "code": "too_many_streams"}
HELLO = b'event: hello\ndata: {"version":"1","server_time":"2026-01-02T03:04:05Z"}\n\n'
DONE = b"event: done\ndata: {}\n\n"


def frame(job: dict[str, Any], kind: str, seq: int) -> bytes:
    """Return an event as the server sends it."""
    data = json.dumps({"seq": seq, "at": "2026-01-02T03:04:05Z", **job})
    return f"id: {seq}\nevent: {kind}\ndata: {data}\n\n".encode()


def piece(seq: int, text: str) -> bytes:
    """Return a piece of logs as the server sends it."""
    data = json.dumps({"attempt": 1, "text": text})
    return f"id: {seq}\nevent: log\ndata: {data}\n\n".encode()


def requests(service: Any, line: str) -> int:
    """Return the number of requests for a route."""
    return sum(request.line == line for request in service.requests)


def test_watch_shows_the_events_of_the_stream(service: Any, fleek: Any, a_job: Maker) -> None:
    """The state before the stream, each step, and the end; nothing is polled in between."""
    running = a_job("processing", progress=0.5)
    service.answers(STATUS, a_job(), a_job(), a_job("completed"))
    steps = frame(running, "job.progress", 3), frame(a_job("completed"), "job.completed", 5)
    service.answers(EVENTS, HELLO + b"".join(steps) + DONE, kind=STREAM)

    ended = fleek("watch", JOB)

    assert ended.code == 0
    assert ended.out.startswith(f"{JOB}\tcompleted")
    assert f"{JOB} processing\n{JOB} completed" in ended.err
    assert requests(service, STATUS) <= 3
    assert requests(service, EVENTS) == 1


def test_several_jobs_are_followed_by_one_stream(service: Any, fleek: Any, a_job: Maker) -> None:
    """Other jobs are not shown."""
    other = a_job("completed", id=OTHER)
    strange = a_job("failed", id="0198f000-0000-7000-8000-00000000ffff")
    service.answers(STATUS, a_job(), a_job(), a_job("completed"))
    service.answers(f"GET /api/v1/jobs/{OTHER}", a_job(id=OTHER), a_job(id=OTHER), other)
    ends = (
        frame(strange, "job.failed", 2),
        frame(other, "job.completed", 5),
        frame(a_job("completed"), "job.completed", 5),
    )
    service.answers("GET /api/v1/events", HELLO + b"".join(ends), kind=STREAM)

    ended = fleek("watch", JOB, OTHER)

    assert ended.code == 0
    assert "ffff" not in ended.out + ended.err
    assert sorted(line.split()[0] for line in ended.out.splitlines()) == [JOB, OTHER]


def test_without_a_stream_jobs_are_polled(service: Any, fleek: Any, a_job: Maker) -> None:
    """There are too many streams, or the server does not support them; retries delay no poll."""
    service.answers(STATUS, a_job(), a_job("processing"), a_job("completed"))
    service.answers(EVENTS, REFUSED, status=503, kind=PROBLEM)

    ended = fleek("watch", JOB)

    assert ended.code == 0
    assert requests(service, EVENTS) <= requests(service, STATUS) + 1
    assert ended.out.startswith(f"{JOB}\tcompleted")


def test_a_silent_stream_does_not_extend_the_time_limit(
    service: Any, fleek: Any, a_job: Maker
) -> None:
    """The job continues."""
    service.answers(STATUS, a_job("processing"))
    service.answers(EVENTS, HELLO, kind=STREAM)

    ended = fleek("watch", JOB, "--timeout", "0.5")

    assert ended.code == 5
    assert f"fleek watch {JOB}" in ended.err


def test_logs_are_written_unchanged(service: Any, fleek: Any) -> None:
    """Terminal escapes are removed."""
    service.answers(LOGS, "a\r\n 50%|█\r\x1b[2Jb\n".encode(), kind="text/plain; charset=utf-8")

    ended = fleek("logs", JOB)
    as_json = fleek("logs", JOB, "--json")

    assert (ended.code, ended.out) == (0, "a\r\n 50%|█\r\N{REPLACEMENT CHARACTER}[2Jb\n")
    assert json.loads(as_json.out) == {"text": "a\r\n 50%|█\r\x1b[2Jb\n"}


def test_logs_are_followed_to_the_end_of_the_job(service: Any, fleek: Any) -> None:
    """Each piece once, also across a reconnection."""
    service.answers(LOGS, HELLO + piece(1, "one\n"), HELLO + piece(2, "two\n") + DONE, kind=STREAM)

    ended = fleek("logs", JOB, "--follow")

    assert (ended.code, ended.out) == (0, "one\ntwo\n")
    assert [request.headers.get("last-event-id") for request in service.requests] == [None, "1"]


def test_without_a_stream_logs_are_polled(
    service: Any, fleek: Any, a_job: Maker, monkeypatch: Any
) -> None:
    """Each part once."""
    monkeypatch.setattr("fleek.cli.following.POLL_SECONDS", 0.0)
    text = "text/plain; charset=utf-8"
    service.answers(STATUS, a_job("processing"), a_job("completed"))
    service.script(
        LOGS, (503, PROBLEM, REFUSED), (200, text, b"one\n"), (200, text, b"one\ntwo\n")
    )

    ended = fleek("logs", JOB, "-f")

    assert (ended.code, ended.out) == (0, "one\ntwo\n")


def test_logs_of_an_unknown_job_are_not_found(service: Any, fleek: Any) -> None:
    """The exit code is that of other commands."""
    service.answers(LOGS, {"title": "x", "detail": "x", "code": "not_found"}, status=404)

    assert fleek("logs", JOB).code == fleek("logs", JOB, "--follow").code == 4
