"""The service as its users run it: in its own processes, called over HTTP."""

import asyncio
import json
import os
import select
import signal
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import httpx2

import process_template
from authorities import trusted
from backing_services import MIGRATED, Postgres, apart, free_port, migrated_sqlite
from process_template import inherited

PATIENCE: Final = 120.0  # seconds
SMALL: Final = {"width": 16, "height": 16}  # parameters of the picture that is painted fastest
LOOK_SECONDS: Final = 0.02  # between the first two polls of a condition
LATER_SECONDS: Final = 0.3  # between later ones; a request costs the service and the test a few ms
SLOWER: Final = 1.2  # each pause is longer than the one before by this factor
HEARTBEAT_SECONDS: Final = "1"  # with 0.2, an idle process uses a tenth of a core; so, a sixtieth
RECONCILE_SECONDS: Final = "1"  # after a kill; ninety seconds would be for a provider's late list

ELSEWHERE: Final = frozenset({"DATABASE_URL", "PYTHONPATH"})  # the database, or the code

PAID_FOR: Final = (  # an attempt counts as paid for unless it is known not to be
    "SELECT job_id, prediction_id FROM attempts WHERE verdict IS NULL OR verdict <> 'not_bought'"
)
ENDS: Final = "SELECT count(*) FROM events WHERE type IN ('completed', 'failed', 'cancelled') GROUP BY job_id"
COORDINATOR: Final = "SELECT pid FROM workers WHERE id = (SELECT worker_id FROM roles)"


def until(
    met: Callable[[], Any],
    *,
    seconds: float = PATIENCE,
    look_seconds: float = LOOK_SECONDS,
    why: Callable[[], str],
) -> None:
    """Wait until a condition is met; `look_seconds` between the first two polls, later longer.

    Raises:
        AssertionError: The condition is not met in time; with the result of `why`.
    """
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, why()
        time.sleep(look_seconds)
        look_seconds = min(look_seconds * SLOWER, max(look_seconds, LATER_SECONDS))


