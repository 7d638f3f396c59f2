"""A program of its own that makes small pictures of one file, and ends.

``python -m fleek.thumbnail_maker SOURCE FOLDER`` writes ``FOLDER/320.webp`` and ``FOLDER/960.webp``, and
prints a ``data:`` URI of a few hundred bytes. Of a film, whose reader and the path of ffmpeg follow, it takes
the first frame. Whatever is in the file, it cannot take more memory or time than the limits that the program
sets for itself before it opens it, and what it starts has the same limits. They limit computing: how long it
may wait for a busy machine is for its caller to say, which also ends what it has started.
"""

import base64
import io
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

SIZES: Final = (320, 960)  # the longer side at most, in pixels; never larger than the file
MAX_PIXELS: Final = 100_000_000
MAX_MEMORY: Final = 1 << 30  # bytes
MAX_SECONDS: Final = 10  # of computing
MAX_WRITTEN: Final = 16 << 20  # bytes, of each file
TINY: Final = 16
MAX_URI: Final = 300  # characters
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")
COURTESY: Final = 10  # of 19: jobs come first
FFMPEG: Final = (
    *("-v", "quiet", "-nostdin", "-threads", "1", "-filter_threads", "1"),
    *("-protocol_whitelist", "file", "-max_pixels", str(MAX_PIXELS)),
)
FIRST: Final = (
    *("-map", "0:v:0", "-frames:v", "1", "-c:v", "png", "-f", "image2", "-update", "1"),
    *("-vf", "scale=w='min(960,iw)':h='min(960,ih)':force_original_aspect_ratio=decrease"),
)


def limit() -> None:
    """Limit this process and all that it starts."""
    for kind, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CPU, MAX_SECONDS),
        (resource.RLIMIT_FSIZE, MAX_WRITTEN),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))
    os.nice(COURTESY)


def first_frame(source: Path, folder: Path, *, demuxer: str, decoder: str) -> Path:
    """Return a picture of the first frame of a film.

    Raises:
        ValueError: It cannot be decoded.
    """
    frame = folder / "frame.png"
    command = [decoder, *FFMPEG, "-f", demuxer, "-i", f"file:{source}", *FIRST, "-y", str(frame)]
    nothing = subprocess.DEVNULL
    subprocess.run(  # noqa: S603 - no shell; whoever started us ends it if it only waits
        command, check=False, stdin=nothing, stdout=nothing, stderr=nothing
    )
    if not frame.exists():
        raise ValueError("the film is not decoded")
    return frame


def opened(path: Path) -> Image.Image:
    """Return the first frame of a picture, upright, at most as large as needed.

    Raises:
        ValueError: It has too many pixels.
    """
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("too many pixels")
        image.draft("RGB", (SIZES[-1] * 2, SIZES[-1] * 2))  # of JPEG: decoded smaller
        image.load()
        image.thumbnail((SIZES[-1], SIZES[-1]), reducing_gap=2.0)
        return _upright(image).convert("RGBA" if _is_transparent(image) else "RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Return a picture as its Exif data says that it is to be shown; as it is if they are damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - what the library raises for such data is not documented
        return image


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info


def tiny(image: Image.Image) -> str:
    """Return a blurred version as a ``data:`` URI; empty if it would be too long."""
    small = image.convert("RGB")
    small.thumbnail((TINY, TINY))
    for quality in (50, 20, 1):
        data = io.BytesIO()
        small.save(data, "WEBP", quality=quality, method=6)
        uri = f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
        if len(uri) <= MAX_URI:
            return uri
    return ""


def main(source: Path, folder: Path, *film: str) -> None:
    """Make the small pictures; `film`: the reader of a film, and the path of ffmpeg."""
    warnings.simplefilter("ignore")  # about damaged metadata, and sizes that `opened` checks
    if film:
        source = first_frame(source, folder, demuxer=film[0], decoder=film[1])
    image = opened(source)
    for size in reversed(SIZES):
        image.thumbnail((size, size))
        image.save(folder / f"{size}.webp", "WEBP", quality=80, method=4)
    sys.stdout.write(tiny(image))


if __name__ == "__main__":
    limit()
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
