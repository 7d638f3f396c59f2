"""The command line: ``fleek``.

Everything heavy is imported inside the command that needs it, so that ``fleek --help`` is quick.
"""

import gc
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Final, NoReturn, TextIO, cast

from fleek.cli.exit_codes import Exit, explain
from fleek.cli.root import app, leave_out_others
from fleek.cli.screen import Outlet
from fleek.domain.errors import FleekError
from fleek.domain.host_errors import exhaustion

SELDOM: Final = (400_000, 20, 50)
"""How often to look for garbage: imports make 250,000 objects and leave none of them behind."""


def main() -> NoReturn:
    """Run the command that the process was called with, and exit with its code."""
    gc.set_threshold(*SELDOM)
    leave_out_others(sys.argv[1:])
    sys.exit(run())


def run(args: Sequence[str] | None = None) -> int:
    """Run a command (None: the process's own) and return its exit code: see `fleek.cli.exit_codes`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8
    out, err = Outlet(sys.stdout), Outlet(sys.stderr)
    with redirect_stdout(cast("TextIO", out)), redirect_stderr(cast("TextIO", err)):
        code = _run(args)
        out.flush()
        if out.failure is None:
            return code
        print(f"fleek: the output cannot be written: {out.failure.strerror}", file=sys.stderr)  # noqa: T201 - the command line's own voice
        return code or Exit.USAGE


def _run(args: Sequence[str] | None) -> int:
    try:
        app(args, prog_name="fleek")
    except FleekError as error:
        return explain(error)
    except OSError as error:  # an import of the command that found no file descriptor
        exhausted = exhaustion(error)
        if exhausted is None:
            raise
        return explain(exhausted)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0
