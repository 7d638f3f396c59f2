"""Secrets appear nowhere: each has a unique value that is searched in all output of the service."""

import asyncio
import base64
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import httpx2
import pytest

from backing_services import MIGRATED, Postgres, apart, free_port
from collecting import Collector, collecting
from service_process import PATIENCE, Service, running

MASTER: Final = bytes(range(101, 133))
SECRETS: Final = {
    "API key": "canary-api-key-0123456789-abcdefghijklmnop",
    "another API key": "canary-second-key-0123456789-abcdefghijkl",
    "provider token": "r8_canaryProviderToken0123456789abcdefghij",
    "callback secret": "whsec_Y2FuYXJ5LWNhbGxiYWNrLXNlY3JldC0wMTIzNDU2Nzg5",
    "master key": base64.b64encode(MASTER).decode(),
    "metrics token": "canary-metrics-token-0123456789-abcdef",
    "database password": "canary-database-password",
    "S3 secret": "canary-s3-secret-0123456789-abcdefghijklmn",
    "proxy password": "canary-proxy-password",
}
"""Of the service. Idempotency keys are no secrets: whoever has one can only get its own job."""

TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
ERRORS: Final = "submitted.write=oserror@3,watch.poll=oserror@2,deliver.sent=oserror@1"
"""Mistakes inside: each leaves a traceback in the log."""


def forms(secret: str) -> set[bytes]:
    """Return the possible spellings of a secret."""
    plain = secret.encode()
    encoded = base64.b64encode(plain), base64.urlsafe_b64encode(plain)
    return {
        plain,
        plain.hex().encode(),
        quote(secret, safe="").encode(),
        json.dumps(secret)[1:-1].encode(),
        *(part.rstrip(b"=") for part in encoded),
    }


@dataclass
class Findings:
    """The output by its place, and the secrets to search for."""

    secrets: dict[str, str] = field(default_factory=lambda: dict(SECRETS))
    texts: dict[str, bytes] = field(default_factory=dict)

    def add(self, place: str, text: bytes | str) -> None:
        """Add output."""
        data = text.encode() if isinstance(text, str) else text
        self.texts[place] = self.texts.get(place, b"") + data

    def leaks(self) -> list[tuple[str, str]]:
        """Return each secret with the place at which it appears."""
        wanted = [(name, form) for name, value in self.secrets.items() for form in forms(value)]
        return sorted(
            {
                (name, place)
                for place, text in self.texts.items()
                for name, form in wanted
                if form in text
            }
        )


class _Traces(BaseHTTPRequestHandler):
    def __init__(self, bodies: list[bytes], *args: Any) -> None:
        self._bodies = bodies
        super().__init__(*args)

    def do_POST(self) -> None:
        self._bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting_traces() -> Generator[tuple[str, list[bytes]]]:
    """Accept traces, and yield the address and the received ones."""
    bodies: list[bytes] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Traces, bodies))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def receiver() -> Generator[Collector]:
    """Run a receiver of webhooks."""
    with collecting() as opened:
        yield opened


def settings_for(postgres: Postgres, name: str, emulator: int, traces: str) -> dict[str, str]:
    """Return settings with a secret in every possible place."""
    password = SECRETS["database password"]
    return {
        "DATABASE_URL": f"postgresql://postgres:{password}@127.0.0.1:{postgres.port}/{name}",
        "API_KEYS": f"ops:{SECRETS['API key']},second:{SECRETS['another API key']}",
        "MASTER_KEY": SECRETS["master key"],
        "METRICS_TOKEN": SECRETS["metrics token"],
        "PROVIDERS": "replicate",
        "REPLICATE_API_TOKEN": SECRETS["provider token"],
        "REPLICATE_BASE_URL": f"http://127.0.0.1:{emulator}",
        "REPLICATE_WEBHOOK_SECRET": SECRETS["callback secret"],
        "S3_SECRET_ACCESS_KEY": SECRETS["S3 secret"],
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces,
        "SSRF_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_ALLOW_HTTP": "true",
        "LOG_LEVEL": "DEBUG",
        "RETRY_BACKOFF_BASE": "0.1",
        "FLEEK_FAILPOINTS": ERRORS,
    }


