"""`WORKER_PROCESS`: the worker beside the API, in a process that the API's process starts and ends."""

import os
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from backing_services import Postgres
from chaos.host import Host
from service_process import Process, Service, assert_each_once, running_on, until

WAVE = 12  # jobs at each kill
SETTLE = 300.0  # seconds

WORKER = "SELECT pid FROM workers WHERE ended_at IS NULL ORDER BY started_at DESC LIMIT 1"


@pytest.fixture
def host(_full_suite: None, tmp_path: Path) -> Generator[Host]:
    """Yield a provider with a ledger."""
    opened = Host(tmp_path, seed=0)
    yield opened
    opened.close()


@pytest.fixture
def service(host: Host, tmp_path: Path, postgres: Postgres) -> Generator[Service]:
    """Yield a service on PostgreSQL whose worker is a process of its own."""
    settings = {**host.settings(), "WORKER_PROCESS": "true", "HEARTBEAT_SECONDS": "1"}
    with running_on(postgres, tmp_path, **settings) as opened:
        yield opened
        for process in opened.processes:
            process.kill()
        until(lambda: not workers_of(opened), why=opened.tails)  # then its database may go


def kill_the_worker(service: Service, api: Process) -> Process:
    """It is started again."""
    before = worker_of(service)
    os.kill(before, signal.SIGKILL)
    until(lambda: set(workers_of(service)) - {before}, why=service.tails)
    assert "worker_process_ended" in api.log.read_text()
    return api


def kill_the_api(service: Service, api: Process) -> Process:
    """The worker ends with it: no orphan is left to the next one."""
    orphan = worker_of(service)
    api.kill()
    until(lambda: not is_running(orphan), why=service.tails)
    return service.serve()


def kill_both(service: Service, api: Process) -> Process:
    """A power failure."""
    worker = worker_of(service)
    api.popen.send_signal(signal.SIGSTOP)  # so that it does not start another one
    os.kill(worker, signal.SIGKILL)
    api.kill()
    return service.serve()


def test_jobs_survive_each_kill_and_are_paid_for_once(service: Service, host: Host) -> None:
    """Whichever of the two processes is killed, or both of them."""
    api = service.serve()
    accepted: list[str] = []
    kills: list[Callable[[Service, Process], Process]] = [kill_the_worker, kill_the_api, kill_both]
    for number, kill in enumerate(kills):
        worker_of(service)
        accepted += service.submit_many(WAVE)
        await_predictions(service, host, more_than=number * WAVE)
        api = kill(service, api)
    service.settle(seconds=SETTLE)

    assert_each_once(service, accepted)
    assert len(host.ledger()["predictions"]) == len(accepted)


def test_health_names_the_worker_beside_the_api(service: Service) -> None:
    """It is alive, and it is not the process that answers."""
    service.serve()
    worker_of(service)

    health = service.http.get("/health/detailed").json()

    assert [worker["here"] for worker in health["workers"]] == [False]
    assert health["checks"]["workers"]["status"] == "healthy"


def test_the_worker_leaves_the_cores_to_the_api(service: Service) -> None:
    """Callers wait for the one process, and nobody for the other."""
    api = service.serve()

    worker = worker_of(service)

    courtesy = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (api.popen.pid, worker)]
    assert courtesy[1] > courtesy[0]


def test_both_stop_together(service: Service) -> None:
    """SIGTERM to the API's process is enough, and nothing counts as a crash."""
    api = service.serve()
    worker = worker_of(service)
    accepted = service.submit_many(WAVE)

    code = api.stop()

    assert code == 0
    assert not is_running(worker)
    assert service.rows("SELECT count(*) FROM jobs WHERE crashes > 0") == [(0,)]
    service.serve()
    service.settle(seconds=SETTLE)
    assert_each_once(service, accepted)


def test_a_second_signal_ends_a_worker_that_does_not_stop(service: Service) -> None:
    """As it ends requests that do not end."""
    api = service.serve()
    worker = worker_of(service)
    os.kill(worker, signal.SIGSTOP)
    until(lambda: state_of(worker) == "T", why=service.tails)

    api.popen.send_signal(signal.SIGTERM)
    until(lambda: refuses(service), why=service.tails)
    api.popen.send_signal(signal.SIGTERM)

    assert api.wait() == 0
    assert not is_running(worker)


def await_predictions(service: Service, host: Host, *, more_than: int) -> None:
    """Wait until the provider has started so many predictions."""
    until(lambda: len(host.ledger()["predictions"]) > more_than, why=service.tails)


def worker_of(service: Service) -> int:
    """Wait for a registered worker that runs, and return its process id."""
    until(lambda: workers_of(service), why=service.tails)
    return workers_of(service)[0]


def workers_of(service: Service) -> list[int]:
    """Return the latest registered worker if it runs."""
    return [pid for (pid,) in service.rows(WORKER) if is_running(pid)]


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    return state_of(pid) not in {"", "Z"}


def state_of(pid: int) -> str:
    """Return the process state of the system: T if it is stopped, Z if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def refuses(service: Service) -> bool:
    """Whether the API listens no more."""
    try:
        socket.create_connection(("127.0.0.1", service.port)).close()
    except OSError:
        return True
    return False
