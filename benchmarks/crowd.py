"""Many jobs in flight on one process: ``python -m benchmarks.crowd [JOBS [SECONDS [DATABASE]]]``.

So many predictions run at once, each for so many seconds; the provider may be called as often as an
account of it usually may. Before, a tenth of them, with short predictions, tells how many jobs a second
the process completes. `make bench` has a small crowd only.
"""

import sys
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.api import SUBMIT_PICTURE
from benchmarks.databases import Databases, opened
from benchmarks.figures import Row, Scale
from benchmarks.jobs import MS, PREDICT_SECONDS, await_number, calls, completed, downloaded
from benchmarks.servers import Server, at, provider, service

SHORT_SECONDS: Final = 2.0  # of predictions in `make bench`
SLACK: Final = 1.25
TARGET: Final = f"< 200 MiB, ≤ 50 looks/s, {SLACK} of the time of its parts"


def crowd(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Many jobs of two seconds at once."""
    yield _crowd(databases, scale.crowd, SHORT_SECONDS, rate=None)


def main() -> None:
    """Measure a crowd of another size."""
    number = int(sys.argv[1]) if sys.argv[1:] else 10_000
    seconds = float(sys.argv[2]) if sys.argv[2:] else 30.0
    with opened(sys.argv[3] if sys.argv[3:] else "sqlite") as databases:
        rate = _rate(databases, number // 10)
        print(f"{rate:.0f} jobs/s with predictions of {PREDICT_SECONDS} s", flush=True)
        print(_crowd(databases, number, seconds, rate=rate))


def _rate(databases: Databases, number: int) -> float:
    """Return how many jobs a second are completed when predictions take no time."""
    with provider(PREDICT_SECONDS) as host, service(databases.fresh(), at(host)) as ours:
        began = time.perf_counter()
        _run(ours, host, number)
        return number / (time.perf_counter() - began)


def _crowd(databases: Databases, number: int, seconds: float, *, rate: float | None) -> Row:
    with provider(seconds) as host:
        env = at(host)
        del env["REPLICATE_CALLS_PER_MINUTE"]
        with service(databases.fresh(), env) as ours:
            began, before = time.perf_counter(), ours.usage()
            _run(ours, host, number)
            took, used = time.perf_counter() - began, ours.usage() - before
            peak = ours.memory("VmHWM") / (1 << 20)
        looks = calls(host) - 2 * number  # the rest are creates and downloads
    figure = (
        f"{took:.1f} s in all; {used.cpu / number * MS:.1f} ms of processor time per job; "
        f"{looks / number:.2f} looks per job, {looks / took:.0f}/s; peak {peak:.0f} MiB"
    )
    if rate is not None:
        figure += f"; its parts take {seconds + number / rate:.1f} s"
    name = f"P4 {number:,} jobs of {seconds:.0f} s at once"
    return Row(name, databases.kind, figure, target=TARGET)


def _run(ours: Server, host: Server, number: int) -> None:
    with downloaded(host, number):
        ours.load([SUBMIT_PICTURE], number=number)
    await_number(lambda: completed(ours), number)


if __name__ == "__main__":
    main()
