"""Tracing with OpenTelemetry: one trace from a request over its job to the provider and storage.

Without an exporter nothing is recorded; then a caller's own trace context is only passed on.
A span holds ids, names, sizes and statuses: no prompt, no path, no address, no message of an error.
"""

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fleek.domain.errors import ConfigurationError
from fleek.domain.job import Job

TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""A trace context as W3C Trace Context 1 writes it; https://www.w3.org/TR/trace-context/."""

_propagator: Final = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None  # nothing is recorded


def use(provider: trace.TracerProvider) -> None:
    """Record the spans of this process with a provider."""
    global _tracer  # noqa: PLW0603 - one per process, as OpenTelemetry has it
    _tracer = provider.get_tracer("fleek")


def export_to(endpoint: str, *, service: str) -> Callable[[], None]:
    """Send the spans of this process to an OpenTelemetry collector; returns what ends that.

    `endpoint` is the base of its OTLP receiver over HTTP; `service` the name of the service.

    Raises:
        ConfigurationError: The extra `otel` is not installed.
    """
    if find_spec("opentelemetry.sdk") is None:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra otel: pip install 'fleek[otel]'"
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - optional
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - optional
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - optional
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - optional

    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)
    return provider.shutdown


def span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: Any,
) -> AbstractContextManager[Span]:
    """Record what happens in a block.

    A library's span that records nothing still costs 2 % of a job, so without an exporter there is none.

    Args:
        name: Of few values: no ids.
        parent: A trace context that it belongs to; None: the current span, if there is one.
        kind: Whether it receives or sends a request.
        attributes: ``__`` in a name stands for a dot; None is left out.
    """
    if _tracer is None:
        return _UNRECORDED if parent is None else _unrecorded(parent)
    return _recorded(_tracer, name, parent=parent, kind=kind, attributes=attributes)


_UNRECORDED: Final = nullcontext(trace.INVALID_SPAN)


@contextmanager
def _unrecorded(parent: str) -> Generator[Span]:
    with _within(parent):
        yield trace.INVALID_SPAN


@contextmanager
def _recorded(
    tracer: trace.Tracer,
    name: str,
    *,
    parent: str | None,
    kind: SpanKind,
    attributes: Mapping[str, Any],
) -> Generator[Span]:
    given = {
        key.replace("__", "."): value for key, value in attributes.items() if value is not None
    }
    with (
        _within(parent),
        tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=given,
            record_exception=False,
            set_status_on_exception=False,
        ) as current,
    ):
        try:
            yield current
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@contextmanager
def _within(parent: str | None) -> Generator[None]:
    if parent is None:
        yield
        return
    token = context.attach(_propagator.extract({"traceparent": parent}))
    try:
        yield
    finally:
        context.detach(token)


def job_span(name: str, job: Job, **attributes: Any) -> AbstractContextManager[Span]:
    """Record a step of a job, in the trace of the request that created it."""
    return span(
        name,
        parent=job.traceparent,
        kind=SpanKind.CONSUMER,
        fleek__job_id=str(job.id),
        fleek__provider=job.provider,
        fleek__model=job.model,
        **attributes,
    )


def traceparent() -> str | None:
    """Return the current trace context in one line, or None outside of any trace."""
    if not context.get_current():  # as for most requests: nothing was begun or received
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")
