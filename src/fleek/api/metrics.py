"""Metrics of HTTP requests, jobs, providers and the process."""

from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from fleek.store.counters import JobCounts
from fleek.store.provider_health import ProviderHealth

METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def method_of(scope: MutableMapping[str, Any]) -> str:
    """Return the method of a request; ``other``: one that a caller has made up."""
    return scope["method"] if scope["method"] in METHODS else "other"


class HttpMetrics:
    """Durations of requests. The label is the pattern of the route, so callers cannot add series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "fleek_http_request_seconds",
            "Time from the headers of a request to the end of its response.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=registry,
        )
        self._series: dict[tuple[str, str, int], Histogram] = {}

    def count(self, scope: MutableMapping[str, Any], *, status: int, seconds: float) -> None:
        """Count one request."""
        key = (method_of(scope), getattr(scope.get("route"), "path", "none"), status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._seconds.labels(*key)
        series.observe(seconds)


class ApiMetrics:
    """All metrics of one application, with those of the engine; a process may have several."""

    def __init__(self, engine: CollectorRegistry) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(engine)
        self.http = HttpMetrics(self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._jobs = Gauge("fleek_jobs", "Jobs by status.", ("status",), registry=self.registry)
        self._depth = self._gauge("fleek_queue_depth", "Due jobs that wait to be started.")
        self._flight = self._gauge("fleek_jobs_in_flight", "Jobs that are being processed.")
        self._oldest = self._gauge("fleek_oldest_pending_seconds", "Longest wait of a due job.")
        self._workers = self._gauge("fleek_workers", "Workers that are alive.")

        self._paused = Gauge(
            "fleek_provider_paused_seconds",
            "Remaining pause of a provider.",
            ("provider", "reason"),
            registry=self.registry,
        )
        self._waiting = Gauge(
            "fleek_results_waiting",
            "Paid results that could not be stored after two tries, by error code; up to 1,000.",
            ("code",),
            registry=self.registry,
        )
        self._open = Gauge(
            "fleek_breaker_open",
            "1 while the circuit breaker of a model is open.",
            ("provider", "model"),
            registry=self.registry,
        )

    def show(
        self,
        counts: JobCounts,
        *,
        workers: int,
        postponed: Mapping[str, int],
        impaired: Sequence[ProviderHealth],
        now: datetime,
    ) -> None:
        """Set the metrics that are read from the database."""
        self._waiting.clear()
        for code, number in postponed.items():
            self._waiting.labels(code).set(number)
        self._paused.clear()
        self._open.clear()
        for health in impaired:
            if health.paused_until is None:
                continue
            if health.model:
                self._open.labels(health.provider, health.model).set(1)
            else:
                seconds = max((health.paused_until - now).total_seconds(), 0)
                self._paused.labels(health.provider, health.reason).set(seconds)
        for status, count in counts.by_status.items():
            self._jobs.labels(status.value).set(count)
        self._depth.set(counts.queue_depth)
        self._flight.set(counts.in_flight)
        self._oldest.set(counts.oldest_pending_seconds or 0)
        self._workers.set(workers)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition in the format of `accept`, and its content type."""
        return exposition(self.registry, accept)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return all metrics of a registry in the format of `accept`, and its content type."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that the library cannot compare
        encode, content_type = choose_encoder("")
    return encode(registry), content_type
