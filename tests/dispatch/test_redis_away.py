"""Dramatiq's Redis goes away: workers can still be stopped, and go on when it is back."""

import threading
from collections.abc import Generator
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

JOB: Final = JobId(UUID(int=7))
LIMIT: Final = 30.0  # seconds; a quarter of them would do


class Held(Bridge):
    """Holds the first id until it is let go, and notes how many have come."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)
        self.let_go = threading.Event()

    def receive(self, task: Task, job_id: JobId) -> None:
        """Hold the thread."""
        assert (task, job_id) == ("start", JOB)
        self.came.release()
        self.let_go.wait(LIMIT)


@pytest.fixture
def held() -> Held:
    """Return where ids arrive."""
    return Held()


@pytest.fixture
def broker(own_redis: RedisServer, held: Held) -> Generator[FleekBroker]:
    """Give a broker as Dramatiq's workers use it."""
    with closing(FleekBroker(DramatiqSettings(redis_url=own_redis.url()), held)) as opened:
        yield opened


def test_a_task_that_ends_while_redis_is_away_frees_its_thread(
    broker: FleekBroker, own_redis: RedisServer, held: Held
) -> None:
    """Dramatiq would tell Redis until it hears it, and a stopped worker would not end."""
    worker = Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    broker.send("start", JOB)
    assert held.came.acquire(timeout=LIMIT)
    own_redis.stop()
    for thread in worker.workers:
        thread.stop()

    held.let_go.set()
    for thread in worker.workers:
        thread.join(LIMIT)

    assert not any(thread.is_alive() for thread in worker.workers)
    worker.stop(timeout=int(LIMIT * 1000))


def test_a_worker_says_once_that_redis_is_away_and_goes_on_when_it_is_back(
    broker: FleekBroker, own_redis: RedisServer
) -> None:
    """An outage of an hour is no reason for thousands of lines."""
    with capture_logs() as said:
        own_redis.stop()
        away = [broker.do_fetch("start", 1), broker.do_fetch("start", 1)]
        own_redis.start()
        broker.send("start", JOB)
        back = broker.do_fetch("start", 1)

    assert (away, len(back)) == ([[], []], 1)
    assert [one["event"] for one in said] == ["broker_unreachable", "broker_reconnected"]
