"""The stream of a tenant's events: none is missing, and slow readers are informed."""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

import httpx2
import pytest

from event_reader import EventReader, Received
from fakes import a_request
from fleek.api import feed as feed_module
from fleek.api import tenant_events as module
from fleek.api.streams import Stream
from fleek.domain.access import ANONYMOUS
from fleek.domain.job import Job
from fleek.domain.transitions import cancel, edit
from fleek.engine.apply import apply
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.store.event_stream import Cursor, StreamId
from fleek.store.updates import Update
from in_process_service import Served, serving_on

PATH: Final = "/api/v1/events"


def reader(service: Served, **more: str | None) -> EventReader:
    """Open the stream of all jobs."""
    return EventReader(service.port, PATH, **more)  # type: ignore[arg-type] # one name, or none


async def mark(rt: Runtime, job: Job) -> None:
    """Change a job."""

    def decide(found: Job, _: object) -> Update:
        return Update(change=edit(found, {"favourite": True}, now=rt.now()))

    await apply(rt, job.id, decide, event="updated")


async def end(rt: Runtime, job: Job) -> None:
    """Cancel a job."""
    await apply(rt, job.id, lambda found, _: Update(change=cancel(found, now=rt.now())), event="x")


def summary(received: list[Received]) -> list[tuple[str, str]]:
    """Return the types and jobs of events."""
    return [(one.data["id"], one.type) for one in received]


async def test_all_jobs_of_the_tenant_are_followed(rt: Runtime) -> None:
    """From now on, without earlier events and those of other tenants."""
    await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service) as stream:
        (hello,) = await stream.until("hello")
        await submit(rt, a_request(tenant_id="other"))
        first, second = await submit(rt, a_request()), await submit(rt, a_request())
        await end(rt, first)
        received = await stream.until("job.cancelled")

    assert hello.id is not None
    assert sorted(summary(received[:2])) == sorted(
        (str(job.id), "job.created") for job in (first, second)
    )
    assert summary(received[2:]) == [(str(first.id), "job.cancelled")]
    assert received[2].data["status"] == "cancelled"
    assert received[2].data["seq"] == 2


