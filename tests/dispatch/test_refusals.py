"""A broker that refuses commands is treated like an unreachable one."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from redisserver import RedisServer
from refusingredis import RefusingRedis
from service_process import SMALL, Service, running, until

SETTLE: Final = 300.0  # seconds

REFUSALS: Final = {
    "a replica after a failover": b"-READONLY You can't write against a read only replica.\r\n",
    "unblocked by a failover": b"-UNBLOCKED force unblock from blocking operation\r\n",
    "starting": b"-LOADING Redis is loading the dataset in memory\r\n",
    "full": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "a password since": b"-NOAUTH Authentication required.\r\n",
    "fewer rights": b"-NOPERM this user has no permissions to run the 'brpop' command\r\n",
    "full of clients": b"-ERR max number of clients reached\r\n",
    "not Redis at all": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
}
KINDS: Final = ["a replica after a failover", "starting", "a password since", "not Redis at all"]
"""One refusal for each class of error that the client for Redis makes of them."""

TIMES: Final = 3  # how often the broker has refused before it complies


@pytest.fixture
def refusing(own_redis: RedisServer) -> Generator[RefusingRedis]:
    """Yield a Redis that can be made to refuse commands."""
    proxy = RefusingRedis(own_redis.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize(
    ("dispatch", "refusals"),
    [("celery", list(REFUSALS)), ("dramatiq", KINDS)],
    ids=["celery", "dramatiq"],
)
def test_a_refusing_broker_ends_no_process(
    tmp_path: Path, refusing: RefusingRedis, dispatch: str, refusals: list[str]
) -> None:
    """Jobs are accepted meanwhile and start later; no attempt is used up."""
    with running(
        tmp_path, REDIS_URL=refusing.url(), DISPATCH=dispatch, HEARTBEAT_SECONDS="5"
    ) as service:
        service.serve()
        service.worker()
        for refusal in refusals:
            _refuse_for_a_while(service, refusing, refusal)
        counts = service.rows(
            "SELECT status, attempt, crashes, count(*) FROM jobs GROUP BY 1, 2, 3"
        )

        assert counts == [("completed", 1, 0, len(refusals))]
        assert [process.stop() for process in service.processes] == [0, 0]
        assert all("Traceback" not in process.tail() for process in service.processes)


def test_a_worker_that_starts_during_an_outage_waits(
    tmp_path: Path, refusing: RefusingRedis
) -> None:
    """A machine starts all of its services at once."""
    refusing.refuse(REFUSALS["starting"])
    with running(tmp_path, REDIS_URL=refusing.url(), DISPATCH="celery") as service:
        service.serve("--no-worker")
        worker = service.worker()
        seen = refusing.refusals
        until(lambda: refusing.refusals > seen + 2, why=service.tails)

        refusing.comply()
        service.submit(parameters=SMALL)

        assert service.settle(seconds=SETTLE)["completed"] == 1
        assert worker.popen.poll() is None


def test_a_failover_of_redis_is_survived(tmp_path: Path, own_redis: RedisServer) -> None:
    """A real one, which also disconnects blocked clients."""
    with running(tmp_path, REDIS_URL=own_redis.url(), DISPATCH="celery") as service:
        service.serve()
        own_redis.command("REPLICAOF", "127.0.0.1", str(own_redis.port + 1))
        service.submit(parameters=SMALL)
        until(lambda: _health(service) == "unhealthy", why=service.tails)

        own_redis.command("REPLICAOF", "NO", "ONE")

        assert service.settle(seconds=SETTLE)["completed"] == 1


def _refuse_for_a_while(service: Service, refusing: RefusingRedis, refusal: str) -> None:
    before = refusing.refusals
    refusing.refuse(REFUSALS[refusal])
    service.submit(parameters=SMALL)
    until(lambda: refusing.refusals > before + TIMES, why=lambda: f"{refusal}\n{service.tails()}")
    assert _health(service) == "unhealthy", refusal
    ended = [process.command for process in service.processes if process.popen.poll() is not None]
    assert not ended, f"{refusal}\n{service.tails()}"
    refusing.comply()
    service.settle(seconds=SETTLE)


def _health(service: Service) -> str:
    checks = service.http.get("/health/detailed").json()["checks"]
    return str(checks["dispatcher"]["status"])
