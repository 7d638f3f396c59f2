"""Events of a job: none is missing, streams end properly, and nothing is blocked."""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import insert

from event_reader import EventReader
from fakes import a_request
from fleek.api import events as events_module
from fleek.api import streams as streams_module
from fleek.api.streams import Streams
from fleek.domain.access import Caller
from fleek.domain.errors import TooManyStreams
from fleek.domain.job import AttemptId, Change, Job, JobId, Status
from fleek.domain.transitions import cancel, edit, set_progress
from fleek.engine.apply import apply
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.store.tables import EventRow
from fleek.store.updates import Update
from in_process_service import Served, serving_on
from samples import binds, claims

UNKNOWN: Final = "0198f000-0000-7000-8000-000000000000"
LINES: Final = 1500  # of a history larger than any buffer

Make = Callable[..., Any]


def path_of(job_id: object) -> str:
    """Return the path of a job's events."""
    return f"/api/v1/jobs/{job_id}/events"


def reader(service: Served, job: Job, **more: Any) -> EventReader:
    """Open the stream of a job."""
    return EventReader(service.port, path_of(job.id), **more)


async def change(rt: Runtime, job_id: JobId, decide: Callable[[Job], Change]) -> None:
    """Change a job."""
    await apply(rt, job_id, lambda job, _: Update(change=decide(job)), event="updated")


async def start(rt: Runtime, job: Job) -> AttemptId:
    """Let a worker claim a job, and return its attempt."""
    applied = await apply(rt, job.id, claims(), event="starting")
    return applied.update.intent.id


async def bind(rt: Runtime, job: Job, attempt_id: AttemptId) -> None:
    """Let a job wait for a prediction."""
    await apply(rt, job.id, binds("p1"), event="waiting", attempt_id=attempt_id)


async def end(rt: Runtime, job: Job) -> None:
    """Cancel a job."""
    await change(rt, job.id, lambda found: cancel(found, now=rt.now()))


async def streams_are(service: Served, number: int) -> None:
    """Wait until a number of streams are open."""
    while (len(service.streams), len(service.hub)) != (number, number):
        await asyncio.sleep(0.01)


async def test_a_job_is_followed_from_submission_to_its_end(rt: Runtime) -> None:
    """Each event comes once and in order, whenever the stream is opened."""
    job = await submit(rt, a_request())
    attempt_id = await start(rt, job)

    async with serving_on(rt) as service, reader(service, job) as stream:
        before = await stream.until("job.started")
        await bind(rt, job, attempt_id)
        await change(rt, job.id, lambda found: set_progress(found, 0.5, now=rt.now()))
        during = await stream.until("job.progress")
        await end(rt, job)
        after = await stream.rest()

    assert [one.type for one in before] == ["hello", "job.created", "job.started"]
    assert before[0].id is None
    assert {*before[0].data} == {"version", "server_time"}
    (progress,) = during
    assert [one.type for one in after] == ["job.cancelled", "done"]
    assert [one.id for one in [*before[1:], progress, after[0]]] == ["1", "2", "4", "5"]
    assert after[0].data["seq"] == 5
    assert after[0].data["at"] == after[0].data["updated_at"]
    assert after[0].data["id"] == str(job.id)
    assert after[0].data["status"] == "cancelled"
    assert progress.data["progress"] == 0.5


async def test_a_stream_has_its_headers(rt: Runtime) -> None:
    """Proxies must not buffer it, and caches must not store it."""
    job = await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service, job) as stream:
        await stream.next()

    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["cache-control"] == "no-store"
    assert stream.headers["x-accel-buffering"] == "no"
    assert stream.text.startswith(b"retry: 2000\n")


async def test_events_after_the_last_event_id_are_sent(rt: Runtime) -> None:
    """A disconnected browser asks for them this way."""
    job = await submit(rt, a_request())
    await change(rt, job.id, lambda found: edit(found, {"favourite": True}, now=rt.now()))
    await end(rt, job)

    async with serving_on(rt) as service, reader(service, job, last="1") as stream:
        received = await stream.rest()

    assert [(one.type, one.id) for one in received] == [
        ("hello", None),
        ("job.updated", "2"),
        ("job.cancelled", "3"),
        ("done", None),
    ]


async def test_an_id_from_the_future_hides_nothing(rt: Runtime) -> None:
    """It may date from before the restore of a backup."""
    job = await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service, job, last="77") as stream:
        await stream.next()
        await streams_are(service, 1)
        await end(rt, job)
        received = await stream.rest()

    assert [one.type for one in received] == ["job.cancelled", "done"]


