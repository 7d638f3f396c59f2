"""A service that is restored from a backup pays for nothing that was paid for after it."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from backing_services import Postgres
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve
from service_process import PATIENCE, Service, running, running_on, until

pytestmark = pytest.mark.usefixtures("_full_suite")

NOW: Final = "fleek/now"  # a model whose jobs wait until the backup is made
LATER: Final = "fleek/later"  # a model whose jobs wait until the end of the test
RUNS: Final = "[[emu:predict=2]] it runs during the backup"
FAILS: Final = "[[emu:predict=2]] [[emu:transient_failure*1]] it fails after the backup"
QUEUED: Final = ("first", "second", "twin", "twin")
NEVER: Final = "not bought before the restore"
AFTER: Final = "accepted after the backup"
BOUND: Final = "SELECT count(prediction_id) FROM attempts"
CALLBACKS: Final = {"PUBLIC_URL": "https://fleek.example"}  # which the emulator does not reach


@pytest.fixture
async def emulator() -> AsyncGenerator[Emulator]:
    """Run an emulated account that sends no callbacks, but shows their addresses."""
    plan = Plan(queue_seconds=0, predict_seconds=0, rates={"hook_drop": 1.0})
    async with serve(plan) as running_one:
        yield running_one


def settings_for(emulator: Emulator) -> dict[str, str]:
    """Return the settings of a service that uses the account."""
    return {
        "PROVIDERS": "replicate",
        "REPLICATE_API_TOKEN": "r8_emulator_test_0123456789abcdefghij",
        "REPLICATE_BASE_URL": emulator.api_url,
        "RECONCILE_SECONDS": "2",
        "RETRY_BACKOFF_BASE": "0.1",
        "HEARTBEAT_SECONDS": "1",
    }


def bought(emulator: Emulator) -> Counter[str]:
    """Return how many predictions of each prompt the account has created."""
    return Counter(str(each.input["prompt"]) for each in emulator.account.predictions)


def queue(service: Service, verb: str, model: str) -> None:
    """Pause or resume the jobs of a model."""
    command = service.start("queue", verb, "--provider", "replicate", "--model", model)
    assert command.wait() == 0, command.tail()


def prepare(service: Service, emulator: Emulator) -> dict[str, str]:
    """Run a service up to a state with jobs of all kinds; returns the job of each prompt."""
    assert service.start("migrate").wait() == 0
    queue(service, "pause", NOW)
    queue(service, "pause", LATER)
    service.serve()
    jobs = {"done": service.submit("done", model="fleek/done")}
    service.settle(seconds=PATIENCE)
    jobs |= {prompt: service.submit(prompt, model="fleek/run") for prompt in (RUNS, FAILS)}
    until(lambda: len(emulator.account.predictions) == 3, why=service.tails)
    until(lambda: service.rows(BOUND) == [(3,)], why=service.tails)
    for number, prompt in enumerate(QUEUED):
        jobs[f"{prompt} {number}"] = service.submit(prompt, model=NOW)
    jobs[NEVER] = service.submit(NEVER, model=LATER)
    return jobs


def after_backup(service: Service) -> None:
    """Go on until all that can be bought is bought, then crash."""
    service.submit(AFTER, model="fleek/run")
    queue(service, "resume", NOW)
    until(lambda: service.by_status()["completed"] == 8, why=service.tails)
    next(each for each in service.processes if each.command[0] == "serve").kill()


def after_restore(service: Service, jobs: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Start the restored service, let it end all jobs, and return them."""
    queue(service, "resume", NOW)
    queue(service, "resume", LATER)
    service.serve()
    service.settle(seconds=PATIENCE)
    return {name: service.job(job_id) for name, job_id in jobs.items()}


def restore_sqlite(service: Service, _: Postgres) -> Callable[[], None]:
    """Make a backup while the service runs; returns the function that restores it."""
    assert service.start("backup", "create", "saved").wait() == 0

    def restore() -> None:
        for path in service.folder.glob("fleek.db*"):
            path.unlink()
        shutil.rmtree(service.folder / "storage")
        assert service.start("backup", "restore", "saved").wait() == 0

    return restore


def restore_postgres(service: Service, server: Postgres) -> Callable[[], None]:
    """Dump the database while the service runs; returns the function that restores it."""
    dump, url = str(service.folder / "fleek.dump"), service.env["DATABASE_URL"]
    server.client("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}")

    def restore() -> None:
        name = url.rpartition("/")[2]
        server.drop(name)
        server.execute(f'CREATE DATABASE "{name}"')
        server.client("pg_restore", "--exit-on-error", f"--dbname={url}", dump)
        assert service.start("backup", "mark-restored").wait() == 0

    return restore


RESTORE: Final = {"sqlite": restore_sqlite, "postgresql": restore_postgres}


@pytest.mark.parametrize(
    ("database", "callbacks"),
    [("sqlite", False), ("sqlite", True), ("postgresql", True)],
    indirect=["database"],
)
async def test_nothing_is_paid_for_twice_after_a_restore(
    tmp_path: Path, emulator: Emulator, database: str, postgres: Postgres, *, callbacks: bool
) -> None:
    """Queued, running, retried and equal jobs of the backup are found at the provider."""
    settings = settings_for(emulator) | (CALLBACKS if callbacks else {})
    opened = (
        running(tmp_path, **settings)
        if database == "sqlite"
        else running_on(postgres, tmp_path, **settings)
    )

    def scenario(service: Service) -> tuple[Counter[str], dict[str, dict[str, Any]]]:
        jobs = prepare(service, emulator)
        restore = RESTORE[database](service, postgres)
        after_backup(service)
        paid = bought(emulator)
        restore()
        return paid, after_restore(service, jobs)

    with opened as service:
        paid, jobs = await asyncio.to_thread(scenario, service)
        path = urlsplit(jobs["done"]["result_url"]).path
        done = await asyncio.to_thread(service.http.get, path)

    assert bought(emulator) == paid + Counter([NEVER])
    assert paid["twin"] == paid[FAILS] == 2
    assert {job["status"] for job in jobs.values()} == {"completed"}
    assert done.is_success
