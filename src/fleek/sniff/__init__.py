"""Detection of a file's type from its bytes, never from its name or its declared type."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleek.sniff.kind import HEAD_BYTES, kind_of
from fleek.sniff.measure import measure

SAFE_INLINE: Final = frozenset(
    {
        "audio/flac",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/mp4",
        "video/webm",
    }
)
"""The types that a browser may show in place; it saves all others. None of these runs code."""


def presentation(content_type: str, *, name: str, save: bool = False) -> dict[str, str]:
    """Return the headers that tell a browser what to do with a file.

    Args:
        content_type: As sniffed.
        name: What a browser calls the file; made by us, of letters that need no quoting.
        save: Have it saved even if it could be shown.
    """
    kind = "inline" if content_type in SAFE_INLINE and not save else "attachment"
    charset = "; charset=utf-8" if content_type.startswith("text/") else ""
    return {
        "Content-Type": f"{content_type}{charset}",
        "Content-Disposition": f'{kind}; filename="{name}"',
    }


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What the bytes say."""

    content_type: str  # without parameters; text is UTF-8
    extension: str  # without the dot; "bin" if the bytes say nothing
    width: int | None = None  # pixels; pictures and video
    height: int | None = None
    duration_seconds: float | None = None  # sound, video and animations; None also if costly


def sniff(path: Path) -> Sniffed:
    """Tell what a file is. Reads little and decodes nothing; blocks, so call it in a thread.

    Broken bytes are not an error: they have the type of their first bytes and no dimensions.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        content_type, extension = kind_of(file.read(HEAD_BYTES), file)
        width, height, duration = measure(content_type, file)
    return Sniffed(content_type, extension, width, height, duration)
