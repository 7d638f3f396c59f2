"""Named places where a test may kill, fail or freeze this process.

Each call of `hit` names a moment that matters: before and after a commit, a purchase, a file
getting its name. It does nothing unless ``FLEEK_FAILPOINTS`` arms the name.
"""

import errno
import os
import signal
import sys
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fleek.domain.errors import ConfigurationError, DatabaseUnavailable

Action = Literal["kill", "oserror", "dberror", "freeze"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
EVERY: Final = "*"


@dataclass(slots=True)
class _Point:
    """What happens at an armed name."""

    action: Action
    at: int | None  # which hit strikes, from 1; None: each
    hits: int = 0


_armed: Final[dict[str, _Point]] = {}  # of the process: whoever hits has no settings at hand


def arm(orders: str) -> None:
    """Arm the names in `orders`, and no others: ``start.intended=kill,keep.saved=oserror@2``.

    A name is followed by what happens there: ``kill`` ends the process at once, ``oserror`` and
    ``dberror`` raise, ``freeze`` stops the process until somebody continues it. It happens at the
    first hit; with ``@2`` at the second, with ``@*`` at each.

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
    point.hits += 1
    if point.at is not None and point.hits != point.at:
        return
    sys.stderr.write(f"failpoint {name} {point.action}\n")
    sys.stderr.flush()
    match point.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "oserror":
            raise OSError(errno.EIO, f"failpoint {name}")
        case "dberror":
            raise DatabaseUnavailable(f"failpoint {name}")


def _read(order: str) -> tuple[str, _Point]:
    name, _, rest = order.partition("=")
    word, told, at = rest.partition("@")
    at = at if told else "1"
    action = next((one for one in ACTIONS if one == word), None)
    if not name or action is None or not (at == EVERY or (at.isdecimal() and int(at) > 0)):
        known = ", ".join(ACTIONS)
        raise ConfigurationError(
            f"FLEEK_FAILPOINTS: {order!r} is not name=action or name=action@n; actions: {known}"
        )
    return name, _Point(action, None if at == EVERY else int(at))
