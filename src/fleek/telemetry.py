"""Structured logs and metrics."""

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from functools import partial
from typing import Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.registry import Collector

MAX_FIELD = 1024  # characters of one logged value
QUIET: Final = (  # libraries that log what they do
    *("uvicorn.access", "aiohttp", "httpx2", "httpcore2"),
    *("alembic", "aiosqlite", "asyncio"),
)
TRACEBACKS: Final = frozenset({"exception", "stack"})
CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


_least = logging.NOTSET  # what is less is not written; not known before the logs are configured


def is_written(level: int) -> bool:
    """Whether a line of this level may be written.

    A logger says so, too, but is made anew for the question: that costs a hundredth of a submission.
    """
    return level >= _least


def configure_logging(*, level: str, style: Literal["console", "json"] | None) -> None:
    """Write the logs of this process and its libraries to stderr in one format.

    `style` None: console on a terminal, else JSON lines.
    """
    console = (style or ("console" if sys.stderr.isatty() else "json")) == "console"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _shortened,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    global _least  # noqa: PLW0603 - one per process, as structlog has it
    _least = logging.getLevelNamesMapping()[level]
    root = logging.getLogger()
    root.handlers = [_handler(shared, console=console)]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _handler(shared: list[Any], *, console: bool) -> logging.Handler:
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=True)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *([_on_one_line] if console else []),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


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
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self.steps = counter("fleek_job_steps", "Changes of jobs, by event.", ["event"])
        self.turns = counter("fleek_loop_turns", "Runs of the engine's loops.", ["loop"])
        self.failures = counter(
            "fleek_loop_failures", "Runs and tasks that ended with an unexpected error.", ["loop"]
        )
        self.last_success = gauge(
            "fleek_loop_last_success_timestamp_seconds",
            "Time of the last complete run of a loop.",
            ["loop"],
        )
        self.orphans = counter(
            "fleek_orphan_predictions", "Predictions that belong to no attempt and were cancelled."
        )
        self.start_failures = counter(
            "fleek_provider_failures",
            "Predictions that could not be created, by error code.",
            ["provider", "code"],
        )
        self.budget = gauge(
            "fleek_budget_tokens",
            "Calls that the rate limiter allows now, by kind; negative after too many calls.",
            ["provider", "kind"],
        )
        self.adopted = counter(
            "fleek_adopted_predictions",
            "Predictions that were found again and adopted, by the way of finding them.",
            ["by"],
        )
        self.purged_jobs = counter(
            "fleek_purged_jobs",
            "Jobs whose files or metadata document were purged, by cause.",
            ["cause"],
        )
        self.erased_files = counter(
            "fleek_erased_files", "Files that were removed from the storage."
        )
        self.erased_bytes = counter(
            "fleek_erased_bytes", "Bytes of files that were removed from the storage."
        )
        self.removed_jobs = counter("fleek_removed_jobs", "Jobs whose rows were removed.")
        self.orphan_files = counter("fleek_orphan_files", "Orphaned files that were removed.")
        self.http_refusals = counter(
            "fleek_http_refusals",
            "Requests and connections that were refused before the application handled them.",
            ["code"],
        )
        self.webhooks = counter(
            "fleek_webhook_attempts",
            "Attempts to deliver a webhook, by what came of them.",
            ["outcome"],
        )
        self.coordinating = gauge("fleek_coordinator", "1 while this process is the coordinator.")

    def show(self, figures: Iterable[Collector]) -> None:
        """Add collectors of other parts."""
        for figure in figures:
            self.registry.register(figure)
