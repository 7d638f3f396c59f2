"""Conditional and partial requests for a file that never changes.

Source: RFC 9110, sections 8.8, 13 and 14. Requests for several ranges return the
whole file, as the RFC allows.
"""

import re
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file from `start` up to, but not including, `stop`."""

    start: int
    stop: int


def unchanged(headers: Headers, etag: str) -> bool:
    """Whether the caller already has this version, by If-None-Match."""
    given = ",".join(headers.getlist("if-none-match"))
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags


def requested(headers: Headers, *, etag: str, size: int) -> ByteRange | None:
    """Return the requested range, or None for the whole file.

    Raises:
        HTTPException: 416, the range starts after the end of the file.
    """
    found = RANGE.fullmatch(headers.get("range", ""))
    if found is None or headers.get("if-range", etag) != etag:
        return None  # no range, several, not in bytes, or of another version
    first, last = found.groups()
    if first:
        span = ByteRange(int(first), min(int(last) + 1, size) if last else size)
        malformed = bool(last) and int(last) < int(first)
    else:
        span = ByteRange(max(size - int(last), 0) if last else 0, size)
        malformed = not last
    if malformed:
        return None
    if span.start >= size:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
    return span
