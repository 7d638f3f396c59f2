"""Structured logs and metrics."""

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.registry import Collector

MAX_FIELD = 1024  # characters of one logged value
TRACEBACKS: Final = frozenset({"exception", "stack"})
CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def configure_logging(*, level: str, style: Literal["console", "json"] | None) -> None:
    """Write the logs of this process and its libraries to stderr in one format.

    `style` None: console on a terminal, else JSON lines.
    """
    chosen = style or ("console" if sys.stderr.isatty() else "json")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shortened,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if chosen == "console"
        else structlog.processors.JSONRenderer(ensure_ascii=True)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *([_on_one_line] if chosen == "console" else []),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for quiet in (
        "uvicorn.access",
        "aiohttp",
        "httpx2",
        "httpcore2",
        "alembic",
        "aiosqlite",
        "asyncio",
    ):
        logging.getLogger(quiet).setLevel(max(logging.WARNING, root.level))


def _shortened(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and len(value) > MAX_FIELD:
            event[name] = value[:MAX_FIELD] + "…"
    return event


def _on_one_line(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape control characters; only tracebacks keep their line breaks."""
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name in TRACEBACKS else [value]
            event[name] = "\n".join(CONTROLS.sub(_escaped, line) for line in lines)
    return event


def _escaped(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


class Metrics:
    """The metrics of one process, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.steps = Counter(
            "fleek_job_steps", "Changes of jobs, by event.", ["event"], registry=self.registry
        )
        self.turns = Counter(
            "fleek_loop_turns", "Runs of the engine's loops.", ["loop"], registry=self.registry
        )
        self.failures = Counter(
            "fleek_loop_failures",
            "Runs and tasks that ended with an unexpected error.",
            ["loop"],
            registry=self.registry,
        )
        self.last_success = Gauge(
            "fleek_loop_last_success_timestamp_seconds",
            "Time of the last complete run of a loop.",
            ["loop"],
            registry=self.registry,
        )
        self.orphans = Counter(
            "fleek_orphan_predictions",
            "Predictions that belong to no attempt and were cancelled.",
            registry=self.registry,
        )
        self.start_failures = Counter(
            "fleek_provider_failures",
            "Predictions that could not be created, by error code.",
            ["provider", "code"],
            registry=self.registry,
        )
        self.budget = Gauge(
            "fleek_budget_tokens",
            "Calls that the rate limiter allows now, by kind; negative after too many calls.",
            ["provider", "kind"],
            registry=self.registry,
        )
        self.adopted = Counter(
            "fleek_adopted_predictions",
            "Predictions that were found again and adopted, by the way of finding them.",
            ["by"],
            registry=self.registry,
        )
        self.purged_jobs = Counter(
            "fleek_purged_jobs",
            "Jobs whose files or metadata document were purged, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self.erased_files = Counter(
            "fleek_erased_files",
            "Files that were removed from the storage.",
            registry=self.registry,
        )
        self.erased_bytes = Counter(
            "fleek_erased_bytes",
            "Bytes of files that were removed from the storage.",
            registry=self.registry,
        )
        self.removed_jobs = Counter(
            "fleek_removed_jobs", "Jobs whose rows were removed.", registry=self.registry
        )
        self.orphan_files = Counter(
            "fleek_orphan_files",
            "Orphaned files that were removed.",
            registry=self.registry,
        )
        self.http_refusals = Counter(
            "fleek_http_refusals",
            "Requests and connections that were refused before the application handled them.",
            ["code"],
            registry=self.registry,
        )
        self.webhooks = Counter(
            "fleek_webhook_attempts",
            "Attempts to deliver a webhook, by what came of them.",
            ["outcome"],
            registry=self.registry,
        )
        self.coordinating = Gauge(
            "fleek_coordinator", "1 while this process is the coordinator.", registry=self.registry
        )

    def show(self, figures: Iterable[Collector]) -> None:
        """Add collectors of other parts."""
        for figure in figures:
            self.registry.register(figure)
