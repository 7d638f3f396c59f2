"""What is measured; each measure yields rows for the table."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.databases import Databases
from benchmarks.servers import Server, request, service, yardstick

WISH: Final = {"prompt": "A cat riding a bicycle", "parameters": {"width": 16, "height": 16}}
SUBMIT: Final = request("POST", "/api/v1/generate", WISH)
WORDS: Final = {"prompt": "A cat", "parameters": {}, "model_name": "fleek/placeholder-text"}
SUBMIT_WORDS: Final = request("POST", "/api/v1/generate", WORDS)
ASKED: Final = 200  # different jobs whose status is asked for
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    rounds: int
    seconds: float  # of one turn
    jobs: int  # for jobs/s
    crowds: tuple[int, ...]  # jobs in flight at once
    waiting: int  # jobs, for memory per waiting job


FULL: Final = Scale(rounds=3, seconds=5, jobs=1000, crowds=(1000, 10_000), waiting=5000)
QUICK: Final = Scale(rounds=1, seconds=1.5, jobs=100, crowds=(200,), waiting=500)


@dataclass
class Series:
    """One figure of several rounds."""

    values: list[float] = field(default_factory=list)

    def __format__(self, spec: str) -> str:
        """Return the median, with the lowest and the highest if there are several."""
        middle = format(median(self.values), spec)
        if len(self.values) == 1:
            return middle
        return f"{middle} ({min(self.values):{spec}}-{max(self.values):{spec}})"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    database: str
    figure: str
    ratio: str = ""
    target: str = ""


Measure = Callable[[Databases, Scale], Iterator[Row]]


def delay(seconds: float) -> dict[str, str]:
    """Return the settings for predictions that run so long."""
    return {"REPLICATE_MOCK_DELAY_MIN": str(seconds), "REPLICATE_MOCK_DELAY_MAX": str(seconds)}


def submits(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Accepted submissions, by the API alone and while a worker buys them."""
    for work, name in ((False, "submits/s"), (True, "submits/s, a worker at work")):
        target = "≥ 0.35, p99 < 100 ms"
        yield _in_turns(databases, scale, name, target, work=work, ask=lambda _: [SUBMIT])


def _ours(databases: Databases, *, work: bool) -> AbstractContextManager[Server]:
    """Start the service as it is meant to be: on SQLite in one process, on PostgreSQL in two."""
    url, slow = databases.fresh(), delay(600)
    if databases.kind == "sqlite" and work:
        return service(url, slow)
    return service(url, slow, "--no-worker", worker=work)


def status(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Reads of single jobs that wait."""

    def ask(server: Server) -> list[bytes]:
        server.load([SUBMIT], number=ASKED)
        jobs = server.get(f"/api/v1/jobs?limit={min(ASKED, 100)}")
        return [request("GET", f"/api/v1/status/{job['id']}") for job in jobs]

    yield _in_turns(databases, scale, "status/s", "≥ 0.40", work=False, ask=ask)


def _in_turns(
    databases: Databases,
    scale: Scale,
    name: str,
    target: str,
    *,
    work: bool,
    ask: Callable[[Server], list[bytes]],
) -> Row:
    """Load the service and the yardstick by turns, with the same requests."""
    ours, bare, ratio = Series(), Series(), Series()
    p99 = Series()
    for _ in range(scale.rounds):
        with _ours(databases, work=work) as server:
            requests = ask(server)
            server.load(requests, seconds=0.5)
            found = server.load(requests, seconds=scale.seconds)
            document = server.get("/api/v1/jobs?limit=1")[0]
        with yardstick() as server:
            server.load([request("PUT", "/status", document)], number=1)
            server.load(requests, seconds=0.5)
            against = server.load(requests, seconds=scale.seconds)
        ours.values.append(found["per_second"])
        p99.values.append(found["p99_ms"])
        bare.values.append(against["per_second"])
        ratio.values.append(found["per_second"] / against["per_second"])
    figure = f"{ours:,.0f}; p99 {p99:.0f} ms; bare {bare:,.0f}"
    return Row(name, databases.kind, figure, f"{ratio:.2f}", target)


def jobs(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Jobs from submission to stored file, with predictions that take no time.

    To paint even a small picture takes longer than all that the service does, so words are
    measured too.
    """
    for kind, submit in (("pictures", SUBMIT), ("words", SUBMIT_WORDS)):
        rate, cost = Series(), Series()
        for _ in range(scale.rounds):
            with service(databases.fresh(), delay(0)) as server:
                began, used = time.perf_counter(), server.cpu_seconds()
                server.load([submit], number=scale.jobs)
                _await_end(server, scale.jobs)
                rate.values.append(scale.jobs / (time.perf_counter() - began))
                cost.values.append((server.cpu_seconds() - used) / scale.jobs * 1000)
        figure = f"{rate:,.0f}; {cost:.1f} ms of processor time per job"
        yield Row(f"jobs/s, {scale.jobs:,} {kind} without delay", databases.kind, figure)


def crowds(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Many jobs of two seconds at once, on one process."""
    for number in scale.crowds:
        with service(databases.fresh(), delay(2)) as server:
            began = time.perf_counter()
            server.load([SUBMIT], number=number)
            accepted = time.perf_counter() - began
            most = _await_end(server, number)
            took = time.perf_counter() - began
            peak = server.memory("VmHWM") / MIB
        figure = (
            f"{took:.1f} s in all, accepted in {accepted:.1f} s; "
            f"at most {most:,} in flight; peak {peak:.0f} MiB"
        )
        yield Row(f"{number:,} jobs of 2 s", databases.kind, figure)


def waiting(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Memory that a waiting job costs the process."""
    with service(databases.fresh(), delay(600)) as server:
        server.load([SUBMIT], number=500)
        _await_flight(server, 500)
        before = server.memory()
        server.load([SUBMIT], number=scale.waiting)
        _await_flight(server, 500 + scale.waiting)
        grown = (server.memory() - before) / scale.waiting
    figure = f"{grown / 1024:.1f} KiB, at {before / MIB:.0f} MiB"
    yield Row("memory per waiting job", databases.kind, figure)


def _await_end(server: Server, number: int) -> int:
    """Wait until so many jobs have completed; returns how many were in flight at most."""
    most = 0
    while (found := _by_status(server))["completed"] < number:
        if found["failed"]:
            raise RuntimeError(f"jobs failed: {found}")
        most = max(most, found["processing"])
        time.sleep(0.05)
    return most


def _await_flight(server: Server, number: int) -> None:
    while _by_status(server)["processing"] < number:
        time.sleep(0.05)


def _by_status(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/metrics")["metrics"]["jobs_by_status"]
    return found


MEASURES: Final[dict[str, Measure]] = {
    "submits": submits,
    "status": status,
    "jobs": jobs,
    "crowds": crowds,
    "waiting": waiting,
}
