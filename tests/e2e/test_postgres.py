"""An API and two workers on one PostgreSQL: each of them is killed, then PostgreSQL itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from backing_services import Postgres
from callers import load
from service_process import COORDINATOR, SMALL, Process, Service, assert_each_once, running, until

BACK_SECONDS = 90.0  # ten on an idle machine
OUTSTANDING = 20  # waiting jobs at each kill


@dataclass
class Processes:
    """The processes of an installation."""

    api: Process
    workers: list[Process]

    def coordinator(self, service: Service) -> Process:
        """Return the coordinating worker."""
        pids = {one.pid: one for one in self.workers}

        def holders() -> set[int]:
            return {pid for (pid,) in service.rows(COORDINATOR)} & set(pids)

        until(holders, why=service.tails)
        return pids[holders().pop()]


def start(service: Service) -> Processes:
    """Start an API and two workers."""
    api = service.start("serve", "--no-worker")
    workers = [service.start("worker"), service.start("worker")]
    api.await_line("is ready")
    for worker in workers:
        worker.await_log("worker_registered")
    return Processes(api, workers)


def kill_a_worker(service: Service, cast: Processes) -> None:
    """Kill the worker that does not coordinate; the other one continues alone."""
    holder = cast.coordinator(service)
    next(one for one in cast.workers if one is not holder).kill()


def kill_the_coordinator(service: Service, cast: Processes) -> None:
    """Kill the coordinating worker; the other one takes over."""
    holder = cast.coordinator(service)
    holder.kill()
    cast.workers.remove(holder)
    cast.coordinator(service)


def kill_the_api(service: Service, cast: Processes) -> None:
    """Kill the API, and start another one."""
    cast.api.kill()
    service.serve("--no-worker")


def kill_all(service: Service, cast: Processes) -> None:
    """Kill all processes, and start them again."""
    for process in (*cast.workers, cast.api):
        process.kill()
    start(service)


@pytest.mark.parametrize("kill", [kill_a_worker, kill_the_coordinator, kill_the_api, kill_all])
def test_every_job_ends_once_after_any_kill(
    on_postgres: Service, kill: Callable[[Service, Processes], None]
) -> None:
    """The remaining or the next processes end the work of a killed one."""
    cast = start(on_postgres)
    accepted = on_postgres.submit_many(OUTSTANDING, parameters=SMALL)

    kill(on_postgres, cast)
    on_postgres.settle(seconds=300)

    assert_each_once(on_postgres, accepted)


def test_a_restart_of_postgres_is_a_pause(
    on_own_postgres: Service, own_postgres: Postgres
) -> None:
    """Callers get temporary errors, and the processes recover by themselves."""
    service, cast = on_own_postgres, start(on_own_postgres)
    with load(service.http.base_url) as seen:
        until(lambda: len(seen.accepted) > OUTSTANDING, why=service.tails)
        own_postgres.stop("immediate")
        until(lambda: seen.refused > 0, why=service.tails)
        known = len(seen.accepted)
        own_postgres.start()
        back = time.monotonic()
        until(lambda: len(seen.accepted) > known, seconds=BACK_SECONDS, why=service.tails)
    until(
        lambda: service.job(seen.accepted[known])["status"] == "completed",
        seconds=BACK_SECONDS - (time.monotonic() - back),
        why=service.tails,
    )
    service.settle(seconds=300)

    assert seen.broken == []
    assert_each_once(service, seen.accepted)
    assert all(one.popen.poll() is None for one in (cast.api, *cast.workers))


def test_a_worker_waits_for_a_database_that_is_starting(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    """A machine starts all of its services at once, and nothing should need a second start."""
    with running(tmp_path, DATABASE_URL=own_postgres.url()) as service:
        service.serve("--no-worker").stop()  # creates the schema
        own_postgres.stop()
        worker, stopped = service.start("worker"), service.start("worker")
        worker.await_log("database_unreachable")
        stopped.await_log("database_unreachable")

        code = stopped.stop()
        own_postgres.start()

        worker.await_log("worker_registered")
        assert code == 0