async def test_a_complete_reader_of_an_ended_job_gets_a_204(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """Otherwise a browser would reconnect for ever."""
    job = await submit(rt, a_request())
    await end(rt, job)

    answer = await client.get(path_of(job.id), headers={"Last-Event-ID": "2"})

    assert answer.status_code == 204
    assert answer.content == b""


async def test_an_invalid_event_id_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """400 in each case, whether the job exists or not."""
    for last in ["-1", "+1", "1.0", "0x1", "1e3", "x", "2147483649", "9" * 5000, "1, 2", "\u00b2"]:
        with subtests.test(last=str(last)[:40]):
            headers = [(b"Last-Event-ID", last.encode("latin-1"))]

            answer = await client.get(path_of(UNKNOWN), headers=headers)

            assert (answer.status_code, answer.json()["code"]) == (400, "bad_event_id")


async def test_two_ids_are_refused(client: httpx2.AsyncClient) -> None:
    """Readers would disagree about which one counts."""
    headers = [("Last-Event-ID", "1"), ("Last-Event-ID", "2")]

    answer = await client.get(path_of(UNKNOWN), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_event_id")


@pytest.mark.parametrize("route", ["events", "history"])
async def test_a_foreign_job_is_not_found(
    rt: Runtime, client: httpx2.AsyncClient, route: str
) -> None:
    """The response equals that for an unknown job."""
    job = await submit(rt, a_request(tenant_id="other"))

    foreign = await client.get(f"/api/v1/jobs/{job.id}/{route}")
    unknown = await client.get(f"/api/v1/jobs/{UNKNOWN}/{route}")

    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json()["detail"] == unknown.json()["detail"]


async def test_a_text_cannot_forge_an_event(rt: Runtime) -> None:
    """Data is one line of JSON, whatever a prompt contains."""
    prompt = 'x\r\n\r\nevent: done\ndata: {"forged":1}\n\n\u2028'
    job = await submit(rt, a_request(prompt=prompt))

    async with serving_on(rt) as service, reader(service, job) as stream:
        _, created = await stream.until("job.created")

    assert created.data["prompt"] == prompt
    assert b"\r" not in stream.text


async def test_a_quiet_stream_sends_keep_alives(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies close silent connections."""
    monkeypatch.setattr(events_module, "QUIET_SECONDS", 0.01)
    job = await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service, job) as stream:
        waiting = asyncio.create_task(stream.until("done"))
        while stream.comments < 3:
            await asyncio.sleep(0.01)
        await end(rt, job)
        received = await waiting

    assert [one.type for one in received] == ["hello", "job.created", "job.cancelled", "done"]


async def test_a_stream_ends_after_its_time(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends properly, so that the client reconnects."""
    monkeypatch.setattr(streams_module, "LONGEST_SECONDS", 0.01)
    job = await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service, job) as stream:
        received = await stream.rest()

    assert received[0].type == "hello"
    assert "done" not in {one.type for one in received}


async def test_the_stream_of_a_removed_job_ends(rt: Runtime, make: Make) -> None:
    """Its row does not exist any more."""
    job = await make(Status.PENDING)

    async with serving_on(rt) as service, reader(service, job) as stream:
        await stream.until("job.created")
        async with rt.db.write() as tx:
            for table in ("events", "job_tags", "jobs"):
                column = "id" if table == "jobs" else "job_id"
                await tx.exec_driver_sql(f"DELETE FROM {table} WHERE {column} = ?", (job.id.hex,))  # noqa: S608 - names from this test
        received = await stream.rest()

    assert [one.type for one in received] == ["done"]


async def test_a_disconnected_reader_leaves_nothing_behind(rt: Runtime) -> None:
    """Neither a task, nor a subscription, nor a place."""
    job = await submit(rt, a_request())

    async with serving_on(rt) as service:
        async with reader(service, job) as stream:
            await stream.next()
            await streams_are(service, 1)
        await streams_are(service, 0)

    assert len(service.streams) == 0


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_reader_that_reads_nothing_is_disconnected(rt: Runtime) -> None:
    """Its data is not buffered for long, and no other stream waits for it."""
    job = await submit(rt, a_request(prompt="x" * 10_000))
    lines = [
        {"job_id": job.id, "seq": seq, "type": "progress", "data": {}, "at": rt.now()}
        for seq in range(2, LINES)
    ]
    async with rt.db.write() as tx:
        await tx.execute(insert(EventRow), lines)
    quick = timedelta(seconds=0.2)

    async with serving_on(rt, response_stall_seconds=quick) as service:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.setblocking(False)  # noqa: FBT003 - the library's way
            loop = asyncio.get_running_loop()
            await loop.sock_connect(lazy, ("127.0.0.1", service.port))
            request = f"GET {path_of(job.id)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await loop.sock_sendall(lazy, request.encode())
            await streams_are(service, 1)
            async with reader(service, job, last="1490") as stream:
                assert await stream.until("job.progress")
            await streams_are(service, 0)


async def test_the_number_of_streams_per_process_is_limited(rt: Runtime) -> None:
    """The refusal contains a Retry-After, and a freed place is used again."""
    job = await submit(rt, a_request())

    async with serving_on(rt, max_streams=1) as service:
        async with reader(service, job) as first:
            await first.next()
            async with reader(service, job) as second:
                problem = await second.body()
        await streams_are(service, 0)
        async with reader(service, job) as third:
            await third.next()

    assert (second.status, problem["code"]) == (503, "too_many_streams")
    assert int(second.headers["retry-after"]) > 0
    assert third.status == 200


async def test_the_number_of_streams_per_address_is_limited(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies have no limit; loopback counts as one unless configured otherwise."""
    monkeypatch.setattr(streams_module, "MOST_PER_PEER", 1)
    job = await submit(rt, a_request())

    async with (
        serving_on(rt, forwarded_allow_ips=()) as strict,
        reader(strict, job) as first,
        reader(strict, job) as second,
        serving_on(rt) as behind_proxy,
        reader(behind_proxy, job) as third,
        reader(behind_proxy, job) as fourth,
    ):
        statuses = [first.status, second.status, third.status, fourth.status]

    assert statuses == [200, 503, 200, 200]


def test_the_number_of_streams_per_key_is_limited(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any address, and separately for each key."""
    monkeypatch.setattr(streams_module, "MOST_PER_KEY", 1)

    async def opened() -> None:
        streams = Streams(rt)
        one, other = (Caller("default", key, frozenset()) for key in ("one", "other"))
        with streams.open(one, ("192.0.2.1", 1)):
            with pytest.raises(TooManyStreams), streams.open(one, ("192.0.2.2", 1)):
                pass
            with streams.open(other, ("192.0.2.1", 1)):
                pass
        with streams.open(one, ("192.0.2.1", 1)):
            pass

    asyncio.run(opened())


async def test_a_revoked_key_loses_its_streams(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other keys continue."""
    valid = {"one", "other"}

    async def is_current(_rt: Runtime, caller: Caller) -> bool:
        return caller.key_id in valid

    monkeypatch.setattr(streams_module, "is_current", is_current)
    monkeypatch.setattr(streams_module, "CHECK_SECONDS", 0.01)
    streams = Streams(rt)
    one, other = (Caller("default", key, frozenset()) for key in ("one", "other"))
    with streams.open(one, None) as revoked, streams.open(other, None) as kept:
        valid.remove("one")
        await revoked.bell.wait(seconds=60)

        assert (revoked.closed, kept.closed) == (True, False)


async def test_a_stopping_service_ends_each_stream_properly(rt: Runtime) -> None:
    """The last chunk is sent, so clients see an end and no error."""
    job = await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service, job) as stream:
        await stream.until("job.created")
        service.stop()
        received = await stream.rest()

    assert received == []


async def test_head_responds_at_once(rt: Runtime) -> None:
    """With the headers only."""
    job = await submit(rt, a_request())
    request = f"HEAD {path_of(job.id)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    async with serving_on(rt) as service:
        answer = await service.exchange(request.encode())

    assert answer.statuses == [200]
    assert b"text/event-stream" in answer.data
    assert answer.data.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("route", ["history", "events"])
async def test_the_history_is_available_as_a_document(
    rt: Runtime, client: httpx2.AsyncClient, route: str
) -> None:
    """At its own address, and for clients that do not accept streams."""
    job = await submit(rt, a_request())
    await bind(rt, job, await start(rt, job))
    await end(rt, job)

    answer = await client.get(
        f"/api/v1/jobs/{job.id}/{route}", headers={"Accept": "application/json"}
    )

    assert answer.status_code == 200
    events = answer.json()["events"]
    assert [(one["seq"], one["type"]) for one in events] == [
        (1, "job.created"),
        (2, "job.started"),
        (4, "job.cancelled"),
    ]
    assert events[1]["attempt"] == 1
    (attempt,) = answer.json()["attempts"]
    assert attempt["n"] == 1
    assert attempt["verdict"] is None
