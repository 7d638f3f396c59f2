"""How a command ends: the exit codes, and one line for each error."""

import sys
from enum import IntEnum

from fleek.cli.screen import clean
from fleek.domain import errors
from fleek.domain.errors import FleekError


class Exit(IntEnum):
    """What a command's end means to the shell."""

    DONE = 0
    JOB_FAILED = 1  # it failed or was cancelled, or cannot do what was asked
    USAGE = 2  # a wrong option, request or setting
    KEY_REFUSED = 3
    NOT_FOUND = 4
    TIMED_OUT = 5
    UNREACHABLE = 6  # the server, or what answers there cannot serve
    INTERRUPTED = 130


HINTS = {
    Exit.KEY_REFUSED: "set FLEEK_API_KEY, or use --api-key",
    Exit.UNREACHABLE: "is it running? set FLEEK_URL or use --url; `fleek serve` starts one here",
}


def exit_code(error: FleekError) -> Exit:
    """Return the exit code of an error; the nearest base class wins."""
    if isinstance(error, errors.ConfigurationError | errors.ResourcesExhausted):
        return Exit.USAGE
    from fleek import client  # noqa: PLC0415 - heavy, and not needed when all is well

    table: dict[type[FleekError], Exit] = {
        errors.Unauthorized: Exit.KEY_REFUSED,
        errors.Forbidden: Exit.KEY_REFUSED,
        errors.NotFound: Exit.NOT_FOUND,
        errors.Gone: Exit.NOT_FOUND,
        errors.Conflict: Exit.JOB_FAILED,
        errors.TooMany: Exit.UNREACHABLE,
        errors.RequestError: Exit.USAGE,
        errors.HostError: Exit.USAGE,  # a database that a setting names, and that is not there
        client.WaitTimeout: Exit.TIMED_OUT,
        client.ServerUnreachable: Exit.UNREACHABLE,
        client.ServerError: Exit.UNREACHABLE,
        client.NotSaved: Exit.USAGE,
        FleekError: Exit.JOB_FAILED,
    }
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def explain(error: FleekError) -> Exit:
    """Print what is wrong and what to do, on stderr, and return the exit code."""
    code = exit_code(error)
    lines = [f"fleek: {clean(str(error))}"]
    lines += [
        f"  {clean(field.pointer)}: {clean(field.detail)}"
        for field in getattr(error, "errors", ())
        if field.detail not in str(error)
    ]
    if code in HINTS:
        lines.append(f"  {HINTS[code]}")
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - the command line's own voice
    return code
