"""Times and durations on the command line."""

import re
from datetime import datetime, timedelta
from typing import Final

import typer

from fleek.system_clock import wall_time

SPAN: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([dhm])")
UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}
LONGEST: Final = timedelta(days=100_000)  # no calendar goes much further, back or forth


def moment(text: str, option: str) -> datetime:
    """Read a time like ``2026-12-24T18:00``, the user's unless it names a zone, or ``2h`` from now.

    Raises:
        typer.BadParameter: It is neither.
    """
    try:
        later = _span(text)
        if later is not None:
            return wall_time() + later
        time = datetime.fromisoformat(text)
        return time if time.tzinfo is not None else time.astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "must be a time like 2026-12-24T18:00 (yours) or 2026-12-24T18:00:00Z, "
            "or from now: 1d, 2h or 5m",
            param_hint=option,
        ) from None


def age(text: str, option: str) -> timedelta:
    """Read how long ago something is: ``30d``, ``12h`` or ``5m``.

    Raises:
        typer.BadParameter: It has another form.
    """
    span = _span(text)
    if span is None:
        raise typer.BadParameter("must be like 30d, 12h or 5m", param_hint=option)
    return span


def _span(text: str) -> timedelta | None:
    match = SPAN.fullmatch(text)
    span = timedelta(**{UNITS[match[2]]: float(match[1])}) if match else LONGEST
    return span if span < LONGEST else None
