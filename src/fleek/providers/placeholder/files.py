"""Image files that say what made them."""

import io
import json
from collections.abc import Iterable
from typing import Any, Final

from PIL import Image, PngImagePlugin

from fleek.providers.placeholder.spec import Piece

_DESCRIPTION: Final = 0x010E
_CAMERA: Final = 0x0110  # "Model"
_SOFTWARE: Final = 0x0131
_EXIF: Final = 0x8769
_COMMENT: Final = 0x9286
_MOST_EXIF: Final = 60_000  # bytes; a JPEG's segment holds 65,533


def save_image(image: Image.Image, piece: Piece, *, form: str, quality: int) -> bytes:
    """Return an RGB picture as a file: png, jpeg, jpg or webp; quality 1-100."""
    match form:
        case "png":
            return _saved(image, "PNG", pnginfo=_text(piece), compress_level=4)
        case "webp":
            return _saved(image, "WEBP", exif=exif(piece), quality=quality, method=2)
        case _:
            options = {"quality": min(quality, 95), "optimize": True, "progressive": True}
            return _saved(image, "JPEG", exif=exif(piece), **options)


def save_animation(
    frames: Iterable[Image.Image], piece: Piece, *, form: str, milliseconds: int
) -> bytes:
    """Return RGB frames of one size as a file that plays for ever: webp or gif."""
    coming = iter(frames)
    first = next(coming)
    moving: dict[str, Any] = {"save_all": True, "loop": 0, "duration": milliseconds}
    if form == "webp":
        options = {"exif": exif(piece), "quality": 80, "method": 0}
        return _saved(first, "WEBP", append_images=coming, **options, **moving)
    colours = first.quantize(255)  # the same for all frames, else they flicker
    dithered = (frame.quantize(palette=colours) for frame in coming)
    start = first.quantize(palette=colours)
    return _saved(start, "GIF", append_images=dithered, comment=_json(piece.record), **moving)


def exif(piece: Piece) -> bytes:
    """Return the record as EXIF: description, model, software, and all of it as a comment."""
    record = piece.record
    comment = _json(record)
    if len(comment) + len(record["Prompt"].encode()) > _MOST_EXIF:
        record = {key: value[:4000] for key, value in record.items()}
        comment = _json(record)
    tags = Image.Exif()
    tags[_DESCRIPTION] = record["Prompt"].encode()
    tags[_CAMERA] = record["Model"]
    tags[_SOFTWARE] = record["Software"]
    tags.get_ifd(_EXIF)[_COMMENT] = b"UNICODE\0" + comment
    return tags.tobytes()


def _text(piece: Piece) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, value in piece.record.items():
        info.add_text(key, value)  # iTXt by itself where Latin-1 is not enough
    return info


def _json(record: dict[str, str]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