class Process:
    """One ``fleek`` process, or one of another Python `program`, with a clean environment."""

    def __init__(
        self, folder: Path, *command: str, env: Mapping[str, str], program: str = "fleek"
    ) -> None:
        self.command = command
        self.log = folder / f"{command[0]}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.popen = process_template.start(
                program,
                *command,
                folder=folder,
                env={**inherited(), "LOG_FORMAT": "json", **env},
                log=log,
            )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.popen.pid

    def await_line(self, words: str) -> None:
        """Wait until the process prints a line with these words.

        Raises:
            AssertionError: The process has ended, or prints nothing for too long; with its log.
        """
        assert self.popen.stdout is not None
        deadline = time.monotonic() + PATIENCE
        seen = b""
        while words.encode() not in seen:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.popen.stdout], [], [], max(left, 0))
            chunk = os.read(self.popen.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"{self.command} did not say {words!r}: {seen!r}\n{self.tail()}"
            seen += chunk

    def await_log(self, words: str) -> None:
        """Wait until the process logs these words."""
        until(lambda: words in self.log.read_text(), why=self.tail)

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text()[-4000:]

    def kill(self) -> None:
        """Kill the process, as a power failure would."""
        self.popen.kill()
        self._reap()

    def stop(self) -> int:
        """Stop the process with SIGTERM; returns its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        code = self.popen.wait(PATIENCE)
        self._reap()
        return code

    def _reap(self) -> None:
        self.popen.wait(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


class Service:
    """A folder, a port and settings that outlive the processes started on them."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        quiet = {
            "HEARTBEAT_SECONDS": HEARTBEAT_SECONDS,
            "RECONCILE_SECONDS": RECONCILE_SECONDS,
            "MAKE_THUMBNAILS": "false",  # no second process for a job
        }
        self.env = {"API_PORT": str(self.port), **quiet, **settings}
        self.processes: list[Process] = []
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", verify=trusted(), timeout=PATIENCE
        )

    def serve(self, *options: str, **env: str) -> Process:
        """Start ``fleek serve`` and wait until it answers."""
        process = self.start("serve", *options, **env)
        process.await_line("is ready")
        return process

    def worker(self) -> Process:
        """Start ``fleek worker`` and wait until it is registered."""
        process = self.start("worker")
        process.await_log("worker_registered")
        return process

    def start(self, *command: str, program: str = "fleek", **env: str) -> Process:
        """Start any ``fleek`` command, or one of another `program`.

        A service of this code finds an empty database, whose migration would take most of its start.
        """
        given = {**self.env, **env}
        file = self.folder / "fleek.db"
        if command[0] == "serve" and not (given.keys() & ELSEWHERE or file.exists()):
            file.touch(0o600)
            file.write_bytes(migrated_sqlite())
        process = Process(self.folder, *command, env=given, program=program)
        self.processes.append(process)
        return process

    def submit(self, prompt: str = "A cat riding a bicycle", **fields: Any) -> str:
        """Submit a job and return its id."""
        answer = self.http.post("/api/v1/generate", json={"prompt": prompt, **fields})
        while answer.status_code == 503 and answer.json()["code"] == "overloaded":
            time.sleep(int(answer.headers["retry-after"]))  # the machine is overloaded
            answer = self.http.post("/api/v1/generate", json={"prompt": prompt, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def submit_many(self, number: int, **fields: Any) -> list[str]:
        """Submit this many jobs on a few connections, and return their ids."""
        with ThreadPoolExecutor(4) as threads:
            parts = threads.map(lambda n: self._submit_some(range(n, number, 4), fields), range(4))
        return [job_id for part in parts for job_id in part]

    def _submit_some(self, numbers: Iterable[int], fields: Mapping[str, Any]) -> list[str]:
        accepted = []
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            for number in numbers:
                body = json.dumps({"prompt": f"job {number}", **fields})
                kind = {"Content-Type": "application/json"}
                status, text = 503, b"overloaded"
                while status == 503 and b"overloaded" in text:
                    connection.request("POST", "/api/v1/generate", body, kind)
                    answer = connection.getresponse()
                    status, text = answer.status, answer.read()
                assert status == 201, text
                accepted.append(str(json.loads(text)["id"]))
        return accepted

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        answer = self.http.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def by_status(self) -> dict[str, int]:
        """Return how many jobs have each status."""
        answer = self.http.get("/metrics", headers={"accept": "application/json"})
        found: dict[str, int] = answer.json()["metrics"]["jobs_by_status"]
        return found

    def settle(self, *, seconds: float) -> dict[str, int]:
        """Wait until no job is pending or processing; returns the numbers by status.

        Raises:
            AssertionError: Some jobs have not ended in time.
        """
        found: dict[str, int] = {}

        def settled() -> bool:
            found.update(self.by_status())
            return not found["pending"] and not found["processing"]

        until(settled, seconds=seconds, why=lambda: f"{found}\n{self.tails()}")
        return found

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Query the database directly."""
        if url := self.env.get("DATABASE_URL", ""):
            found: list[tuple[Any, ...]] = apart(asyncio.run, _asked(url, statement))
            return found
        with closing(sqlite3.connect(self.folder / "fleek.db", timeout=PATIENCE)) as connection:
            return connection.execute(statement).fetchall()

    def change(self, statement: str) -> None:
        """Change the database behind the service's back."""
        if url := self.env.get("DATABASE_URL", ""):
            apart(asyncio.run, _changed(url, statement))
            return
        path = self.folder / "fleek.db"
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            connection.execute(statement)

    def tails(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"--- {one.command}\n{one.tail()}" for one in self.processes)

    def close(self) -> None:
        """Stop all processes."""
        self.http.close()
        for process in self.processes:
            if process.popen.poll() is None:
                process.kill()
            elif process.popen.stdout is not None:
                process.popen.stdout.close()


def delay(seconds: str) -> dict[str, str]:
    """Return the settings for predictions of this duration."""
    return {"REPLICATE_MOCK_DELAY_MIN": seconds, "REPLICATE_MOCK_DELAY_MAX": seconds}


def assert_each_once(service: Service, accepted: Iterable[str]) -> None:
    """Assert that every accepted job has completed, ended once and was paid for once.

    That includes jobs whose caller received no response.
    """
    jobs = service.rows("SELECT id, status FROM jobs")
    assert {UUID(job_id) for job_id in accepted} <= {UUID(str(job_id)) for job_id, _ in jobs}
    assert {status for _, status in jobs} == {"completed"}
    assert service.rows(ENDS) == [(1,)] * len(jobs)
    paid = service.rows(PAID_FOR)
    assert len(paid) == len({job_id for job_id, _ in paid}) == len(jobs)
    assert len({prediction_id for _, prediction_id in paid} - {None}) == len(jobs)


async def _changed(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url.partition("?")[0], timeout=PATIENCE)
    try:
        await connection.execute(statements)  # together they are one transaction
    finally:
        await connection.close()


async def _asked(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url.partition("?")[0], timeout=PATIENCE)
    try:
        return [tuple(row.values()) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


@contextmanager
def running(folder: Path, **settings: str) -> Generator[Service]:
    """Yield a service whose processes end with the block."""
    service = Service(folder, **settings)
    try:
        yield service
    finally:
        service.close()


@contextmanager
def running_on(server: Postgres, folder: Path, **settings: str) -> Generator[Service]:
    """Yield a service on a new database of this server; its commits survive a crash."""
    name = server.create(template=MIGRATED)
    server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit TO on')
    with running(folder, DATABASE_URL=server.url(name), **settings) as service:
        yield service
    server.drop(name)
