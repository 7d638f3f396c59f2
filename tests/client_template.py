"""Programs of an official client, forked from a process that has imported it: that takes most of their time."""

import atexit
import json
import select
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from client_environments import PROGRAM_SECONDS, child_variables

TEMPLATE: Final = Path(__file__).parent / "api" / "facades" / "py" / "template.py"


class _Template:
    """A process with a client; it ends with this one."""

    def __init__(self, python: str, module: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [python, str(TEMPLATE), module],
            env=child_variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(self._close)

    def _close(self) -> None:
        self._process.kill()  # a program that hangs ends by itself
        self._process.communicate()

    def run(self, order: Mapping[str, object]) -> int:
        """Return the exit code of a program.

        Raises:
            TimeoutExpired: It has not ended in time.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()
        if not select.select([stdout], [], [], PROGRAM_SECONDS)[0]:
            raise subprocess.TimeoutExpired(str(order["program"]), PROGRAM_SECONDS)
        return int(stdout.readline())


@cache
def _template(python: str, module: str) -> _Template:
    return _Template(python, module)


def run(
    python: Path,
    module: str,
    program: Path,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: Path,
) -> str:
    """Run a program of a client to its end, in a folder with exactly this environment; returns what it has written.

    `module`: the client's, which reads the environment no earlier than its first use.

    Raises:
        AssertionError: It has failed, or does not end; with its errors.
    """
    output, errors = folder / "client.out", folder / "client.err"
    output.write_bytes(b"")
    errors.write_bytes(b"")
    order = {
        "program": str(program),
        "arguments": list(arguments),
        "env": dict(env),
        "folder": str(folder),
        "output": str(output),
        "errors": str(errors),
    }
    try:
        code = _template(str(python), module).run(order)
    except subprocess.TimeoutExpired as late:  # the last line names the check that does not end
        raise AssertionError(errors.read_text()) from late
    assert code == 0, errors.read_text()
    return output.read_text()
