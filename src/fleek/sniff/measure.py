"""Dimensions and durations, read from headers and from the lists of frames.

Nothing is decoded and the work is limited, also for malicious files. Pillow is not used: for some
formats, it decodes or allocates the whole image when it opens it.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from io import SEEK_CUR
from math import prod
from typing import BinaryIO, Final

from fleek.sniff.completeness import Broken, boxes, riff, skip_blocks, take

MAX_SIDE: Final = 16_384
MAX_PIXELS: Final = 89_478_485  # Pillow's limit for a warning about decompression bombs
MAX_SECONDS: Final = 30 * 24 * 60 * 60
MAX_FRAMES: Final = 10_000  # of a WebP
MAX_BLOCKS: Final = 250_000  # of a GIF, at most 255 bytes each
MAX_SEGMENTS: Final = 1_000  # of a JPEG, before its image data
# Frame headers of a JPEG: 0xC0 to 0xCF without the tables DHT, JPG and DAC.
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
AVIF_BOXES: Final = frozenset({b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia"})

Measured = tuple[int | None, int | None, float | None]  # width, height, duration in seconds

NOTHING: Final[Measured] = (None, None, None)


def measure(content_type: str, file: BinaryIO) -> Measured:
    """Return width, height and duration; None for those that the headers do not contain."""
    look = LOOKS.get(content_type)
    if look is None:
        return NOTHING
    try:
        width, height, duration = look(file)
    except Broken:
        return NOTHING
    if not _plausible(width, height):
        width = height = None
    if duration is not None and not 0 < duration <= MAX_SECONDS:
        duration = None
    return width, height, duration


def _plausible(width: int | None, height: int | None) -> bool:
    if width is None or height is None:
        return False
    return 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS


def _png(file: BinaryIO) -> Measured:
    length, name, width, height = struct.unpack(">I4sII", take(file, 16, at=8))
    if (length, name) != (13, b"IHDR"):
        raise Broken
    return width, height, None


def _jpeg(file: BinaryIO) -> Measured:
    at = 2
    for _ in range(MAX_SEGMENTS):
        fill, marker, length = struct.unpack(">BBH", take(file, 4, at=at))
        if fill != 0xFF:
            break
        if marker in FRAMES:
            _, height, width = struct.unpack(">BHH", take(file, 5))
            return width, height, None
        at += 1 if marker == 0xFF else 2 + length  # any number of 0xFF may precede a marker
    raise Broken


def _bmp(file: BinaryIO) -> Measured:
    size, width, height = struct.unpack("<Iii", take(file, 12, at=14))
    if size == 12:  # the oldest header, with 16 bits per side
        width, height = struct.unpack("<HH", take(file, 4, at=18))
    return width, abs(height), None  # negative: rows from top to bottom


def _gif(file: BinaryIO) -> Measured:
    width, height, flags = struct.unpack("<HHB", take(file, 5, at=6))
    file.seek(13 + _palette_bytes(flags))
    try:
        return width, height, _gif_seconds(file, iter(range(MAX_BLOCKS)))
    except Broken:
        return width, height, None


def _gif_seconds(file: BinaryIO, steps: Iterator[int]) -> float | None:
    """Return the sum of the frames' delays; None for a still image."""
    hundredths = frames = 0
    for _ in steps:
        match take(file, 1):
            case b"!":
                label, _, delay = struct.unpack("<BHH", take(file, 5))
                hundredths += delay if label == 0xF9 else 0
                file.seek(-4, SEEK_CUR)
                skip_blocks(file, steps)
            case b",":
                frames += 1
                file.seek(_palette_bytes(take(file, 9)[8]) + 1, SEEK_CUR)
                skip_blocks(file, steps)
            case b";":
                return hundredths / 100 if frames > 1 else None
            case _:
                break
    raise Broken


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(file: BinaryIO) -> Measured:
    width = height = None
    milliseconds = frames = 0
    for name, start, _ in riff(file):
        match name:
            case b"VP8X":
                width, height = (_u24(take(file, 3, at=start + at)) + 1 for at in (4, 7))
            case b"VP8L" if width is None:
                bits = int.from_bytes(take(file, 5, at=start)[1:], "little")
                return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, None
            case b"VP8 " if width is None:
                sides = struct.unpack("<HH", take(file, 4, at=start + 6))
                return sides[0] & 0x3FFF, sides[1] & 0x3FFF, None
            case b"ANMF":
                frames += 1
                milliseconds += _u24(take(file, 3, at=start + 12))
            case _:
                pass
        if frames > MAX_FRAMES:
            return width, height, None
    return width, height, milliseconds / 1000 if frames > 1 else None


def _u24(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _wav(file: BinaryIO) -> Measured:
    bytes_per_second = 0
    for name, start, end in riff(file):
        if name == b"fmt ":
            (bytes_per_second,) = struct.unpack("<I", take(file, 4, at=start + 8))
        if name == b"data" and bytes_per_second:
            return None, None, (end - start) / bytes_per_second
    raise Broken


def _flac(file: BinaryIO) -> Measured:
    """Read the first block, with the rate in 20 bits and the number of samples in 36."""
    bits = int.from_bytes(take(file, 8, at=18), "big")
    rate, samples = bits >> 44, bits & (1 << 36) - 1
    return None, None, samples / rate if rate else None


def _film(file: BinaryIO) -> Measured:
    """Read the duration of a video and the dimensions of its largest track."""
    seconds: float | None = None
    sides = (0, 0)
    for name, start, end in boxes(file, inside=(b"moov", b"trak")):
        if name == b"mvhd":
            seconds = _film_seconds(file, start)
        elif name == b"tkhd":
            sides = max(sides, _track_sides(file, end), key=prod)
    return *(sides if prod(sides) else (None, None)), seconds


def _film_seconds(file: BinaryIO, start: int) -> float | None:
    wide = take(file, 1, at=start) == b"\x01"  # times have 64 bits
    layout = ">3x16xIQ" if wide else ">3x8xII"
    scale, length = struct.unpack(layout, take(file, struct.calcsize(layout)))
    unknown = length == (1 << (64 if wide else 32)) - 1
    return None if unknown or not scale else length / scale


def _track_sides(file: BinaryIO, end: int) -> tuple[int, int]:
    a, d, width, height = struct.unpack(">i12xi16xII", take(file, 44, at=max(0, end - 44)))
    turned = a == d == 0  # by 90 degrees, as phones record
    return (height >> 16, width >> 16) if turned else (width >> 16, height >> 16)


def _avif(file: BinaryIO) -> Measured:
    """Read the dimensions of the largest image; tiles and thumbnails are smaller."""
    seconds: float | None = None
    sides = (0, 0)
    for name, start, _ in boxes(file, inside=AVIF_BOXES):
        if name == b"ispe":
            sides = max(sides, struct.unpack(">II", take(file, 8, at=start + 4)), key=prod)
        elif name == b"mdhd":  # the header of a looping video gives an unlimited duration
            seconds = _film_seconds(file, start)
    return *sides, seconds


LOOKS: Final[Mapping[str, Callable[[BinaryIO], Measured]]] = {
    "audio/flac": _flac,
    "audio/mp4": _film,
    "audio/wav": _wav,
    "image/avif": _avif,
    "image/bmp": _bmp,
    "image/gif": _gif,
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "video/mp4": _film,
    "video/quicktime": _film,
}
