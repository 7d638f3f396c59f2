"""JSON as providers send it: read leniently, as it is theirs, and within limits."""

import asyncio
import json
from typing import Any, Final

from fleek import strict
from fleek.domain.errors import Unreadable

MAX_NODES: Final = 250_000
MAX_DEPTH: Final = 100
ON_LOOP: Final = 65_536  # bytes that are parsed without leaving the event loop


class NotJson(ValueError):
    """This is not JSON, or it is nested or divided beyond the limits."""


def parse(body: bytes) -> Any:
    """Return the value in a body.

    Raises:
        NotJson: There is none within the limits.
    """
    try:
        strict.check_shape(body, nodes=MAX_NODES, depth=MAX_DEPTH)
        return json.loads(body)
    except (Unreadable, ValueError, RecursionError) as error:
        raise NotJson("not JSON, or too complex") from error


async def parse_aside(body: bytes) -> Any:
    """Parse a body, a large one in a thread; raises as `parse` does."""
    return parse(body) if len(body) <= ON_LOOP else await asyncio.to_thread(parse, body)
