"""SIGTERM under load: the shutdown is quick, and nothing is lost or counted."""

import asyncio
import signal
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest

from chaos.rig import state
from event_reader import EventReader
from service_process import SMALL, Process, Service, assert_each_once, delay, running, until

AT_ONCE = 16  # concurrent jobs of a worker
WAITING = 60  # more than that
READERS = 20
PIPELINED = 20  # requests on each connection: more bytes than the kernel buffers
LARGE = {"width": 1280, "height": 1280}  # takes some time to read
DOWNLOADS = 6
EXIT_SECONDS = 60.0  # ten, plus a busy machine's delay; hanging ones end after 25 with code 1
AT_ONCE_SECONDS = 180.0  # leases expire after 360 only
SETTLE = 300.0  # seconds
STREAMS = 60
WAITERS = 120
RETRY_SECONDS = 1  # the Retry-After of a refusal
POST = (
    b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 56\r\nPrefer: wait=60\r\nConnection: close\r\n\r\n"
    b'{"prompt":"x","parameters":{"width":16,"height":16    }}'
)

ATTEMPTS = "SELECT count(*), max(n) FROM attempts"
COUNTED = "SELECT count(*) FROM jobs WHERE crashes > 0 OR retries > 0 OR deferrals > 0"
COLLECTING = "SELECT count(*) FROM jobs WHERE stage = 'collecting' AND worker_id IS NOT NULL"


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a service in which no lease expires during the test."""
    with running(tmp_path, HEARTBEAT_SECONDS="60", WORKER_CONCURRENCY=str(AT_ONCE)) as opened:
        yield opened


def test_many_jobs_wait_for_the_next_process(service: Service) -> None:
    """Their predictions are paid for, and the shutdown counts none as failed."""
    process = service.serve(**delay("0"))
    picture = service.submit("a large one", parameters=LARGE)
    service.settle(seconds=SETTLE)
    url = service.job(picture)["result_url"]
    assert process.stop() == 0
    process = service.serve(**delay("600"))
    accepted = [picture, *service.submit_many(WAITING, parameters=SMALL)]
    until(lambda: created(service) == WAITING + 1, seconds=SETTLE, why=service.tails)

    with slow_readers(service, url):
        exit_seconds(process)
        stopped_with = service.rows(ATTEMPTS)
        service.serve(**delay("0"))
        began = time.monotonic()
        until(lambda: service.by_status()["completed"] > 1, seconds=SETTLE, why=service.tails)
        pause = time.monotonic() - began
    service.settle(seconds=SETTLE)

    assert pause < AT_ONCE_SECONDS
    assert stopped_with == service.rows(ATTEMPTS) == [(WAITING + 1, 1)]
    assert service.rows(COUNTED) == [(0,)]
    assert_each_once(service, accepted)


def test_an_interrupted_collection_is_continued_by_the_next_process(service: Service) -> None:
    """A partly stored file is stored again, from the same prediction."""
    service.env |= delay("0")
    service.serve("--no-worker")
    accepted = service.submit_many(DOWNLOADS, parameters=SMALL)
    worker = service.start(
        "worker", FLEEK_FAILPOINTS=f"collecting.written=freeze@{DOWNLOADS // 2}"
    )
    until(lambda: state(worker) == "T", why=service.tails)

    held = service.rows(COLLECTING)[0][0]
    worker.popen.send_signal(signal.SIGTERM)
    worker.popen.send_signal(signal.SIGCONT)
    exit_seconds(worker)
    service.worker()
    service.settle(seconds=AT_ONCE_SECONDS)

    assert held > 0
    assert service.rows(ATTEMPTS) == [(DOWNLOADS, 1)]
    assert service.rows(COUNTED) == [(0,)]
    assert_each_once(service, accepted)


def created(service: Service) -> int:
    """Return the number of created predictions."""
    found: int = service.rows("SELECT count(prediction_id) FROM attempts")[0][0]
    return found


def exit_seconds(process: Process) -> float:
    """Stop a process like an operator, and return the duration."""
    began = time.monotonic()
    code = process.stop()
    took = time.monotonic() - began
    assert code == 0, process.tail()
    assert took < EXIT_SECONDS
    print(f"exit after {took:.1f} s")  # noqa: T201 - shown by pytest -rP
    return took


@contextmanager
def slow_readers(service: Service, url: str) -> Generator[Sequence[socket.socket]]:
    """Begin downloads of a file on many connections, and stop reading."""
    path = url.partition(str(service.port))[2]
    with ExitStack() as stack:
        readers = []
        for _ in range(READERS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", service.port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * PIPELINED)
            assert reader.recv(1024).startswith(b"HTTP/1.1 200")
            readers.append(reader)
        yield readers


async def test_waiting_requests_get_a_response_at_shutdown(service: Service) -> None:
    """Streams end properly, waiting submissions get their job, and no connection is cut."""
    process = service.serve(**delay("600"))
    job_id = service.submit(parameters=SMALL)
    async with AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(
                EventReader(service.port, f"/api/v1/jobs/{job_id}/events")
            )
            for _ in range(STREAMS)
        ]
        for follower in followers:
            await follower.until("job.created")
        waiters = [asyncio.create_task(answered(service)) for _ in range(WAITERS)]
        await asyncio.to_thread(until, lambda: accepted(service) > WAITERS, why=service.tails)

        took = await asyncio.to_thread(exit_seconds, process)
        ends = [await follower.rest() for follower in followers]
        answers = await asyncio.gather(*waiters)

    print(f"{STREAMS} streams and {WAITERS} waiters: {took:.1f} s")  # noqa: T201 - shown by pytest -rP
    assert all(not end or end[-1].type.startswith("job.") for end in ends)
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 201"}
    assert all(b"preference-applied: wait=60" in answer.lower() for answer in answers)


async def answered(service: Service) -> bytes:
    """Submit a job and return the late response; a refusal for overload is repeated."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(POST)
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 503"):
            return answer
        await asyncio.sleep(RETRY_SECONDS)


def accepted(service: Service) -> int:
    """Return the number of jobs."""
    found: int = service.rows("SELECT count(*) FROM jobs")[0][0]
    return found