def calls(service: Service, found: Findings) -> None:
    """Send valid and invalid requests, and record the responses."""
    key, token = SECRETS["API key"], SECRETS["metrics token"]
    known = {"Authorization": f"Bearer {key}"}
    jobs = service.http.get("/api/v1/jobs", headers=known).json()
    job = f"/api/v1/jobs/{jobs[0]['id']}"
    hook = service.http.get("/api/v1/webhooks/deliveries", headers=known).json()[0]["id"]
    paths = [
        *(job, f"{job}/history", f"{job}/logs", f"{job}/logs?follow=true", f"{job}/events"),
        *(f"{job}/metadata", "/api/v1/jobs?count=true&q=cat", "/api/v1/jobs/days", "/api/v1/me"),
        *("/api/v1/keys", "/api/v1/queue", "/api/v1/stats", "/api/v1/models"),
        *("/api/v1/webhooks/endpoints", f"/api/v1/webhooks/deliveries/{hook}"),
        *("/", "/docs", "/openapi.json", "/health", "/readyz", "/nowhere"),
        *(f"/api/v1/jobs?api_key={key}", f"/api/v1/jobs?q={key}", f"/api/v1/jobs/{key}"),
    ]
    for path in paths:
        answer = service.http.get(path, headers=known)
        found.add(f"GET {path.partition(key)[0]}", _whole(answer))
    for path in ("/metrics", "/info", "/health/detailed"):
        for accept in ("application/json", "text/plain", "text/html"):
            headers = {"X-API-Key": token, "Accept": accept}
            found.add(f"GET {path}", _whole(service.http.get(path, headers=headers)))
    wrong: list[dict[str, Any]] = [
        {"headers": {"Authorization": f"Bearer {key}x"}},
        {"headers": {**known, "X-API-Key": token}},
        {"headers": {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}},
        {"headers": known, "content": f'{{"prompt": "{key}'.encode()},
        {"headers": known, "json": {"prompt": "x", "provider": key, "model": key}},
        {"headers": known, "json": {"prompt": "x", "webhook_url": f"https://{key}@localhost/"}},
        {"headers": {**known, "Idempotency-Key": key * 9}, "json": {"prompt": 1}},
        {"headers": {**known, "Host": key, "X-Request-ID": "r1"}},
    ]
    found.add("made-up method", _whole(service.http.request(key, "/api/v1/jobs", headers=known)))
    for n, request in enumerate(wrong):
        answer = service.http.post("/api/v1/generate", **request)
        assert answer.is_client_error, answer.text
        found.add(f"wrong request {n}", _whole(answer))


def _whole(answer: httpx2.Response) -> bytes:
    return repr(answer.headers.multi_items()).encode() + answer.content


