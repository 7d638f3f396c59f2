"""Of which files this machine can make small pictures, by the types that were detected."""

import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fleek.domain.media import SIZES

PICTURES: Final = frozenset(
    f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "avif", "bmp", "tiff")
)
# What reads a film, by its type. ffmpeg must not guess: a playlist can refer to files of this machine.
DEMUXERS: Final = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "video/ogg": "ogg",
}


@cache
def film_decoder() -> str | None:
    """Return the path of ffmpeg: the system's, else that of the extra `posters`; None: there is none."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    package = find_spec("imageio_ffmpeg")
    if package is None or package.origin is None:
        return None
    carried = sorted((Path(package.origin).parent / "binaries").glob("ffmpeg-*"))
    return str(carried[0]) if carried else None


def demuxer(content_type: str) -> str | None:
    """Return the name of the reader of a film; None: it is no film that we know."""
    return DEMUXERS.get(content_type)


def thumbnail_sizes(content_type: str) -> tuple[int, ...]:
    """Return the sizes of the small pictures that can be made of such a file; none: it has none."""
    is_film = demuxer(content_type) is not None and film_decoder() is not None
    return SIZES if content_type in PICTURES or is_film else ()
