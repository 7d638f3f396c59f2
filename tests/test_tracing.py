"""Traces: from a request over its job to the provider and storage, without secrets."""

import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fakes import FakeProvider
from fleek import tracing
from fleek.app import create_app
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import Job, JobId
from fleek.engine.collect import collect
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client, NotSent, Request, Response
from fleek.store import jobs
from service_process import PATIENCE, running

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
SECRET = "a-very-secret-prompt"


@pytest.fixture
def recorded() -> Generator[InMemorySpanExporter]:
    """Record the spans of this process in memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(trace.NoOpTracerProvider())
    provider.shutdown()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    """Return the only span of this name."""
    (found,) = [one for one in exporter.get_finished_spans() if one.name == name]
    return found


async def submitted(rt: Runtime, **headers: str) -> Job:
    """Submit a job over HTTP."""
    transport = httpx2.ASGITransport(create_app(rt))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.post("/api/v1/generate", json={"prompt": SECRET}, headers=headers)
    assert answer.status_code == 201
    return await jobs.get_any_tenant(rt.db, JobId(UUID(answer.json()["id"])))


async def test_a_job_is_one_trace(
    rt: Runtime, provider: FakeProvider, recorded: InMemorySpanExporter
) -> None:
    """It starts at the caller; the worker continues it later, in any process."""
    provider.at_once = True

    job = await submitted(rt, traceparent=PARENT)
    await start(rt, job.id)
    await collect(rt, job.id)

    spans = recorded.get_finished_spans()
    assert {one.name for one in spans} == {
        "POST /api/v1/generate",
        "start",
        "collect",
        "storage.save",
    }
    assert {f"{one.context.trace_id:032x}" for one in spans} == {TRACE}
    request, begun = named(recorded, "POST /api/v1/generate"), named(recorded, "start")
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 201
    assert begun.parent is not None
    assert begun.parent.span_id == request.context.span_id
    assert begun.attributes is not None
    assert begun.attributes["fleek.job_id"] == str(job.id)
    assert SECRET not in "".join(one.to_json() for one in spans)


async def test_a_caller_s_trace_is_stored_without_an_exporter(rt: Runtime) -> None:
    """A worker with an exporter continues it."""
    assert (await submitted(rt, traceparent=PARENT)).traceparent == PARENT
    assert (await submitted(rt)).traceparent is None


@pytest.mark.parametrize(
    "given", ["", "x", PARENT + "-x", PARENT.upper(), f"00-{'0' * 32}-{'1' * 16}-01", "é"]
)
async def test_an_invalid_trace_context_is_ignored(rt: Runtime, given: str) -> None:
    """The standard requires that: the request is not refused."""
    job = await submitted(rt, traceparent=given.encode("latin-1"))  # type: ignore[arg-type]

    assert job.traceparent is None


class Unreachable:
    """A network without reachable hosts."""

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[Response]:
        """Fail."""
        raise NotSent(f"{request.url} is away")
        yield  # type: ignore[unreachable]  # so that it is a generator

    async def close(self) -> None:
        """Do nothing."""


async def test_a_span_has_the_host_but_no_path(recorded: InMemorySpanExporter) -> None:
    """Paths, queries and error messages may contain tokens and signatures."""
    client = Client(Policy(setting="X"), Unreachable())

    with pytest.raises(NotSent):
        async with client.open("GET", "https://example.com/secret?secret=secret"):
            pass

    found = named(recorded, "GET")
    assert found.attributes is not None
    assert found.attributes["server.address"] == "example.com"
    assert found.status.description == "NotSent"
    assert "secret" not in found.to_json()


def test_an_exporter_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it."""
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=r"fleek\[otel\]"):
        tracing.export_to("http://localhost:4318", service="fleek")


class Collector(BaseHTTPRequestHandler):
    """Receive traces like an OpenTelemetry collector."""

    def __init__(self, bodies: list[bytes], *args: Any) -> None:
        self._bodies = bodies
        super().__init__(*args)

    def do_POST(self) -> None:
        """Record one request."""
        assert self.path == "/v1/traces"
        self._bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no log."""


@contextmanager
def collecting() -> Generator[tuple[str, list[bytes]]]:
    """Run a collector; yields its address and the received bodies."""
    bodies: list[bytes] = []
    with HTTPServer(("127.0.0.1", 0), partial(Collector, bodies)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("_full_suite")
def test_a_service_exports_its_traces(tmp_path: Path) -> None:
    """In OTLP over HTTP; the last ones when it stops."""
    with collecting() as (url, bodies), running(tmp_path) as service:
        process = service.serve(OTEL_EXPORTER_OTLP_ENDPOINT=url)
        service.submit()
        service.settle(seconds=PATIENCE)
        assert process.stop() == 0

    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    resources = [one for request in requests for one in request.resource_spans]
    names = {one.name for each in resources for part in each.scope_spans for one in part.spans}
    assert {"POST /api/v1/generate", "start", "collect", "storage.save"} <= names
    services = [
        pair.value.string_value
        for each in resources
        for pair in each.resource.attributes
        if pair.key == "service.name"
    ]
    assert set(services) == {"fleek"}