def commands(service: Service, found: Findings) -> None:
    """Run operators' commands, some with wrong settings, and record their output."""
    s3 = {"STORAGE_BACKEND": "s3", "S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "AKIACANARY"}
    s3 |= {"S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    away = {"DATABASE_URL": service.env["DATABASE_URL"].replace("@127.0.0.1", "@127.0.0.2")}
    proxy = {"REPLICATE_PROXY": f"http://me:{SECRETS['proxy password']}@127.0.0.1:{free_port()}"}
    bad = {"MASTER_KEY": SECRETS["master key"][:-9], "API_KEYS": f"x:{SECRETS['API key']},y"}
    runs: list[tuple[list[str], dict[str, str]]] = [
        (["doctor"], {}),
        (["doctor", "--json"], {}),
        (["doctor"], s3),
        (["doctor"], away),
        (["doctor"], proxy),
        (["doctor"], bad),
        (["config", "show"], {}),
        (["config", "show", "--json"], s3),
        (["audit", "list", "--json"], {}),
        (["keys", "list"], {}),
        (["providers"], proxy),
        (["serve", "--no-worker"], away),
        (["serve", "--no-worker"], s3),
        (["worker"], bad),
    ]
    for arguments, more in runs:
        process = service.start(*arguments, **{"FLEEK_FAILPOINTS": "", **more})
        assert process.popen.stdout is not None
        out, _ = process.popen.communicate(timeout=PATIENCE)
        found.add(f"fleek {' '.join(arguments)} {sorted(more)}", out + process.log.read_bytes())


def dump(url: str) -> bytes:
    """Return all rows of all tables."""

    async def read() -> bytes:
        connection = await asyncpg.connect(url)
        try:
            tables = [row[0] for row in await connection.fetch(TABLES)]
            rows = [
                str(tuple(row.values()))
                for table in tables
                for row in await connection.fetch(f'SELECT t::text FROM "{table}" AS t')  # noqa: S608 - tables of the project
            ]
        finally:
            await connection.close()
        return "\n".join(rows).encode()

    dumped: bytes = apart(asyncio.run, read())
    return dumped


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_secret_appears_anywhere(
    tmp_path: Path, postgres: Postgres, receiver: Collector, style: str
) -> None:
    """Neither in logs, responses, events, webhooks, metrics, traces, commands nor the database.

    A job completes, others fail, requests are wrong, and internal errors leave tracebacks.
    """
    found = Findings()
    name = postgres.create(template=MIGRATED)
    with collecting_traces() as (traces, spans):
        port = free_port()
        settings = settings_for(postgres, name, port, traces)
        with running(tmp_path, LOG_FORMAT=style, **settings) as service:
            service.start("--port", str(port), program="fleek.emulator").await_line(str(port))
            api = service.serve()
            made = _run(service, receiver, found)
            calls(service, found)
            commands(service, found)
            api.stop()
            for process in service.processes:
                found.add(f"log of {process.command}", process.log.read_bytes())
        found.add("spans", b"".join(spans))
        found.add("webhooks", b"".join(received.body for received in receiver.received))
        for received in receiver.received:
            found.add("headers of webhooks", repr(received.headers))
        found.add("database", dump(postgres.url(name)))
        stored = (path for path in (tmp_path / "storage").rglob("*.json"))
        found.add("metadata documents", b"".join(path.read_bytes() for path in stored))

    found.secrets |= made
    postgres.drop(name)
    assert b"Traceback" in b"".join(found.texts.values())
    assert b"fleek_job_steps" in found.texts["GET /metrics"]
    assert all(found.texts[place] for place in ("spans", "webhooks", "database"))
    assert found.leaks() == []


def _run(service: Service, receiver: Collector, found: Findings) -> dict[str, str]:
    """Let jobs end in all ways, and return the created secrets, which are shown once."""
    known = {"Authorization": f"Bearer {SECRETS['API key']}"}

    def post(path: str, **body: Any) -> Any:
        answer = service.http.post(path, headers=known, json=body)
        found.add(f"POST {path}", repr(answer.headers.multi_items()))
        return answer.json()

    made = post("/api/v1/keys", name="made", scopes=["jobs:read"])["key"]
    hook = post("/api/v1/webhooks/endpoints", url=receiver.url, events=["job.completed"])["secret"]
    rotated = post("/api/v1/webhooks/secret/rotate")["secret"]
    for prompt in (
        "a cat",
        "[[emu:fail_mid]]",
        "broken",
        "[[emu:create_401]]",
        "[[emu:create_422]]",
    ):
        # The third one causes an internal error, after which the connection ends.
        with suppress(httpx2.ReadError, httpx2.RemoteProtocolError):
            answer = service.http.post(
                "/api/v1/generate",
                headers={**known, "Idempotency-Key": f"k {prompt}".replace(" ", "-")},
                json={"prompt": prompt, "webhook_url": receiver.url, "max_attempts": 2},
            )
            found.add("POST /api/v1/generate", _whole(answer))
    receiver.wait_for(2)
    return {"created key": made, "endpoint's secret": hook, "tenant's secret": rotated}
