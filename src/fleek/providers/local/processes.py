"""Processes that synthesize: started when needed, killed when cancelled, late or broken.

A process serves one text at a time, and is kept for the next one for a while.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fleek.providers.local import synthesis

MAX_SOUND: Final = 256 * 1_048_576  # bytes of one WAV file
IDLE_SECONDS: Final = 300.0  # for which a process is kept
PROGRAM: Final = (sys.executable, "-P", str(Path(synthesis.__file__)))


class SpeechFailed(Exception):
    """The text was not spoken. `retryable` says whether another try may help."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class Processes:
    """At most `limit` processes.

    Args:
        limit: Their maximum number.
        seconds: Maximum duration of one text.
        program: The command that starts one.
    """

    def __init__(self, limit: int, *, seconds: float, program: Sequence[str] = PROGRAM) -> None:
        self._places = asyncio.Semaphore(limit)
        self._seconds = seconds
        self._program = program
        self._idle: list[asyncio.subprocess.Process] = []
        self._timers: dict[int, asyncio.TimerHandle] = {}  # by process id
        self.running: set[asyncio.subprocess.Process] = set()

    async def speak(
        self,
        request: dict[str, Any],
        on_begin: Callable[[], None],
        on_share: Callable[[float], None],
    ) -> bytes:
        """Return the WAV file of a text; a cancelled call kills its process.

        `on_begin` is called when it no longer waits for a process, `on_share` with the share that
        is done, 0-1.

        Raises:
            SpeechFailed: There is none.
        """
        async with self._places:
            on_begin()
            process = await self._process()
            self.running.add(process)
            try:
                async with asyncio.timeout(self._seconds):
                    sound = await _spoken(process, request, on_share)
            except TimeoutError as error:
                message = f"the text was not spoken within {self._seconds:g} seconds"
                raise SpeechFailed(message, retryable=False) from error
            except (EOFError, ConnectionError, ValueError) as error:
                message = "the process that speaks has ended"
                raise SpeechFailed(message, retryable=True) from error
            else:
                self._keep(process)
                return sound
            finally:
                self.running.discard(process)
                if process not in self._idle:
                    await _kill(process)

    async def close(self) -> None:
        """Kill all idle processes; those that work are killed by their cancelled calls."""
        for process in list(self._idle):
            await self._drop(process)

    async def _process(self) -> asyncio.subprocess.Process:
        while self._idle:
            process = self._idle.pop()
            self._timers.pop(process.pid).cancel()
            if process.returncode is None:
                return process
        try:
            return await asyncio.create_subprocess_exec(
                *self._program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},  # it needs no secrets
                start_new_session=True,  # Ctrl-C is for the service, which ends it by itself
            )
        except OSError as error:
            message = f"no process can be started: {error.strerror}"
            raise SpeechFailed(message, retryable=True) from error

    def _keep(self, process: asyncio.subprocess.Process) -> None:
        self._idle.append(process)
        loop = asyncio.get_running_loop()
        self._timers[process.pid] = loop.call_later(IDLE_SECONDS, self._expire, process)

    def _expire(self, process: asyncio.subprocess.Process) -> None:
        if process in self._idle:
            self._idle.remove(process)
            del self._timers[process.pid]
            assert process.stdin is not None
            process.stdin.close()  # it ends by itself

    async def _drop(self, process: asyncio.subprocess.Process) -> None:
        self._idle.remove(process)
        self._timers.pop(process.pid).cancel()
        await _kill(process)


async def _spoken(
    process: asyncio.subprocess.Process,
    request: dict[str, Any],
    on_share: Callable[[float], None],
) -> bytes:
    """Return the response to a request.

    Raises:
        SpeechFailed: It is an error.
        EOFError, ConnectionError, ValueError: There is none.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    await process.stdin.drain()
    while True:
        line = await process.stdout.readline()
        header = json.loads(line or "[]")
        if not isinstance(header, dict):
            raise EOFError
        if "error" in header:
            raise SpeechFailed(str(header["error"]), retryable=False)
        if "bytes" in header:
            if not 0 <= header["bytes"] <= MAX_SOUND:
                raise SpeechFailed("the sound is too large", retryable=False)
            return await process.stdout.readexactly(header["bytes"])
        on_share(float(header["share"]))


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it has just ended
            process.kill()
    await process.wait()
