"""Submissions beside a worker that is busy, in the one process of the default installation."""

from collections.abc import Iterator

from benchmarks.api import SUBMIT_PICTURE, WARM
from benchmarks.databases import Databases
from benchmarks.figures import Row, Scale, Series, rounds
from benchmarks.jobs import AT_ONCE, PREDICT_SECONDS, await_number, completed
from benchmarks.servers import at, bare_api, provider, service


def busy(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Submissions while jobs that came before are started, polled and collected.

    Predictions are those of a provider over HTTP. A turn begins when the first jobs are completed, and
    lasts long enough for others to be. Work is left when it is over, so each has a service of its own.
    The ratio by processor time is left out: that of the jobs is in it. What is left is for the bare
    application, too: it is loaded beside the same worker, which shows what the cores alone would allow.
    """
    wall, rate, p99, ended, beside = Series(), Series(), Series(), Series(), Series()
    with bare_api() as bare:
        bare.load([SUBMIT_PICTURE], number=WARM)
        for _ in rounds(scale):
            against = bare.load([SUBMIT_PICTURE], seconds=scale.seconds / 2)
            with provider(PREDICT_SECONDS) as host, service(databases.fresh(), at(host)) as ours:
                ours.load([SUBMIT_PICTURE], number=AT_ONCE)
                await_number(lambda: completed(ours), 1)
                before = completed(ours)
                found = ours.load([SUBMIT_PICTURE], seconds=scale.seconds)
                ended.values.append((completed(ours) - before) / scale.seconds)
                shared = bare.load([SUBMIT_PICTURE], seconds=scale.seconds / 2)
            beside.values.append(shared["per_second"] / against["per_second"])
            wall.values.append(found["per_second"] / against["per_second"])
            rate.values.append(found["per_second"])
            p99.values.append(found["p99_ms"])
    figure = (
        f"{rate:,.0f}/s, p99 {p99:.0f} ms; {ended:.0f} jobs/s completed meanwhile; "
        f"bare beside the worker {beside:.2f} of bare alone"
    )
    target = "≥ 0.35; p99 < 150 ms"
    yield Row("P1b submit, worker busy", databases.kind, figure, wall=f"{wall:.2f}", target=target)
