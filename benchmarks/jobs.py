"""What a job costs from its submission to its stored file, with a provider over HTTP."""

import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.api import SUBMIT_PICTURE
from benchmarks.counted import Counts
from benchmarks.databases import Databases, redis_server
from benchmarks.figures import Row, Scale, Series, rounds
from benchmarks.servers import (
    PATIENCE,
    ROOT,
    Program,
    Server,
    at,
    bare_celery,
    pipeline,
    provider,
    service,
)
from benchmarks.usage import Usage

AT_ONCE: Final = 64  # jobs
PREDICT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.05
WARM_JOBS: Final = 10
AFTERWARDS: Final = (
    4.0  # seconds until what the latest jobs leave behind is done: it is ten times as much
)
MS: Final = 1000


@dataclass
class Entrant:
    """A service, and what its jobs have cost, round for round."""

    do: Callable[[int], Usage]  # does so many jobs
    server: Server | None = None  # None: the pipeline
    cpu: Series = field(default_factory=Series)  # ms per job
    wall: Series = field(default_factory=Series)  # likewise
    switches: Series = field(default_factory=Series)  # per job

    def turn(self, number: int) -> None:
        """Do so many jobs, and take note of their costs."""
        began = time.perf_counter()
        used = self.do(number)
        self.wall.values.append((time.perf_counter() - began) / number * MS)
        self.cpu.values.append(used.cpu / number * MS)
        self.switches.values.append(used.switches / number)


