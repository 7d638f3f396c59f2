"""SIGTERM in the middle of everything: quick, and nothing is lost or counted."""

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

WAITING = 200  # more than a worker starts at once
READERS = 20
PIPELINED = 20  # requests on each connection: more bytes than the kernel takes off our hands
LARGE = {"width": 1280, "height": 1280}  # takes a while to read
DOWNLOADS = 8
EXIT_SECONDS = 60.0  # ten, and what a busy machine adds; who hangs is ended after 25, with code 1
AT_ONCE_SECONDS = 180.0  # whoever is silent is taken for dead after 360
SETTLE = 300.0  # seconds
STREAMS = 200
WAITERS = 500
RETRY_SECONDS = 1  # as a refusal says
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
    """Give a service in which nobody is taken for dead before the test is over."""
    with running(tmp_path, HEARTBEAT_SECONDS="60") as opened:
        yield opened


def test_hundreds_of_jobs_wait_for_the_next_process(service: Service) -> None:
    """Their predictions are bought; stopping costs none of them anything, and callers little."""
    process = service.serve(**delay("0"))
    picture = service.submit("a large one", parameters=LARGE)
    service.settle(seconds=SETTLE)
    url = service.job(picture)["result_url"]
    assert process.stop() == 0
    process = service.serve(**delay("600"))
    accepted = [picture, *service.submit_many(WAITING, parameters=SMALL)]
    until(lambda: bought(service) == WAITING + 1, seconds=SETTLE, why=service.tails)

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


def test_what_is_being_collected_is_collected_by_the_next_process(service: Service) -> None:
    """A file that is half stored is stored again, from the same prediction."""
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


def bought(service: Service) -> int:
    """Return how many predictions have been bought."""
    found: int = service.rows("SELECT count(prediction_id) FROM attempts")[0][0]
    return found


def exit_seconds(process: Process) -> float:
    """Stop a process as an operator would; returns how long that took."""
    began = time.monotonic()
    code = process.stop()
    took = time.monotonic() - began
    assert code == 0, process.tail()
    assert took < EXIT_SECONDS
    print(f"exit after {took:.1f} s")  # noqa: T201 - shown by pytest -rP
    return took


@contextmanager
def slow_readers(service: Service, url: str) -> Generator[Sequence[socket.socket]]:
    """Begin to download a file on many connections, and do not go on reading."""
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


async def test_whoever_waits_is_answered_when_the_service_stops(service: Service) -> None:
    """Streams end, and waiting submissions have their job: nobody sees a cut connection."""
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
    """Submit a job and return the answer, which comes late; a refusal for overload is repeated."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(POST)
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 503"):
            return answer
        await asyncio.sleep(RETRY_SECONDS)


def accepted(service: Service) -> int:
    """Return how many jobs there are."""
    found: int = service.rows("SELECT count(*) FROM jobs")[0][0]
    return found
