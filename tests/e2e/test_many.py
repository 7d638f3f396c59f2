"""Two APIs, three workers, PostgreSQL and Redis: each is disturbed, and every job ends once."""

import asyncio
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from backing_services import Postgres, free_port
from callers import load
from fleek import registry
from fleek.domain.errors import DispatcherUnavailable
from fleek.domain.job import JobId
from redisserver import RedisServer
from service_process import (
    COORDINATOR,
    PATIENCE,
    SMALL,
    Process,
    Service,
    assert_each_once,
    running_on,
    until,
)

WAVE: Final = 12  # jobs in flight at each disturbance
SETTLE: Final = 300.0  # seconds; a lost dispatch is repeated after thirty
DOWN_SECONDS: Final = 3.0
CALM_SECONDS: Final = 0.2  # between two rounds of a caller: more jobs would prove nothing more
TIMES: Final = 3  # minimum number of deliveries per message


class Many:
    """The processes of an installation."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.second = str(free_port())
        self.urls = [f"http://127.0.0.1:{port}" for port in (service.port, self.second)]
        self.apis: list[Process] = []
        self.workers: list[Process] = []

    def start(self) -> None:
        """Start two APIs and three workers."""
        self.apis = [self._start_api(None), self._start_api(self.second)]
        for api in self.apis:
            api.await_line("is ready")
        self.workers = [self.service.start("worker") for _ in range(3)]
        for worker in self.workers:
            worker.await_log("worker_registered")

    def replace_api(self) -> None:
        """Kill the second API, and start another."""
        self.apis.pop().kill()
        self.apis.append(self._start_api(self.second))
        self.apis[-1].await_line("is ready")

    def kill_worker(self, *, coordinator: bool) -> None:
        """Kill the coordinating worker, or another one, and start a new one."""
        holder = self._coordinator()
        victim = next(one for one in self.workers if (one is holder) is coordinator)
        victim.kill()
        self.workers.remove(victim)
        self.workers.append(self.service.start("worker"))

    def ended(self) -> list[tuple[int | None, str]]:
        """Return exit code and last lines of each process that has ended by itself."""
        every = (*self.apis, *self.workers)
        return [(one.popen.poll(), one.tail()) for one in every if one.popen.poll() is not None]

    def _start_api(self, port: str | None) -> Process:
        other = {} if port is None else {"API_PORT": port}
        return self.service.start("serve", "--no-worker", **other)

    def _coordinator(self) -> Process:
        pids = {one.pid: one for one in self.workers}

        def holders() -> set[int]:
            return {pid for (pid,) in self.service.rows(COORDINATOR)} & set(pids)

        until(holders, why=self.service.tails)
        return pids[holders().pop()]


@contextmanager
def installed(
    folder: Path, postgres: Postgres, redis: RedisServer, dispatch: str
) -> Generator[Many]:
    """Yield a running installation on a database of its own."""
    with running_on(
        postgres,
        folder,
        REDIS_URL=redis.url(),
        DISPATCH=dispatch,
        HEARTBEAT_SECONDS="1",
        REPLICATE_MOCK_DELAY_MIN="0.2",
        REPLICATE_MOCK_DELAY_MAX="1.5",
    ) as service:
        many = Many(service)
        many.start()
        yield many


@pytest.mark.parametrize("dispatch", ["celery", "dramatiq"])
def test_every_job_ends_once_after_any_disturbance(
    tmp_path: Path,
    own_postgres: Postgres,
    own_redis: RedisServer,
    dispatch: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes, the broker and the database in turn; nobody has to restart the others."""
    monkeypatch.setenv("REDIS_URL", own_redis.url())
    accepted: list[str] = []
    with installed(tmp_path, own_postgres, own_redis, dispatch) as many:
        for disturb in (
            kill_some,
            partial(repeat_messages, dispatch=dispatch),
            partial(empty_and_stop, redis=own_redis),
            partial(restart, postgres=own_postgres),
        ):
            accepted += disturb(many)
            many.service.settle(seconds=SETTLE)
            assert_each_once(many.service, accepted)
        assert many.ended() == []


