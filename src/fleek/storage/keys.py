"""What may be a key: the one rule of all storages."""

import re
from typing import Final

AREAS: Final = ("media", "metadata")
PART: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")  # hidden files and `..` are no keys
MAX_PARTS: Final = 9  # ours have four


def split(key: str) -> tuple[str, ...] | None:
    """Return a key's parts: the area, folders, the file's name; None if it is no key."""
    parts = tuple(key.split("/"))
    if parts[0] not in AREAS or not 2 <= len(parts) <= MAX_PARTS:
        return None
    return parts if all(PART.fullmatch(part) for part in parts[1:]) else None


def folders_of(prefix: str) -> tuple[str, ...]:
    """Return the folders below which a key that begins with `prefix` can be; none if nowhere."""
    above, slash, _ = prefix.rpartition("/")
    if slash:
        return (above,) if split(f"{above}/x") is not None else ()
    return tuple(area for area in AREAS if area.startswith(prefix))
