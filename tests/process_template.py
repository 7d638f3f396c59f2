"""Processes of a Python program, forked from one that has imported what they need.

Two thirds of the time of ``python -m fleek serve`` until it is ready are imports, and the suite starts
hundreds of processes. So each process of a run has a template: a Python that has imported the
service and does nothing. It forks for each order and the copy runs the program, as ``python -m``
does: with arguments, environment, folder and streams of its own, nothing of the template's but its
modules, what a first job leaves in them (see `warm_service`) and the seed of its hashes. It becomes
a child of the process that ordered it, which alone waits for its end.

Where that is not possible (not Linux, an environment that the interpreter itself reads, the
measurement of coverage), a new Python is started.
"""

import atexit
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn

READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_", "COVERAGE_")
"""How the names of variables begin that are read before a program begins."""

SERVICE: Final = (
    *("fleek.server", "fleek.worker", "fleek.app", "fleek.bootstrap", "fleek.cli", "fleek.doctor"),
    *("fleek.front.protocol", "fleek.store.migrate", "fleek.store.postgres"),
    *("fleek.dispatch.embedded", "fleek.storage.local"),
    *("fleek.providers.placeholder", "fleek.providers.replicate"),
    *("fleek.api.pages", "fleek.api.media", "fleek.api.health", "fleek.api.events"),
    *("fleek.api.jobs", "fleek.api.lists", "fleek.api.webhook_events", "fleek.schemas.filter"),
    *("fleek.engine.recollect", "anyio._backends._asyncio", "typer._adapters"),
    # what a process imports when it opens its database, migrates it, paints and answers
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.asyncpg"),
    *("alembic.command", "alembic.context", "alembic.op", "mako.template"),
    *("fleek.providers.placeholder.art", "fleek.providers.placeholder.over", "pydantic.v1"),
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
)
DISPATCHERS: Final = (
    *("fleek.dispatch.celery", "celery.bin.celery", "celery.apps.worker", "celery.backends.base"),
    *("celery.concurrency.thread", "kombu.serialization", "kombu.transport.redis"),
    *("fleek.dispatch.dramatiq", "dramatiq.brokers.redis", "dramatiq.cli", "redis.asyncio"),
)
IMPORTED: Final[Mapping[str, Sequence[str]]] = {
    "service": (*SERVICE, *DISPATCHERS, "fleek.emulator.server"),
    "apart": ("pytest", "fleek.registry", *DISPATCHERS),
}
"""The templates, and what they have imported: one for the service and all that it is tested with."""
TEMPLATES: Final[Mapping[str, str]] = {
    "fleek": "service",
    "fleek.emulator": "service",
    "celery": "service",
    "apart": "apart",
}
"""The programs that are forked, and from which template.

Others start processes themselves, or import other things.
"""

KEPT: Final = (
    *("PATH", "HOME", "LANG", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "PYTHONPATH", "TMPDIR"),
)
"""Variables that processes of tests inherit."""

SUBREAPER: Final = 36  # of prctl(2): orphans below this process become its children
MOST_BYTES: Final = 1024 * 1024  # of an order
FILES: Final = (1, 2, 0)  # stdout, stderr, and stdin where it is another one
DONE: Final = b"done"


