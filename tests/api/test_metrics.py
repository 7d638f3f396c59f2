"""The names of metrics follow the conventions of Prometheus and of `promtool check metrics`.

Source: https://prometheus.io/docs/practices/naming/ (conventions).
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fleek.api.metrics import ApiMetrics
from fleek.domain.job import Status
from fleek.store.counters import JobCounts
from fleek.store.provider_health import ProviderHealth
from fleek.telemetry import Metrics

NAME: Final = re.compile(r"fleek_[a-z]+(_[a-z]+)*")
UNITS: Final = re.compile(r"_(ms|milliseconds|minutes|hours|days|kb|mb|percent|micros|secs)(_|$)")
TYPES: Final = re.compile(r"_(counter|gauge|histogram|summary|metric)(_|$)")
SUFFIXES: Final = ("_total", "_count", "_sum", "_bucket", "_info")
RESERVED: Final = {"le", "quantile", "job", "instance"}


def families(figures: ApiMetrics) -> list[Metric]:
    """Return all metrics of the project, as Prometheus reads them, without creation times."""
    text = figures.expose("text/plain")[0].decode()
    return [
        family
        for family in text_string_to_metric_families(text)
        if family.name.startswith("fleek") and not family.name.endswith("_created")
    ]


def all_metrics() -> list[Metric]:
    """Return every metric of the service, with one series each."""
    engine = Metrics()
    for metric in vars(engine).values():
        labels = getattr(metric, "_labelnames", None)
        if labels:
            metric.labels(*labels)
    figures = ApiMetrics(engine.registry)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    counts = JobCounts(dict.fromkeys(Status, 1), 1.0)
    impaired = [
        ProviderHealth(
            provider="p", model=model, paused_until=now, reason="r", failures=3, updated_at=now
        )
        for model in ("", "m")
    ]
    figures.show(counts, workers=1, postponed={"c": 1}, impaired=impaired, now=now)
    figures.http.count({"method": "GET"}, status=200, seconds=0.1)
    return families(figures)


def complaints(found: Iterable[Metric]) -> list[str]:
    """Return the complaints of `promtool`."""
    told = []
    for metric in found:
        name = metric.name
        checks = {
            "is no name": NAME.fullmatch(name) is None,
            "has no help": not metric.documentation.endswith("."),
            "is no base unit": UNITS.search(name) is not None,
            "has its type in the name": TYPES.search(name) is not None,
            "has the suffix of another type": name.endswith(SUFFIXES),
            "has a reserved label": any(
                RESERVED & set(sample.labels) - ({"le"} if metric.type == "histogram" else set())
                for sample in metric.samples
            ),
            "is a counter without _total": metric.type == "counter"
            and not all(sample.name.endswith(("_total", "_created")) for sample in metric.samples),
            "is of no type": metric.type not in {"counter", "gauge", "histogram"},
        }
        told += [f"{name} {text}" for text, wrong in checks.items() if wrong]
    return told


def test_all_names_follow_the_conventions() -> None:
    """Queries and dashboards can be written without the reference."""
    found = all_metrics()

    assert len(found) > 20
    assert complaints(found) == []


def test_the_check_finds_wrong_names() -> None:
    """Otherwise it would prove nothing."""
    wrong = Metric("fleek_wait_ms_total", "Help", "gauge")
    wrong.add_sample("fleek_wait_ms_total", {"job": "x"}, 1)

    assert len(complaints([wrong])) == 4