def kill_some(many: Many) -> list[str]:
    """Kill workers, the coordinator, an API: the remaining or the next processes end their work."""
    service = many.service
    accepted = service.submit_many(WAVE, parameters=SMALL)
    many.kill_worker(coordinator=False)
    accepted += service.submit_many(WAVE, parameters=SMALL)
    many.kill_worker(coordinator=True)
    accepted += service.submit_many(WAVE, parameters=SMALL)
    many.replace_api()
    return accepted + service.submit_many(WAVE, parameters=SMALL)


def repeat_messages(many: Many, *, dispatch: str) -> list[str]:
    """Brokers deliver at least once; each message is delivered three times or more."""
    accepted = many.service.submit_many(WAVE, parameters=SMALL)
    with repeating(dispatch, accepted) as sent:
        many.service.settle(seconds=SETTLE)
    assert min(sent.values()) >= TIMES
    return accepted


def empty_and_stop(many: Many, *, redis: RedisServer) -> list[str]:
    """Redis only carries dispatches: callers notice nothing, and lost ones are repeated."""
    service = many.service
    accepted = service.submit_many(WAVE, parameters=SMALL)
    redis.empty()
    accepted += service.submit_many(WAVE, parameters=SMALL)
    redis.stop()
    with load(*many.urls, pause_seconds=CALM_SECONDS) as seen:
        time.sleep(DOWN_SECONDS)  # the outage itself
        until(lambda: len(seen.accepted) > WAVE, why=service.tails)
        during: dict[str, Any] = {}

        def degraded() -> bool:
            during.update(service.http.get("/health/detailed").json())
            return bool(during["status"] == "degraded")

        until(degraded, why=lambda: f"{during}\n{service.tails()}")
    redis.start()
    until(lambda: state(service) == "healthy", why=service.tails)

    assert seen.broken == []
    assert during["checks"]["dispatcher"]["status"] == "unhealthy"
    assert "REDIS_URL" in during["checks"]["dispatcher"]["advice"]
    return accepted + seen.accepted


def state(service: Service) -> str:
    """Return the overall health."""
    found: str = service.http.get("/health/detailed").json()["status"]
    return found


def restart(many: Many, *, postgres: Postgres) -> list[str]:
    """Callers get temporary errors only."""
    with load(*many.urls, pause_seconds=CALM_SECONDS) as seen:
        until(lambda: len(seen.accepted) > WAVE, why=many.service.tails)
        postgres.stop("immediate")
        until(lambda: seen.refused > 0, why=many.service.tails)
        known = len(seen.accepted)
        postgres.start()
        until(lambda: len(seen.accepted) > known + WAVE, why=many.service.tails)

    assert seen.broken == []
    return seen.accepted


@contextmanager
def repeating(dispatch: str, accepted: Sequence[str]) -> Generator[dict[str, int]]:
    """Send both tasks for every job repeatedly, and yield the numbers after the block."""
    sent = dict.fromkeys(accepted, 0)
    over = threading.Event()
    sender = threading.Thread(target=lambda: asyncio.run(_repeat(dispatch, sent, over)))
    sender.start()
    try:
        yield sent
    finally:
        over.set()
        sender.join(PATIENCE)


async def _repeat(dispatch: str, sent: dict[str, int], over: threading.Event) -> None:
    connect = registry.load(registry.dispatchers(), dispatch, setting="DISPATCH")
    async with connect() as dispatcher:
        while min(sent.values()) < TIMES or not over.is_set():
            for job_id in sent:
                with suppress(DispatcherUnavailable):  # Redis did not respond in time
                    await dispatcher.enqueue("start", JobId(UUID(job_id)))
                    await dispatcher.enqueue("collect", JobId(UUID(job_id)))
                    sent[job_id] += 1
            await asyncio.sleep(0.2)