async def test_a_resumed_stream_sends_missed_events(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several pages, then new ones, also from another process."""
    monkeypatch.setattr(feed_module, "PAGE", 2)
    async with serving_on(rt) as service, reader(service) as stream:
        await stream.until("hello")
        first = await submit(rt, a_request())
        (created,) = await stream.until("job.created")
    missed = [await submit(rt, a_request()) for _ in range(5)]

    async with serving_on(rt) as service, reader(service, last=created.id) as stream:
        (hello,) = await stream.until("hello")
        received = [await stream.next() for _ in missed]
        await end(rt, first)
        (after,) = await stream.until("job.cancelled")

    assert hello.id == created.id
    assert [one and one.data["id"] for one in received] == [str(job.id) for job in missed]
    assert summary([after]) == [(str(first.id), "job.cancelled")]


async def test_nothing_is_missed_before_the_first_event(rt: Runtime) -> None:
    """`hello` has an id, too, so a stream that is cut off after it can be resumed."""
    async with serving_on(rt) as service:
        async with reader(service) as stream:
            (hello,) = await stream.until("hello")
        job = await submit(rt, a_request())
        async with reader(service, last=hello.id) as stream:
            received = await stream.until("job.created")

    assert summary(received[1:]) == [(str(job.id), "job.created")]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_unstable_readers_get_every_event_once(rt: Runtime) -> None:
    """Streams are cut off and resumed, and each job's events come in order."""
    async with serving_on(rt) as service:
        async with reader(service) as stream:
            (hello,) = await stream.until("hello")
        working = asyncio.create_task(work(rt, jobs=20))
        received = await asyncio.gather(
            *(flaky(service, hello.id, after=every, total=60) for every in (1, 3, 7))
        )
        jobs = await working

    for each in received:
        assert len(each) == len({(one.data["id"], one.data["seq"]) for one in each}) == 60
        for job in jobs:
            seqs = [one.data["seq"] for one in each if one.data["id"] == str(job.id)]
            assert seqs == [1, 2, 3]


async def work(rt: Runtime, *, jobs: int) -> list[Job]:
    """Let a number of jobs have three events each."""
    made = [await submit(rt, a_request()) for _ in range(jobs)]
    await asyncio.gather(*(mark(rt, job) for job in made))
    await asyncio.gather(*(end(rt, job) for job in made))
    return made


async def flaky(service: Served, last: str | None, *, after: int, total: int) -> list[Received]:
    """Return a number of events, read over connections that break after a few each."""
    found: list[Received] = []
    while len(found) < total:
        async with reader(service, last=last) as stream:
            await stream.until("hello")
            for _ in range(min(after, total - len(found))):
                one = await stream.next()
                assert one is not None
                found.append(one)
                last = one.id
    return found


@pytest.mark.parametrize("reason", ["old", "of another database"])
async def test_an_unusable_id_causes_a_reset(rt: Runtime, reason: str) -> None:
    """The caller has to list its jobs, and gets new events from then on."""
    now = int(rt.now().timestamp())
    last = {
        "old": StreamId(Cursor(1), now - 73 * 3600),
        "of another database": StreamId(Cursor(10**12), now),
    }[reason]
    await submit(rt, a_request())

    async with serving_on(rt) as service, reader(service, last=str(last)) as stream:
        _, reset = await stream.until("reset")
        job = await submit(rt, a_request())
        received = await stream.until("job.created")

    assert reset.id is not None
    assert reset.id != str(last)
    assert summary(received) == [(str(job.id), "job.created")]


async def test_an_id_older_than_the_retention_causes_a_reset(rt: Runtime) -> None:
    """Events are removed with their jobs."""
    last = StreamId(Cursor(1), int((rt.now() - timedelta(hours=25)).timestamp()))

    async with (
        serving_on(rt, job_retention_days=1) as service,
        reader(service, last=str(last)) as stream,
    ):
        short = await stream.until("reset")
    async with serving_on(rt) as service, reader(service, last=str(last)) as stream:
        job = await submit(rt, a_request())
        kept = await stream.until("job.created")

    assert [one.type for one in short] == ["hello", "reset"]
    assert summary(kept[1:]) == [(str(job.id), "job.created")]


@pytest.mark.parametrize("last", ["1", "x", "1-2-3-4", f"1-1-{'0' * 32}-{'9' * 10}", "9" * 5000])
async def test_an_invalid_event_id_is_refused(client: httpx2.AsyncClient, last: str) -> None:
    """It may be that of a job's stream."""
    answer = await client.get(PATH, headers={"Last-Event-ID": last})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_event_id")


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_slow_reader_is_informed_and_can_resume(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer is small: a stream that is too slow ends, and loses nothing."""
    monkeypatch.setattr(feed_module, "HELD_BYTES", 1)
    feed = feed_module.Feed(rt)
    stream = Stream(ANONYMOUS, "")
    sending = module._send(rt, feed, "default", None, stream, lost=False)
    hello = (await anext(sending)).decode()
    made = []
    with feed.follow("default", Stream(ANONYMOUS, "")) as channel:
        for number in range(3):
            made.append(await submit(rt, a_request()))
            while channel.next <= number:
                await asyncio.sleep(0.01)
        ending = [chunk async for chunk in sending]
    last = hello.partition("id: ")[2].partition("\n")[0]
    async with serving_on(rt) as service, reader(service, last=last) as resumed:
        await resumed.until("hello")
        received = [await resumed.next() for _ in made]

    assert ending == [b"event: lagging\ndata: {}\n\n"]
    assert [one and one.data["id"] for one in received] == [str(job.id) for job in made]


async def test_a_quiet_stream_sends_its_position(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its id would expire although no event was missed."""
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)

    async with serving_on(rt) as service, reader(service) as stream:
        waiting = asyncio.create_task(stream.until("job.created"))
        while stream.comments < 3:
            await asyncio.sleep(0.01)
        await submit(rt, a_request())
        await waiting

    ids = [
        StreamId.parse(line.removeprefix("id: "))
        for line in stream.text.decode().split("\n")
        if line.startswith("id: ")
    ]
    cursors = [found.cursor for found in ids if found is not None]
    assert len(cursors) == len(ids) >= 4
    assert cursors == sorted(cursors)
    assert cursors[0].job_id == UUID(int=0)


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_nothing_is_read_without_a_stream(rt: Runtime) -> None:
    """Reading ends with the last stream."""
    async with serving_on(rt) as service:
        async with reader(service) as stream:
            await stream.until("hello")
            assert len(service.feed) == 1
        while len(service.feed) or len(service.streams):
            await asyncio.sleep(0.01)

    assert len(service.feed) == 0


async def test_a_stopping_service_ends_the_stream_properly(rt: Runtime) -> None:
    """The last chunk is sent, so clients see an end and no error."""
    async with serving_on(rt) as service, reader(service) as stream:
        await stream.until("hello")
        service.stop()
        received = await stream.rest()

    assert received == []
