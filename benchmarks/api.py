"""What requests cost by an API alone: submissions and reads."""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.databases import Databases
from benchmarks.figures import Row, Scale, Series, rounds
from benchmarks.servers import Server, bare_api, request, service

WISH: Final = {"prompt": "A cat riding a bicycle", "parameters": {"width": 16, "height": 16}}
SUBMIT: Final = request("POST", "/api/v1/generate", WISH)
SLOW: Final = {"REPLICATE_MOCK_DELAY_MIN": "600", "REPLICATE_MOCK_DELAY_MAX": "600"}
PICTURE: Final = {"prompt": "A cat riding a bicycle", "parameters": {}}
SUBMIT_PICTURE: Final = request("POST", "/api/v1/generate", PICTURE)
ASKED: Final = 100  # different jobs whose status is asked for
WARM: Final = 200  # requests
MS: Final = 1000


class Contest:
    """Two servers that take the same requests in turns."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self.ours, self.bare, self.database = Series(), Series(), Series()  # ms of processor time
        self.cpu, self.wall = Series(), Series()  # ratios
        self.rate, self.p99 = Series(), Series()

    def turn(self, ours: Server, bare: Server, requests: Sequence[bytes], scale: Scale) -> None:
        """Load one, then the other."""
        before = ours.usage(), bare.usage(), self._databases.usage()
        found = ours.load(requests, seconds=scale.seconds, number=scale.requests)
        spent, served = ours.usage() - before[0], self._databases.usage() - before[2]
        against = bare.load(requests, seconds=scale.seconds, number=scale.requests)
        spared = bare.usage() - before[1]
        mine = spent.cpu / found["answers"] * MS
        other = spared.cpu / against["answers"] * MS
        self.ours.values.append(mine)
        self.bare.values.append(other)
        self.database.values.append(served.cpu / found["answers"] * MS)
        self.cpu.values.append(other / mine)
        self.wall.values.append(found["per_second"] / against["per_second"])
        self.rate.values.append(found["per_second"])
        self.p99.values.append(found["p99_ms"])

    def row(self, measure: str, target: str) -> Row:
        """Return the line of the table."""
        beside = (
            f" + {self.database.middle:.2f} in PostgreSQL"
            if self._databases.kind == "postgres"
            else ""
        )
        figure = (
            f"{self.ours:.2f}{beside} ms of processor time, bare {self.bare:.2f}; "
            f"{self.rate:,.0f}/s, p99 {self.p99:.0f} ms"
        )
        return Row(
            measure,
            self._databases.kind,
            figure,
            cpu=f"{self.cpu:.2f}",
            wall=f"{self.wall:.2f}",
            target=target,
        )


def requests(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Submissions and reads of jobs that wait, by a process without a worker."""
    submits, reads = Contest(databases), Contest(databases)
    with service(databases.fresh(), SLOW, "--no-worker") as ours, bare_api() as bare:
        ours.load([SUBMIT], number=ASKED)
        jobs = ours.get(f"/api/v1/jobs?limit={ASKED}")
        asked = [request("GET", f"/api/v1/status/{job['id']}") for job in jobs]
        bare.send("PUT", "/status", jobs[0])
        for server in (ours, bare):
            server.load([SUBMIT], number=WARM)
            server.load(asked, number=WARM)
        for _ in rounds(scale):
            submits.turn(ours, bare, [SUBMIT], scale)
            reads.turn(ours, bare, asked, scale)
    yield submits.row("P1 submit", "≥ 0.50; p99 < 50 ms")
    yield reads.row("P2 status read", "≥ 0.55")
