"""Detection of a file's type from its bytes, never from its name or its declared type."""

from pathlib import Path
from typing import BinaryIO, Final

from fleek.domain.values import dataclass
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
"""The types that a browser may display; it saves all others. None of these can run code."""


def presentation(content_type: str, *, name: str, save: bool = False) -> dict[str, str]:
    """Return the headers that determine whether a browser displays or saves a file.

    Args:
        content_type: The detected type.
        name: The file's name, of characters that need no quoting.
        save: Whether to save it even if it could be displayed.
    """
    kind = "inline" if content_type in SAFE_INLINE and not save else "attachment"
    charset = "; charset=utf-8" if content_type.startswith("text/") else ""
    return {
        "Content-Type": f"{content_type}{charset}",
        "Content-Disposition": f'{kind}; filename="{name}"',
    }


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The result of a detection."""

    content_type: str  # without parameters; text is UTF-8
    extension: str  # without the dot; "bin" if the type is unknown
    width: int | None = None  # pixels; images and video
    height: int | None = None
    duration_seconds: float | None = (
        None  # audio, video and animations; None also if it is costly to compute
    )


def sniff(path: Path) -> Sniffed:
    """Detect a file's type and dimensions. Reads little and decodes nothing; blocks.

    A damaged file is not an error: it has the type of its first bytes and no dimensions.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return sniff_open(file)


def sniff_open(file: BinaryIO) -> Sniffed:
    """Do as `sniff` with an open file, which is at its beginning.

    Raises:
        OSError: It cannot be read.
    """
    content_type, extension = kind_of(file.read(HEAD_BYTES), file)
    width, height, duration = measure(content_type, file)
    return Sniffed(content_type, extension, width, height, duration)
