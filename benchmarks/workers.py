"""Workers that share one PostgreSQL: ``python -m benchmarks.workers [JOBS [DISPATCH]]``.

The same jobs are run by one, two and four worker processes. On few cores two workers are not faster
than one, whatever they do; what shows whether more of them get in each other's way is the
processor time of a job, in the processes and in PostgreSQL, and what PostgreSQL counts: commits,
rollbacks, updates of jobs (a step that is decided in vain writes nothing), deadlocks, and how many of
its sessions wait for a lock of another one, in samples.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from benchmarks.api import SUBMIT_PICTURE
from benchmarks.databases import Databases, opened, redis_server
from benchmarks.jobs import PREDICT_SECONDS, await_number, by_status, downloaded
from benchmarks.servers import Server, at, provider, service
from benchmarks.usage import usage

WORKERS: Final = (1, 2, 4)
JOBS: Final = 200
WARM: Final = 20  # jobs
SAMPLE_SECONDS: Final = 0.02
IDLE_SECONDS: Final = (
    4.0  # until PostgreSQL has counted everything; and what idle workers use is measured
)
MS: Final = 1000

COUNTS: Final = """
    SELECT xact_commit AS commits, xact_rollback AS rollbacks, deadlocks,
        (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'jobs') AS updates
    FROM pg_stat_database WHERE datname = current_database()"""
WAITING: Final = """
    SELECT count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting,
        count(*) FILTER (WHERE state <> 'idle') AS busy
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"""
HEAD: Final = (
    "| workers | ms per job: API | workers | beyond idle | PostgreSQL | jobs/s | commits per job | updates | rollbacks "
    "| deadlocks | sessions that wait for a lock, of those busy |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure one, two and four workers."""
    jobs = int(sys.argv[1]) if sys.argv[1:] else JOBS
    dispatch = sys.argv[2] if sys.argv[2:] else "dramatiq"
    print(f"{jobs} jobs, {dispatch}\n\n{HEAD}")
    with ExitStack() as stack:
        databases = stack.enter_context(opened("postgres"))
        redis = stack.enter_context(redis_server())
        host = stack.enter_context(provider(PREDICT_SECONDS))
        for turn, workers in enumerate(WORKERS):
            env = {**at(host), "DISPATCH": dispatch, "REDIS_URL": f"{redis}/{turn}"}
            print(_measured(databases, host, env, workers=workers, jobs=jobs), flush=True)


def _measured(
    databases: Databases, host: Server, env: dict[str, str], *, workers: int, jobs: int
) -> str:
    url = databases.fresh()
    with service(url, env, "--no-worker", workers=workers) as ours:
        _run(ours, host, WARM)
        idle = _idle(ours)
        before, counted, served = _used(ours), _asked(url, COUNTS), databases.usage()
        began = time.perf_counter()
        with _sampled(url) as samples:
            _run(ours, host, jobs)
        took = time.perf_counter() - began
        after, server = _used(ours), databases.usage() - served
        time.sleep(IDLE_SECONDS)
        counts = {name: value - counted[name] for name, value in _asked(url, COUNTS).items()}
    resting = idle * took / jobs * MS
    api, working = ((after[part] - before[part]) / jobs * MS for part in (0, 1))
    waiting, busy = (sum(sample[name] for sample in samples) for name in ("waiting", "busy"))
    commits, rollbacks = counts["commits"] - len(samples), counts["rollbacks"]
    return (
        f"| {workers} | {api:.1f} | {working:.1f} | {working - resting:.1f} | {server.cpu / jobs * MS:.1f} | {jobs / took:.1f} "
        f"| {commits / jobs:.1f} | {counts['updates'] / jobs:.1f} | {rollbacks / jobs:.2f} "
        f"| {counts['deadlocks']} | {waiting} of {busy} in {len(samples)} samples |"
    )


def _run(ours: Server, host: Server, jobs: int) -> None:
    target = by_status(ours)["completed"] + jobs
    with downloaded(host, jobs):
        ours.load([SUBMIT_PICTURE], number=jobs)
    await_number(lambda: by_status(ours)["completed"], target)


def _idle(ours: Server) -> float:
    """Return the processor time of the workers in a second without jobs."""
    before = _used(ours)[1]
    time.sleep(IDLE_SECONDS)
    return (_used(ours)[1] - before) / IDLE_SECONDS


def _used(ours: Server) -> tuple[float, float]:
    """Return the seconds of processor time of the API, and of all workers."""
    api, *workers = (program.process.pid for program in ours.programs)
    return usage(api).cpu, usage(*workers).cpu


def _asked(url: str, statement: str) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        connection = await asyncpg.connect(url)
        try:
            return dict(await connection.fetchrow(statement))
        finally:
            await connection.close()

    return asyncio.run(ask())


@contextmanager
def _sampled(url: str) -> Iterator[list[dict[str, int]]]:
    """Look again and again how many sessions wait, for as long as the block runs."""
    samples: list[dict[str, int]] = []
    over = threading.Event()

    async def sample() -> None:
        connection = await asyncpg.connect(url)
        try:
            while not over.is_set():
                samples.append(dict(await connection.fetchrow(WAITING)))
                await asyncio.sleep(SAMPLE_SECONDS)
        finally:
            await connection.close()

    sampler = threading.Thread(target=lambda: asyncio.run(sample()))
    sampler.start()
    try:
        yield samples
    finally:
        over.set()
        sampler.join()


if __name__ == "__main__":
    main()
