"""Workers as real processes on PostgreSQL and Redis: each way to start one, and its failures."""

import json
import pickle
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest

from backing_services import Postgres, free_port
from redisserver import RedisServer
from service_process import (
    PATIENCE,
    SMALL,
    Process,
    Service,
    assert_each_once,
    delay,
    running,
    running_on,
    until,
)

CELERY: Final = ["-A", "fleek.dispatch.celery"]
WORKER: Final = [*CELERY, "worker", "--pool", "threads", "-c", "64"]

SETTLE: Final = 300.0  # seconds
WAVE: Final = 12  # jobs that a worker is stopped in the middle of
SHOWN: Final = {
    ("fleek.start", "FAILURE"),
    ("fleek.start", "SUCCESS"),
    ("fleek.collect", "SUCCESS"),
}

Start = Callable[[Service], Process]


def fleek_worker(service: Service) -> Process:
    """Start ``fleek worker``."""
    return service.start("worker")


def celery_worker(service: Service) -> Process:
    """Start Celery's own command."""
    return service.start(*WORKER, program="celery", DISPATCH="")


def dramatiq_worker(service: Service) -> Process:
    """Start Dramatiq's own command, which forks."""
    options = ["--processes", "2", "--threads", "16"]
    return service.start("fleek.dispatch.dramatiq", *options, program="dramatiq", DISPATCH="")


@contextmanager
def serving(
    folder: Path, postgres: Postgres, redis: RedisServer, dispatch: str
) -> Generator[Service]:
    """Yield a service with its own database; no process is started."""
    with running_on(
        postgres,
        folder,
        REDIS_URL=redis.url(),
        DISPATCH=dispatch,
        HEARTBEAT_SECONDS="5",  # the lease of a slow worker must not expire
        **delay("0.2"),
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    ("dispatch", "start"),
    [
        ("celery", celery_worker),
        ("celery", fleek_worker),
        ("dramatiq", dramatiq_worker),
        ("dramatiq", fleek_worker),
    ],
)
def test_a_stopped_worker_leaves_its_jobs_to_the_next(
    tmp_path: Path, postgres: Postgres, redis: RedisServer, dispatch: str, start: Start
) -> None:
    """After SIGTERM it exits in time, and no job is lost or paid for twice."""
    with serving(tmp_path, postgres, redis, dispatch) as service:
        service.serve("--no-worker")
        first = start(service)
        accepted = service.submit_many(WAVE, parameters=SMALL)
        until(lambda: service.by_status()["completed"] > 0, why=service.tails)
        accepted += service.submit_many(WAVE, parameters=SMALL)

        code = first.stop()
        second = start(service)
        try:
            second.await_log("worker_registered")
            service.settle(seconds=SETTLE)
            counted = service.rows("SELECT count(*) FROM jobs WHERE crashes > 0 OR retries > 0")
            until(lambda: dispatcher(service) == "healthy", why=service.tails)
        finally:
            left = second.stop()  # Dramatiq's children would outlive it, and take ids

        assert (code, left) == (0, 0), first.tail()
        assert_each_once(service, accepted)
        assert counted == [(0,)]
        assert all(is_ours(line) for line in second.log.read_text().splitlines())


UNACKNOWLEDGED: Final = {"celery": "unacked", "dramatiq": "fleek:start.msgs"}


@pytest.mark.parametrize(
    ("dispatch", "moment"), [("celery", "start.sent"), ("dramatiq", "start.send")]
)
def test_a_worker_killed_in_the_middle_of_a_message_loses_none_of_its_jobs(
    tmp_path: Path, postgres: Postgres, redis: RedisServer, dispatch: str, moment: str
) -> None:
    """Some of its ids are claimed, one is paid for or about to be, and some have not begun."""
    with serving(tmp_path, postgres, redis, dispatch) as service:
        service.serve("--no-worker")
        accepted = service.submit_many(WAVE, parameters=SMALL)
        first = service.start("worker", FLEEK_FAILPOINTS=f"{moment}=kill@3")
        first.wait()
        messages = int(redis.command("HLEN", UNACKNOWLEDGED[dispatch])[1:])
        second = service.start("worker")
        try:
            service.settle(seconds=SETTLE)
        finally:
            second.stop()

        assert 0 < messages < WAVE
        assert_each_once(service, accepted)


def dispatcher(service: Service) -> str:
    """Return the status of the dispatcher's health check."""
    checks = service.http.get("/health/detailed").json()["checks"]
    return str(checks["dispatcher"]["status"])


def is_ours(line: str) -> bool:
    """Return whether a line is JSON, or one of the few lines of Dramatiq's parent process."""
    if re.match(r"\[.*\[dramatiq.MainProcess\] \[INFO\]", line):
        return True
    return "event" in json.loads(line)


