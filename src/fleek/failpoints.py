"""Named places where a test may kill, fail or freeze this process.

Each call of `hit` names a moment that matters: before and after a commit, the start of
a prediction, the storing of a file. It does nothing unless ``FLEEK_FAILPOINTS`` arms the name.
"""

import errno
import os
import re
import signal
import sys
from typing import Final, Literal, get_args

from fleek.domain.errors import ConfigurationError, DatabaseUnavailable
from fleek.domain.values import dataclass

Action = Literal["kill", "oserror", "enospc", "erofs", "emfile", "dberror", "freeze"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
EVERY: Final = "*"
ERRNOS: Final = {  # what the disk, the folder, or the process's own limit would say
    "oserror": errno.EIO,
    "enospc": errno.ENOSPC,
    "erofs": errno.EROFS,
    "emfile": errno.EMFILE,
}
_TIMES: Final = re.compile(r"([1-9]\d*)(?:-([1-9]\d*))?")


@dataclass(slots=True)
class _Point:
    """What happens at an armed name."""

    action: Action
    hits: range | None  # which of them strike, from 1; None: each
    seen: int = 0


_armed: Final[dict[str, _Point]] = {}  # per process: callers of `hit` have no settings


def arm(orders: str) -> None:
    """Arm the names in `orders`, and no others: ``start.sent=kill,output.stored=oserror@2``.

    A name is followed by what happens there: ``kill`` ends the process at once, ``dberror`` and
    those in `ERRNOS` raise, ``freeze`` stops the process until it receives SIGCONT. It happens
    at the first hit; with ``@2`` at the second, with ``@2-9`` from there to the ninth, with ``@*``
    at each.

    Raises:
        ConfigurationError: They cannot be read.
    """
    wanted = dict(_read(order.strip()) for order in orders.split(",") if order.strip())
    _armed.clear()
    _armed.update(wanted)


def hit(name: str) -> None:
    """Pass a named place; nothing happens there unless it is armed.

    Raises:
        OSError: It is armed so.
        DatabaseUnavailable: It is armed so.
    """
    if _armed:
        _pass(name)


def _pass(name: str) -> None:
    point = _armed.get(name)
    if point is None:
        return
    point.seen += 1
    if point.hits is not None and point.seen not in point.hits:
        return
    sys.stderr.write(f"failpoint {name} {point.action}\n")
    sys.stderr.flush()
    match point.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "dberror":
            raise DatabaseUnavailable(f"failpoint {name}")
        case _:
            raise OSError(ERRNOS[point.action], f"failpoint {name}")


def _read(order: str) -> tuple[str, _Point]:
    name, _, rest = order.partition("=")
    word, separator, at = rest.partition("@")
    action = next((action for action in ACTIONS if action == word), None)
    times = _TIMES.fullmatch(at if separator else "1")
    if not name or action is None or not (times or at == EVERY):
        known = ", ".join(ACTIONS)
        raise ConfigurationError(
            f"FLEEK_FAILPOINTS: {order!r} is not name=action, name=action@n or name=action@n-m;"
            f" actions: {known}"
        )
    hits = range(int(times[1]), int(times[2] or times[1]) + 1) if times else None
    return name, _Point(action, hits)
