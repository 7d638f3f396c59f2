"""The application on a real runtime, called without a socket, and jobs in every state."""

import asyncio
import hashlib
import logging
import shutil
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
import uvicorn
import uvloop
from pydantic import SecretStr
from structlog.testing import capture_logs
from uuid_utils.compat import uuid4, uuid7

from backing_services import migrated_sqlite
from default_settings import defaults
from fleek.app import create_app
from fleek.bootstrap import open_runtime
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.job import (
    AttemptId,
    Change,
    Job,
    JobError,
    JobId,
    JobRequest,
    Kind,
    PredictionId,
    Status,
    WorkerId,
)
from fleek.domain.media import Media, media_key, metadata_key
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.server import _config
from fleek.settings import Settings
from fleek.store.updates import Intent, Update, apply
from service_process import PATIENCE

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
BASE = "http://fleek.test"
ADMIN_KEY = "a-key-of-tests-that-may-do-everything"

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty database with an up-to-date schema, to be copied."""
    path = tmp_path_factory.mktemp("schema") / "fleek.db"
    path.write_bytes(migrated_sqlite())
    return path


@pytest.fixture(scope="session")
def server(schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Yield the address of a running service without a worker and without keys."""
    with _serving(schema, tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="session")
def guarded(schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Yield the address of a service that requires keys; `ADMIN_KEY` has all scopes."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = SecretStr(f"tests:{ADMIN_KEY}")
    with _serving(schema, folder, api_keys=keys, rate_per_minute=0) as address:
        yield address


@contextmanager
def _serving(schema: Path, folder: Path, **settings: Any) -> Generator[str]:
    """Run a service in a thread.

    Errors that its responses did not show fail the tests at the end.
    """
    shutil.copy(schema, folder / "fleek.db")
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # only until it is open: other tests run in parallel
        patch.chdir(folder)
        patch.setenv("STORAGE_PATH", str(folder / "storage"))
        url = f"sqlite+aiosqlite:///{folder}/fleek.db"
        running = Running(Settings(database_url=url, **settings))
        server_errors = ServerErrors(running)
        logging.getLogger("uvicorn.error").addHandler(server_errors)
        running.start()
        address = running.address.result(timeout=PATIENCE)
    yield address
    running.stop()
    logging.getLogger("uvicorn.error").removeHandler(server_errors)
    assert not server_errors.messages


class ServerErrors(logging.Handler):
    """Records the errors that one server logs; others in this process have their own."""

    def __init__(self, server: Thread) -> None:
        super().__init__(logging.ERROR)
        self._server = server
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Record a message."""
        if record.thread == self._server.ident:
            self.messages.append(self.format(record))


class Running(Thread):
    """The service in a thread, on a port of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._server: uvicorn.Server | None = None
        self.address: Future[str] = Future()

    def run(self) -> None:
        """Serve until `stop` is called."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        with capture_logs():
            async with open_runtime(self._settings) as rt:
                self._server = uvicorn.Server(_config(self._settings, create_app(rt)))
                self.address.set_result(f"http://127.0.0.1:{listener.getsockname()[1]}")
                await self._server.serve(sockets=[listener])

    def stop(self) -> None:
        """Stop, and wait for the end."""
        assert self._server is not None
        self._server.should_exit = True
        self.join(timeout=PATIENCE)
        assert not self.is_alive()


@pytest.fixture
def settings(tmp_path: Path, schema: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings that keep everything below the test's own folder."""
    shutil.copy(schema, tmp_path / "fleek.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORAGE_PATH", str(tmp_path / "storage"))
    url = f"sqlite+aiosqlite:///{tmp_path}/fleek.db"
    return defaults(database_url=url, heartbeat_seconds=timedelta(seconds=60))  # for slow machines


@pytest.fixture
async def rt(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open a runtime with no worker."""
    with capture_logs():
        async with open_runtime(settings) as opened:
            yield opened


@pytest.fixture
def client_of() -> ClientOf:
    """Return a function that opens a client of an application on a runtime.

    Internal errors become responses, as in a real server, and are not raised.
    """

    def opened(rt: Runtime) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(create_app(rt), raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url=BASE)

    return opened


@pytest.fixture
async def client(rt: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of the application."""
    async with client_of(rt) as opened:
        yield opened


@pytest.fixture
def make(rt: Runtime) -> Make:
    """Return a function that creates a job in a given state."""

    async def made(
        status: Status = Status.PENDING, *, prompt: str = "A cat", **changes: Any
    ) -> Job:
        job = await submit(rt, JobRequest(prompt=prompt))
        if status is Status.PENDING and not changes:
            return job
        if status is Status.FAILED:
            changes = {"error": JobError("prediction_failed", "out of memory"), **changes}
        return await _become(rt, job, status=status, **changes)

    return made


@pytest.fixture
def complete(rt: Runtime) -> Make:
    """Return a function that creates a completed job with files: bytes, content type, extension.

    Or completes a `job` that there is.
    """
    return partial(_complete, rt)


@pytest.fixture
def become(rt: Runtime) -> Make:
    """Return a function that gives a job a state."""
    return partial(_become, rt)


async def _become(rt: Runtime, job: Job, *, step: Update | None = None, **changes: Any) -> Job:
    """Write a job's new state without regard to transitions, and return it."""
    after = replace(job, updated_at=rt.now(), **changes)
    written = replace(step or Update(), change=Change(after, "arranged"))

    await apply(rt.db, job.id, lambda _job, _attempt: written)

    return after


async def _complete(
    rt: Runtime,
    *files: tuple[bytes, str, str],
    document: bytes = b'{"prompt":"A cat"}',
    job: Job | None = None,
    **changes: Any,
) -> Job:
    job = job or await submit(rt, JobRequest(prompt="A cat"))
    attempt_id = AttemptId(uuid7())
    media = [
        await _stored(rt, job.id, attempt_id, index, *file)
        for index, file in enumerate(files or [(PNG, "image/png", "png")])
    ]
    await _saved(rt, metadata_key(job.id), document, "application/json")
    attempt = Attempt(
        id=attempt_id,
        job_id=job.id,
        number=1,
        provider=job.provider,
        model=job.model,
        nonce=uuid4().hex,
        request_hash="0" * 64,
        submitted_at=rt.now(),
        timeout=timedelta(hours=1),
        worker_id=WorkerId(uuid4()),
        verdict=Verdict.SUCCEEDED,
    )
    return await _become(
        rt,
        job,
        step=Intent(intent=attempt, media=media),
        status=Status.COMPLETED,
        kind=Kind.of(media[0].content_type),
        attempt=1,
        attempt_id=attempt_id,
        prediction_id=PredictionId("p1"),
        progress=1.0,
        started_at=rt.now(),
        completed_at=rt.now(),
        **changes,
    )


async def _stored(
    rt: Runtime, job_id: JobId, attempt_id: AttemptId, index: int, *file: Any
) -> Media:
    data, content_type, extension = file
    sha256 = hashlib.sha256(data).hexdigest()
    key = media_key(job_id, attempt_id, index, sha256=sha256, extension=extension)
    await _saved(rt, key, data, content_type)
    return Media(
        job_id=job_id,
        attempt_id=attempt_id,
        index=index,
        key=key,
        sha256=sha256,
        size_bytes=len(data),
        content_type=content_type,
    )


async def _saved(rt: Runtime, key: Any, data: bytes, content_type: str) -> None:
    part = rt.storage.spool() / uuid4().hex
    part.write_bytes(data)
    await rt.storage.save(key, part, content_type=content_type)