def garbage(queue: str, redis: RedisServer) -> int:
    """Put invalid messages before all others, and return how many."""
    body = "W1tdLCB7fSwge31d"  # [[], {}, {}]
    properties = {
        "delivery_tag": "t",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": queue},
    }
    unknown = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "os.system", "id": "x"},
        "properties": properties,
    }
    foreign = {**unknown, "headers": {"task": "fleek.start", "id": "x"}}
    pickled = {**foreign, "content-type": "application/x-python-serialize"}
    invalid: list[bytes] = [
        b"\xff\x00garbage",
        pickle.dumps({"task": "fleek.start"}),
        b"[" * 100_000,
        b"[]",
        b'{"body": "x", "headers": {}, "properties": {}}',
        json.dumps(unknown).encode(),
        json.dumps(foreign).encode(),
        json.dumps(pickled).encode(),
    ]
    for one in invalid:
        if queue.startswith("fleek:"):
            redis.command("HSET", f"{queue}.msgs", name := uuid4().hex, one)
            redis.command("RPUSH", queue, name)
        else:
            redis.command("RPUSH", queue, one)
    return len(invalid)


@pytest.mark.parametrize(
    ("dispatch", "queue"), [("celery", "fleek.start"), ("dramatiq", "fleek:start")]
)
def test_invalid_messages_are_dropped_and_counted(
    tmp_path: Path, postgres: Postgres, redis: RedisServer, dispatch: str, queue: str
) -> None:
    """Valid messages behind them arrive; API and worker are one process here."""
    with serving(tmp_path, postgres, redis, dispatch) as service:
        expected = garbage(queue, redis)
        process = service.serve()

        accepted = service.submit_many(5, parameters=SMALL)
        service.settle(seconds=SETTLE)
        until(lambda: dropped(service) >= expected, why=service.tails)
        kept = ("EXISTS", queue, f"{queue}.msgs", "unacked")
        until(lambda: redis.command(*kept) == b":0\r\n", why=service.tails)

        assert dropped(service) == expected
        assert process.log.read_text().count("message_dropped") == expected
        assert_each_once(service, accepted)
        assert process.stop() == 0


def dropped(service: Service) -> int:
    """Return how many messages the service has counted as dropped."""
    text = service.http.get("/metrics", headers={"accept": "text/plain"}).text
    found = re.findall(r"^fleek_dropped_messages_total\{.*\} (.*)$", text, re.MULTILINE)
    return int(sum(map(float, found)))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--pool", "prefork"], "fleek: the pool 'prefork' cannot run its tasks; start it with: "),
        (["--pool", "solo"], "fleek: the pool 'solo' cannot run its tasks; start it with: "),
        (
            ["--pool", "threads", "-c", "2"],
            "fleek: only 2 jobs can be started or collected at once",
        ),
    ],
)
def test_an_unsuitable_celery_pool_is_a_one_line_error(
    tmp_path: Path, redis: RedisServer, options: list[str], line: str
) -> None:
    """Celery's default pool would start, and do almost nothing."""
    with running(tmp_path, REDIS_URL=redis.url()) as service:
        worker = service.start(*CELERY, "worker", *options, program="celery")

        worker.await_log(line)

        assert worker.log.read_text().count("fleek: ") == 1


def test_too_few_dramatiq_threads_are_a_one_line_warning(
    tmp_path: Path, postgres: Postgres, redis: RedisServer
) -> None:
    """Its default of eight is meant for computation."""
    with serving(tmp_path, postgres, redis, "dramatiq") as service:
        worker = service.start("fleek.dispatch.dramatiq", "-p", "1", program="dramatiq")

        worker.await_log("fleek: only 8 jobs can be started or collected at once")
        worker.await_log("ready for action")

        assert worker.stop() == 0


def test_flower_shows_workers_tasks_and_failures(
    tmp_path: Path, postgres: Postgres, redis: RedisServer
) -> None:
    """Operators of Celery use it."""
    port = free_port()
    with (
        serving(tmp_path, postgres, redis, "celery") as service,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=PATIENCE) as flower,
    ):
        service.serve("--no-worker")
        options = [f"--port={port}", "--address=127.0.0.1"]
        service.start(
            *CELERY, "flower", *options, program="celery", FLOWER_UNAUTHENTICATED_API="true"
        )
        until(lambda: answers(flower), why=service.tails)
        service.start(*WORKER, program="celery")
        failing = ("--hostname", "failing@%h")
        always = "starting.write=oserror@*"
        service.start(*WORKER, *failing, program="celery", FLEEK_FAILPOINTS=always)

        def shows_all() -> bool:
            """Submit another job: what was done before Flower asked for events is not shown."""
            service.submit(parameters=SMALL)
            return {(one["name"], one["state"]) for one in tasks(flower)} >= SHOWN

        until(shows_all, look_seconds=1, why=lambda: f"{tasks(flower)}\n{service.tails()}")

        ended = [one for one in tasks(flower) if one["name"] and one["state"] == "SUCCESS"]
        assert all(one["runtime"] > 0 for one in ended)
        assert any("failpoint" in (one["exception"] or "") for one in tasks(flower))


def answers(flower: httpx2.Client) -> bool:
    """Return whether Flower has started."""
    try:
        return flower.get("/tasks").status_code == 200
    except httpx2.TransportError:
        return False


def tasks(flower: httpx2.Client) -> list[dict[str, Any]]:
    """Return the ended tasks that Flower shows."""
    found: dict[str, dict[str, Any]] = flower.get("/tasks").json()
    return [one for one in found.values() if one["state"] in {"SUCCESS", "FAILURE"}]