def jobs(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Jobs by the bare pipeline, by a service that promises nothing, and by ours in its three forms."""
    with ExitStack() as stack:
        host = stack.enter_context(provider(PREDICT_SECONDS))
        entrants = _entrants(stack, databases, host)
        for entrant in entrants.values():
            entrant.do(WARM_JOBS)
        for _ in rounds(scale):
            for entrant in entrants.values():
                entrant.turn(scale.jobs)
        bare, embedded = entrants["bare pipeline"], entrants["embedded"]
        for name, entrant in entrants.items():
            yield _row(name, entrant, databases, bare=bare, embedded=embedded)
        yield from _idle(entrants, databases, scale)


def _entrants(stack: ExitStack, databases: Databases, host: Server) -> dict[str, Entrant]:
    bare = stack.enter_context(pipeline(host, AT_ONCE))
    url = stack.enter_context(redis_server())
    promising_nothing = stack.enter_context(bare_celery(host, f"{url}/0"))
    embedded = stack.enter_context(service(databases.fresh(), at(host)))
    ours = {"embedded": embedded}
    for number, name in enumerate(("celery", "dramatiq"), start=1):
        env = {**at(host), "DISPATCH": name, "REDIS_URL": f"{url}/{number}"}
        ours[name] = stack.enter_context(service(databases.fresh(), env, "--no-worker", workers=1))
    return {
        "bare pipeline": Entrant(lambda number: _by_pipeline(bare, number)),
        "Celery, no guarantees": Entrant(_by(promising_nothing, _done, host), promising_nothing),
        **{name: Entrant(_by(server, completed, host), server) for name, server in ours.items()},
    }


def _by_pipeline(program: Program, number: int) -> Usage:
    return Usage(cpu=program.ask(str(number))["cpu"])


def _by(server: Server, ended: Callable[[Server], int], host: Server) -> Callable[[int], Usage]:
    """Return what does jobs at a service, and tells what its processes have used."""

    def do(number: int) -> Usage:
        before, target = server.usage(), ended(server) + number
        with downloaded(host, number):
            server.load([SUBMIT_PICTURE], number=number)
        await_number(lambda: ended(server), target)
        return server.usage() - before

    return do


@contextmanager
def downloaded(host: Server, number: int) -> Generator[None]:
    """Wait, when the block is over, until the provider has sent so many more files.

    It is not measured, and a look at what is measured costs as much as a tenth of a job.
    """
    target = _downloads(host) + number
    yield
    await_number(lambda: _downloads(host), target)


def _downloads(host: Server) -> int:
    found: int = host.get("/_emu/counts").get("download", 0)
    return found


def await_number(found: Callable[[], int], number: int) -> None:
    """Wait until as much is found.

    Raises:
        RuntimeError: Nothing changes any more.
    """
    latest, since = -1, time.monotonic()
    while (now := found()) < number:
        if now != latest:
            latest, since = now, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            raise RuntimeError(f"only {now} of {number}")
        time.sleep(LOOK_SECONDS)


def _done(server: Server) -> int:
    found: int = server.get("/done")
    return found


def completed(server: Server) -> int:
    """Return how many jobs of ours are completed."""
    return by_status(server)["completed"]


def by_status(server: Server) -> dict[str, int]:
    """Return the numbers of jobs."""
    found: dict[str, int] = server.get("/metrics")["metrics"]["jobs_by_status"]
    return found


def _row(
    name: str, entrant: Entrant, databases: Databases, *, bare: Entrant, embedded: Entrant
) -> Row:
    targets = {
        "embedded": "≥ 0.45",
        "celery": "≤ 1.6 of embedded",
        "dramatiq": "≤ 1.3 of embedded",
    }
    figure = f"{entrant.cpu:.1f} ms of processor time, {entrant.switches.middle:.0f} switches"
    if name in targets and entrant is not embedded:
        figure += f"; {entrant.cpu.middle / embedded.cpu.middle:.1f} of embedded"
    cpu = "" if entrant is bare else f"{bare.cpu.middle / entrant.cpu.middle:.2f}"
    wall = "" if entrant is bare else f"{bare.wall.middle / entrant.wall.middle:.2f}"
    return Row(f"P3 job, {name}", databases.kind, figure, cpu, wall, targets.get(name, ""))


def _idle(entrants: dict[str, Entrant], databases: Databases, scale: Scale) -> Iterator[Row]:
    """What the processes use while nothing is to be done."""
    servers = {name: one.server for name, one in entrants.items() if one.server is not None}
    time.sleep(AFTERWARDS)
    before = {name: server.usage() for name, server in servers.items()}
    time.sleep(scale.idle)
    for name, server in servers.items():
        used = server.usage() - before[name]
        figure = (
            f"{used.cpu / scale.idle:.2%} of a core, {used.switches / scale.idle:.0f} switches/s"
        )
        target = {"embedded": "< 0.5 %", "celery": "< 1 %", "dramatiq": "< 1 %"}.get(name, "")
        yield Row(f"P9 idle, {name}", databases.kind, figure, target=target)


def counts(databases: Databases, scale: Scale) -> Iterator[Row]:
    """What a job of an embedded worker asks of the database, the disk and the network.

    Commits on SQLite are its waits for the disk too; `fsyncs` are those of files.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        counted = Counts(folder / "counts")
        host = stack.enter_context(provider(PREDICT_SECONDS))
        program = ("benchmarks.counted", str(folder / "counts"))
        env = {**at(host), "PYTHONPATH": str(ROOT)}
        ours = stack.enter_context(service(databases.fresh(), env, program=program))
        do = _by(ours, completed, host)
        do(WARM_JOBS)
        before = counted.read() | {"HTTP calls": calls(host)}
        used = do(scale.jobs)
        after = counted.read() | {"HTTP calls": calls(host)}
        per_job = {name: (after[name] - before[name]) / scale.jobs for name in after}
    figure = ", ".join(f"{number:.1f} {name}" for name, number in per_job.items())
    figure += f", {used.switches / scale.jobs:.0f} context switches"
    yield Row(
        "P11 per job, embedded", databases.kind, figure, target="≤ 12 statements, ≤ 0.5 commits"
    )


def calls(host: Server) -> int:
    """Return how many requests the provider has had, downloads included."""
    found: dict[str, int] = host.get("/_emu/counts")
    return found.get("request", 0) + found.get("download", 0)
