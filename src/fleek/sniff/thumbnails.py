"""Of which files this machine can make small pictures, by the types that were detected."""

import shutil
from functools import cache
from typing import Final

from fleek.domain.media import SIZES

PICTURES: Final = frozenset(
    f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "avif", "bmp", "tiff")
)


@cache
def _decodes_films() -> bool:
    return shutil.which("ffmpeg") is not None


def thumbnail_sizes(content_type: str) -> tuple[int, ...]:
    """Return the sizes of the small pictures that can be made of such a file; none: it has none."""
    is_film = content_type.startswith("video/")
    return SIZES if content_type in PICTURES or (is_film and _decodes_films()) else ()
