"""A fake server with fixed answers, and the command line run in this process."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import typer.main

from fleek.cli import run

built = cache(typer.main.get_command)  # the tree of commands is built once, not for each of them
JOB = "0198f000-0000-7000-8000-000000000001"


@dataclass
class Request:
    """A received request."""

    line: str  # "GET /api/v1/jobs"
    query: str
    headers: dict[str, str]
    body: bytes


class FakeService:
    """Answer each "METHOD /path" with the next of its answers; the last one is repeated."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self._answers: dict[str, list[tuple[int, str, Any]]] = {}

    def answers(self, line: str, *bodies: object, status: int = 200, kind: str = "") -> None:
        """Set the answers; a function is called for its bytes, anything else is sent as JSON."""
        self._answers[line] = [(status, kind or "application/json", body) for body in bodies]

    def script(self, line: str, *answers: tuple[int, str, Any]) -> None:
        """Answer with these in turn: status, type and body."""
        self._answers[line] = list(answers)

    def answer(self, request: Request) -> tuple[int, str, bytes]:
        """Return status, type and body."""
        self.requests.append(request)
        known = self._answers.get(request.line)
        if known is None:
            problem = {"title": "Not found", "detail": "nothing here", "code": "not_found"}
            return 404, "application/problem+json", json.dumps(problem).encode()
        status, kind, body = known.pop(0) if len(known) > 1 else known[0]
        content = body() if callable(body) else body
        return (
            status,
            kind,
            content if isinstance(content, bytes) else json.dumps(content).encode(),
        )


class _Server(ThreadingHTTPServer):
    service: FakeService

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; stderr belongs to the command."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        service = cast("_Server", self.server).service
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        line = f"{self.command} {path}"
        status, kind, content = service.answer(Request(line, query, dict(self.headers), body))
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[FakeService]:
    """Run the fake server at FLEEK_URL; the current folder is empty."""
    server = _Server(("127.0.0.1", 0), _Handler)
    fake = FakeService(f"http://127.0.0.1:{server.server_port}")
    server.service = fake
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("FLEEK_URL", fake.url)
    monkeypatch.delenv("FLEEK_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Result:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def fleek(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Return a function that runs a command without configuring logging.

    Loggers keep their first configuration: later tests could not capture their lines.
    """
    for module in ("telemetry", "server", "worker"):
        monkeypatch.setattr(f"fleek.{module}.configure_logging", lambda **_: None)
    monkeypatch.setattr("typer.main.get_command", built)

    def call(*args: str) -> Result:
        code = run(args)
        written = capsys.readouterr()
        return Result(code, written.out, written.err)

    return call


@pytest.fixture
def a_job() -> Callable[..., dict[str, Any]]:
    """Return a factory of jobs as the API returns them."""

    def make(status: str = "pending", **changes: Any) -> dict[str, Any]:
        names = ("progress", "queue_position", "started_at", "completed_at", "purged_at")
        nothing = dict.fromkeys(
            (*names, "error_code", "error_message", "result_url", "file_size", "external_job_id")
        )
        ended = status in {"completed", "failed", "cancelled"}
        moment = "2026-01-02T03:04:05Z"
        return nothing | {
            "id": JOB,
            "prompt": "a cat",
            "model_name": "fleek/art",
            "provider": "placeholder",
            "parameters": {},
            "status": status,
            "priority": 5,
            "created_at": moment,
            "updated_at": moment,
            "run_at": moment,
            "completed_at": "2026-01-02T03:04:07.500Z" if ended else None,
            "retry_count": 0,
            "max_attempts": 4,
            "outputs": [],
            "metadata": {},
            "links": {"self": "/", "events": "/", "cancel": "/", "download": "/"},
            **changes,
        }

    return make


@pytest.fixture
def an_output() -> Callable[..., dict[str, Any]]:
    """Return a factory of outputs as the API returns them."""

    def make(index: int, sha256: str) -> dict[str, Any]:
        picture = {"index": index, "url": "http://x/media/1.png", "content_type": "image/png"}
        return picture | {"size_bytes": 4, "sha256": sha256, "width": 64, "height": 32}

    return make


@pytest.fixture
def an_upload() -> dict[str, Any]:
    """Return an upload as the API returns it."""
    upload_id = "0198f000-0000-7000-8000-000000000002"
    return {
        "id": upload_id,
        "reference": f"upload:{upload_id}",
        "url": f"http://x/api/v1/uploads/{upload_id}",
        "content_type": "image/png",
        "size_bytes": 4,
        "sha256": "5" * 64,
        "width": None,
        "height": None,
        "duration_seconds": None,
        "created_at": "2026-01-02T03:04:05Z",
        "expires_at": "2026-01-03T03:04:05Z",
    }
