"""Metrics of an installation of several processes: each has its own, and sums are right."""

from collections import defaultdict
from collections.abc import Mapping

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from backing_services import free_port
from service_process import PATIENCE, SMALL, Service

Series = tuple[str, tuple[tuple[str, str], ...]]
Scrape = Mapping[Series, float]
TEXT = {"Accept": "text/plain"}


def scraped(port: int) -> tuple[Scrape, set[Series]]:
    """Return all samples of a process, and which of them are counters."""
    text = (
        httpx2.get(f"http://127.0.0.1:{port}/metrics", headers=TEXT, timeout=PATIENCE)
        .raise_for_status()
        .text
    )
    values: dict[Series, float] = {}
    counters = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = sample.name, tuple(sorted(sample.labels.items()))
            values[series] = sample.value
            if family.type == "counter" and sample.name.endswith("_total"):
                counters.add(series)
    return values, counters


def series(name: str, **labels: str) -> Series:
    """Return the name of a series."""
    return name, tuple(sorted(labels.items()))


def test_counters_add_up_and_gauges_of_the_database_are_the_same(service: Service) -> None:
    """Two processes of the API, and a worker that has no other port."""
    other, third = free_port(), free_port()
    service.serve("--no-worker")
    service.serve("--no-worker", API_PORT=str(other))
    worker = service.start("worker", WORKER_METRICS_PORT=str(third))
    worker.await_log("metrics_served")
    ports = (service.port, other, third)
    before = [scraped(port) for port in ports]

    service.submit_many(3, parameters=SMALL)
    for _ in range(2):
        url = f"http://127.0.0.1:{other}/api/v1/generate"
        httpx2.post(
            url, json={"prompt": "x", "parameters": SMALL}, timeout=PATIENCE
        ).raise_for_status()
    assert service.settle(seconds=120)["completed"] == 5
    after = [scraped(port) for port in ports]

    total: defaultdict[Series, float] = defaultdict(float)
    by_process: defaultdict[Series, list[float]] = defaultdict(list)
    for values, _ in after:
        for name, value in values.items():
            total[name] += value
            by_process[name].append(value)
    assert total[series("fleek_job_steps_total", event="submitted")] == 5
    assert total[series("fleek_job_steps_total", event="completed")] == 5
    assert after[2][0][series("fleek_job_steps_total", event="completed")] == 5
    assert total[series("fleek_coordinator")] == 1
    requests = "fleek_http_request_seconds_count"
    created = series(requests, method="POST", route="/api/v1/generate", status="201")
    assert by_process[created] == [3, 2]
    assert by_process[series("fleek_jobs", status="completed")] == [5, 5]
    assert by_process[series("fleek_workers")] == [1, 1]
    for (earlier, counters), (later, _) in zip(before, after, strict=True):
        assert [name for name in counters if later[name] < earlier[name]] == []
