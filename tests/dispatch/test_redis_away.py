"""Redis is stopped: Dramatiq's workers can still be stopped, and continue after its restart."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final
from uuid import UUID

import pytest
from dramatiq import Worker
from structlog.testing import capture_logs

from fleek.dispatch.base import Task
from fleek.dispatch.bridge import Bridge
from fleek.dispatch.dramatiq.broker import DramatiqSettings, FleekBroker
from fleek.domain.job import JobId
from redisserver import RedisServer
from service_process import until

JOB: Final = JobId(UUID(int=7))
LIMIT: Final = 30.0  # seconds; more than four times what is needed


class Held(Bridge):
    """Block the first id until it is released, and count ids."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)
        self.let_go = threading.Event()

    def receive(self, task: Task, *job_ids: JobId) -> None:
        """Block the thread."""
        assert (task, job_ids) == ("start", (JOB,))
        self.came.release()
        self.let_go.wait(LIMIT)


@pytest.fixture
def held() -> Held:
    """Return the bridge that receives ids."""
    return Held()


@pytest.fixture
def broker(own_redis: RedisServer, held: Held) -> Generator[FleekBroker]:
    """Yield a broker as Dramatiq's workers use it."""
    with closing(FleekBroker(DramatiqSettings(redis_url=own_redis.url()), held)) as opened:
        yield opened


def test_a_task_that_ends_during_an_outage_frees_its_thread(
    broker: FleekBroker, own_redis: RedisServer, held: Held
) -> None:
    """Dramatiq would repeat the acknowledgement forever, and a stopped worker would not end."""
    worker = Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    broker.send("start", [JOB])
    assert held.came.acquire(timeout=LIMIT)
    own_redis.stop()
    for thread in worker.workers:
        thread.stop()

    held.let_go.set()
    for thread in worker.workers:
        thread.join(LIMIT)

    assert not any(thread.is_alive() for thread in worker.workers)
    worker.stop(timeout=int(LIMIT * 1000))


def test_an_outage_of_redis_is_logged_once_and_ends(
    broker: FleekBroker, own_redis: RedisServer
) -> None:
    """An outage of an hour must not write thousands of lines."""
    with capture_logs() as lines:
        own_redis.stop()
        away = [broker.do_fetch("start", 1), broker.do_fetch("start", 1)]
        own_redis.start()
        broker.send("start", [JOB])
        back = broker.do_fetch("start", 1)

    assert (away, len(back)) == ([[], []], 1)
    assert [one["event"] for one in lines] == ["broker_unreachable", "broker_reconnected"]


def test_an_idle_worker_waits_for_a_message_at_redis(
    broker: FleekBroker, own_redis: RedisServer
) -> None:
    """It would otherwise ask ten times a second, and get the message late all the same."""

    def fetch() -> list[bytes]:
        while not (found := broker.do_fetch("start", 1)):
            pass  # the library asks again, too
        return found

    with ThreadPoolExecutor(1) as thread:
        fetching = thread.submit(fetch)
        until(lambda: b"cmd=blmove" in own_redis.command("CLIENT", "LIST"), why=lambda: "no wait")
        broker.send("start", [JOB])

        assert len(fetching.result(LIMIT)) == 1


def test_a_redis_that_cannot_be_watched_is_polled(
    broker: FleekBroker, own_redis: RedisServer
) -> None:
    """One before 6.2 does not know the command."""
    own_redis.command("ACL", "SETUSER", "default", "-blmove")
    with capture_logs() as lines:
        empty = [broker.do_fetch("start", 1), broker.do_fetch("start", 1)]
        broker.send("start", [JOB])
        full = broker.do_fetch("start", 1)

    assert (empty, len(full)) == ([[], []], 1)
    assert [one["event"] for one in lines] == ["broker_polled"]
