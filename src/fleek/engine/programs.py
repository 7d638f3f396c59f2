"""Run a program of our own that works on untrusted bytes."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress


async def run_program(
    command: Sequence[str], *, seconds: float, given: bytes | None = None
) -> tuple[int | None, bytes, bytes]:
    """Run a program; returns its code and output. It is ended, with all that it started, if this is left early.

    Args:
        command: The program and its arguments.
        seconds: How long it may take.
        given: Its standard input.

    Raises:
        OSError: It cannot be started.
        TimeoutError: It takes too long.
    """
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    program = await asyncio.create_subprocess_exec(
        *command,
        stdin=nothing if given is None else pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await program.communicate(given)
            return program.returncode, output, errors
    finally:
        if program.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            await program.wait()