class Forked:
    """A child of this process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, args: Sequence[str], stdout: IO[bytes]) -> None:
        self.pid = pid
        self.args = args
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs; negative is the signal that ended it."""
        with self._waiting:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
                    os.close(self._ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            TimeoutExpired: It still runs after `timeout` seconds.
        """
        if self.poll() is None:
            waiting = select.poll()
            waiting.register(self._ended, select.POLLIN)
            waiting.poll(None if timeout is None else timeout * 1000)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def communicate(self, *, timeout: float) -> tuple[bytes, None]:
        """Read stdout to its end, wait, and return what was read.

        Raises:
            TimeoutExpired: It still runs after `timeout` seconds.
        """
        assert self.stdout is not None
        until = time.monotonic() + timeout
        written = b""
        with self.stdout:
            while select.select([self.stdout], [], [], max(until - time.monotonic(), 0))[0]:
                part = os.read(self.stdout.fileno(), 65536)
                if not part:
                    break
                written += part
        self.wait(max(until - time.monotonic(), 0))
        return written, None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)


def start(
    program: str,
    *arguments: str,
    folder: Path,
    env: Mapping[str, str],
    log: IO[bytes],
    stdin: int | None = None,
) -> "Forked | subprocess.Popen[bytes]":
    """Start a program in a folder with exactly this environment; its stderr goes to `log`.

    `stdin` is a file descriptor; None: that of this process.
    """
    command = [sys.executable, "-m", program, *arguments]
    if program not in TEMPLATES or not _can_fork(env):
        return subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=folder, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=log
        )
    ours, theirs = os.pipe()
    try:
        order = {
            "program": program,
            "arguments": arguments,
            "folder": str(folder),
            "env": dict(env),
        }
        files = [theirs, log.fileno(), *([] if stdin is None else [stdin])]
        pid = _template(TEMPLATES[program]).fork(order, files)
    finally:
        os.close(theirs)
    return Forked(pid, command, os.fdopen(ours, "rb"))


def run(
    program: str,
    *arguments: str,
    folder: Path,
    env: Mapping[str, str],
    timeout: float,
    stdin: str | int = "",
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, and return its exit code and what it has written.

    `stdin` is a text, or a file descriptor.

    Raises:
        TimeoutExpired: It still runs after `timeout` seconds.
    """
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as given:
        if isinstance(stdin, str):
            given.write(stdin.encode())
            given.seek(0)
            stdin = given.fileno()
        process = start(program, *arguments, folder=folder, env=env, log=log, stdin=stdin)
        written, _ = process.communicate(timeout=timeout)
        code = process.wait(timeout)
        log.seek(0)
        return subprocess.CompletedProcess(
            process.args, code, written.decode(), log.read().decode()
        )


def inherited() -> dict[str, str]:
    """Return the variables that a process of a test inherits."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}  # noqa: TID251 - a child's environment


def _can_fork(env: Mapping[str, str]) -> bool:
    if sys.platform != "linux" or "COVERAGE_PROCESS_START" in env:
        return False
    return _read_at_start(env) == _read_at_start(inherited())


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


class _Template:
    """A template of this process; it ends with it."""

    def __init__(self, name: str) -> None:
        self._ordering = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this very file
                [sys.executable, __file__, str(theirs.fileno()), name],
                cwd=Path(__file__).parent,
                env=inherited(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        atexit.register(self._close)

    def _close(self) -> None:
        self._channel.close()
        self._process.communicate()

    def fork(self, order: Mapping[str, Any], files: Sequence[int]) -> int:
        """Return the process id of a new child of this process, which carries out the order.

        Raises:
            AssertionError: The template has failed; with what it wrote.
        """
        with self._ordering:
            _adopt(1)
            try:
                socket.send_fds(self._channel, [json.dumps(order).encode()], files)
                answers = {self._channel.recv(64), self._channel.recv(64)}
            finally:
                _adopt(0)
        assert DONE in answers, self._failure()
        answers.remove(DONE)
        return int(answers.pop())

    def _failure(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.read().decode()


@cache
def _template(name: str) -> _Template:
    return _Template(name)


def _adopt(orphans: int) -> None:
    """Begin (1) or end (0) to be the parent of orphans below this process."""
    ctypes.CDLL(None).prctl(SUBREAPER, orphans, 0, 0, 0)


# --- the template ---------------------------------------------------------------------------------


def _next_order(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each order, and return it in the new process only; its parent has ended then."""
    while True:
        data, files, _, _ = socket.recv_fds(channel, MOST_BYTES, len(FILES))
        if not data:
            os._exit(0)  # who could order has ended
        middle = os.fork()
        if middle == 0:
            if pid := os.fork():
                channel.send(str(pid).encode())
                os._exit(0)
            channel.close()
            return json.loads(data), files
        for file in files:
            os.close(file)
        os.waitpid(middle, 0)
        channel.send(DONE)


def _become(order: Mapping[str, Any], files: Sequence[int]) -> None:
    """Make this process one that was just started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["folder"])
    os.environ.clear()  # noqa: TID251 - another process's
    os.environ.update(order["env"])  # noqa: TID251 - another process's
    for number, file in zip(FILES, files, strict=False):
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["", *order["arguments"]]  # the first is set when the program runs
    sys.path[0] = order["folder"]  # as `python -m` does
    for module in ("process_template", "__main__"):
        sys.modules.pop(module, None)


def main(channel: socket.socket, name: str) -> None:
    """Import what programs need, then run one for each order in a process of its own."""
    import gc  # noqa: PLC0415 - the template's

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for who ordered
    for module in IMPORTED[name]:
        importlib.import_module(module)
    if name == "service":
        from warm_service import warm_up  # noqa: PLC0415 - the template's

        warm_up()
    assert threading.active_count() == 1  # others would be missing in its copies
    gc.freeze()
    order, files = _next_order(channel)
    _become(order, files)
    _end(_run(order["program"]))


def _run(program: str) -> int:
    """Run a program as `python -m` does, and return its exit code; what else it raises ends the process."""
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        return ended.code or 0
    return 0


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but leave its objects alone: it would copy all pages of the template."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
