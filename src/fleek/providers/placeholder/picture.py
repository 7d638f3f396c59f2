"""Pictures: chooses size, style and palette, then paints, adds a caption and saves."""

import io
import json
import math
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFilter, ImageFont, PngImagePlugin

from fleek.providers.placeholder.art import STYLES
from fleek.providers.placeholder.art.canvas import Size, choose
from fleek.providers.placeholder.over import over_input
from fleek.providers.placeholder.spec import OutputSpec

_DRAWN: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("“”…")
"""The characters of Pillow's own font: no others, so that a picture does not depend on the machine."""

_FOLDED: Final = {
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "„": "“",
    "«": "“", "»": "”", "—": "-", "\u2013": "-", "\u2018": "'", "\u2019": "'", "\u0131": "i",
}  # fmt: skip

_LONGEST: Final = 400  # characters that are read; more never fit


def flat(text: str) -> str:
    """Return text on one line, without control and format characters."""
    spaced = "".join(" " if char.isspace() else char for char in text)
    kept = "".join(char for char in spaced if unicodedata.category(char)[0] != "C")
    return " ".join(kept.split())


def legible(text: str) -> str:
    """Return the drawable part of a text, without accents; empty if that is too little."""
    line = flat(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
    drawn = "".join(_letter(char) for char in line)
    marks = sum(char.isalnum() for char in line)
    if sum(char.isalnum() for char in drawn) * 2 < marks:
        return ""  # with most of its letters missing, a caption is misleading
    return " ".join(drawn.split())


def draw(image: Image.Image, text: str) -> None:
    """Write the text at the bottom of an RGB picture, if that is large enough."""
    short = min(image.size)
    size = max(11, round(short / 28))
    margin = max(4, size * 9 // 10)
    capacity = image.width - 4 * margin
    text = legible(text)
    if not text or short < 96 or capacity < 8 * size:  # it would be illegible
        return
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    lines = _wrap(text, font, capacity, most=1 if short < 200 else 2 if short < 400 else 3)
    step = round(size * 1.35)
    width = max(font.getlength(line) for line in lines)
    high = step * len(lines) + margin
    left = (image.width - round(width)) // 2 - margin
    box = (left, image.height - margin - high, image.width - left, image.height - margin)
    _frost(image, box, radius=min(high // 2, size))
    pen = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        middle = box[1] + margin // 2 + step * row + step // 2
        pen.text((image.width // 2, middle), line, (255, 255, 255), font=font, anchor="mm")


def _letter(char: str) -> str:
    if char in _DRAWN:
        return char
    if char in _FOLDED:
        return _FOLDED[char]
    base = unicodedata.normalize("NFKD", char)
    return "".join(part for part in base if part in _DRAWN)


def _wrap(text: str, font: ImageFont.FreeTypeFont, capacity: int, *, most: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= capacity:
            lines[-1] = longer
        elif len(lines) == most:
            lines[-1] = _cut(longer, font, capacity)
            return lines
        else:
            lines.append(word if font.getlength(word) <= capacity else _cut(word, font, capacity))
    return [line for line in lines if line]


def _cut(text: str, font: ImageFont.FreeTypeFont, capacity: int) -> str:
    while text and font.getlength(text + "…") > capacity:
        text = text[: -max(1, len(text) // 16)]
    return text.rstrip() + "…"


def _frost(image: Image.Image, box: tuple[int, int, int, int], *, radius: int) -> None:
    size = (box[2] - box[0], box[3] - box[1])
    glass = image.crop(box).filter(ImageFilter.BoxBlur(radius))
    glass = Image.blend(glass, Image.new("RGB", size, (10, 12, 24)), 0.5)
    shape = Image.new("L", (size[0] * 2, size[1] * 2))
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, size[0] * 2 - 1, size[1] * 2 - 1), radius * 2, fill=255
    )
    image.paste(glass, box, shape.reduce(2))


_DESCRIPTION: Final = 0x010E
_CAMERA: Final = 0x0110  # "Model"
_SOFTWARE: Final = 0x0131
_EXIF: Final = 0x8769
_COMMENT: Final = 0x9286
_MOST_EXIF: Final = 60_000  # bytes; a JPEG's segment holds 65,533


def save_image(image: Image.Image, spec: OutputSpec, *, form: str, quality: int) -> bytes:
    """Return an RGB picture as a file: png, jpeg, jpg or webp; quality 1-100."""
    match form:
        case "png":
            return _saved(image, "PNG", pnginfo=_text(spec), compress_level=4)
        case "webp":
            return _saved(image, "WEBP", exif=exif(spec), quality=quality, method=2)
        case _:
            options = {"quality": min(quality, 95), "optimize": True, "progressive": True}
            return _saved(image, "JPEG", exif=exif(spec), **options)


def save_animation(
    frames: Iterable[Image.Image], spec: OutputSpec, *, form: str, milliseconds: int
) -> bytes:
    """Return RGB frames of one size as a file that loops: webp or gif."""
    coming = iter(frames)
    first = next(coming)
    moving: dict[str, Any] = {"save_all": True, "loop": 0, "duration": milliseconds}
    if form == "webp":
        options = {"exif": exif(spec), "quality": 80, "method": 0}
        return _saved(first, "WEBP", append_images=coming, **options, **moving)
    colours = first.quantize(255)  # the same for all frames, else they flicker
    dithered = (frame.quantize(palette=colours) for frame in coming)
    start = first.quantize(palette=colours)
    return _saved(start, "GIF", append_images=dithered, comment=_json(spec.record), **moving)


def exif(spec: OutputSpec) -> bytes:
    """Return the record as EXIF: description, model, software, and the whole record as a comment."""
    record = spec.record
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


def _text(spec: OutputSpec) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, value in spec.record.items():
        info.add_text(key, value)  # iTXt by itself where Latin-1 is not enough
    return info


def _json(record: dict[str, str]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


STYLE_NAMES: Final = tuple(STYLES)

_MOST_PIXELS: Final = 2_100_000
"""Larger pictures are painted at this size and enlarged: 4096 x 4096 fits into 200 MB."""


def make(spec: OutputSpec) -> bytes:
    """Return the picture as a file, with its specification as metadata."""
    image = over_input(paint(spec, frame(spec)), spec)
    if spec.parameters.get("caption", True):
        draw(image, spec.prompt)
    quality = max(1, spec.whole("output_quality", 90))
    return save_image(image, spec, form=spec.word("output_format", "png"), quality=quality)


def paint(spec: OutputSpec, size: Size) -> Image.Image:
    """Return the picture without its caption."""
    dice = spec.dice("picture")
    drawn = dice.choice(STYLE_NAMES)
    style = STYLES.get(spec.word("style", drawn), STYLES[drawn])
    palette = choose(spec.prompt, dice)
    painted = _paintable(size)
    image = style(painted, palette, dice)
    return image if painted == size else image.resize(size, Image.Resampling.BICUBIC)


def frame(spec: OutputSpec) -> Size:
    """Return the picture's width and height in pixels; a missing one follows from the aspect ratio."""
    given = spec.parameters
    across, down = _ratio(spec.word("aspect_ratio", "1:1"))
    if "width" in given and "height" in given:
        return spec.whole("width", 0), spec.whole("height", 0)
    if "width" in given:
        width = spec.whole("width", 0)
        return width, _side(width * down / across)
    if "height" in given:
        height = spec.whole("height", 0)
        return _side(height * across / down), height
    area = float(spec.word("megapixels", "1")) * 1024 * 1024
    wide = math.sqrt(area * across / down)
    return _side(round(wide / 16) * 16), _side(round(wide * down / across / 16) * 16)


def _ratio(name: str) -> tuple[int, int]:
    across, _, down = name.partition(":")
    return (int(across), int(down)) if down else (1, 1)  # "custom" needs both sides


def _side(pixels: float) -> int:
    return min(4096, max(16, round(pixels)))


def _paintable(size: Size) -> Size:
    shrink = math.sqrt(min(1.0, _MOST_PIXELS / (size[0] * size[1])))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))
