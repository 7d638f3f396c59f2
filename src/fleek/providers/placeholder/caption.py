"""The prompt, written on a picture."""

import unicodedata
from typing import Final

from PIL import Image, ImageDraw, ImageFilter, ImageFont

_DRAWN: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("“”…")
"""What Pillow's own font can draw: no others, so that a picture never depends on the machine."""

_FOLDED: Final = {
    "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "„": "“",
    "«": "“", "»": "”", "—": "-", "\u2013": "-", "\u2018": "'", "\u2019": "'", "\u0131": "i",
}  # fmt: skip

_LONGEST: Final = 400  # characters looked at; more never fit


def flat(text: str) -> str:
    """Return text on one line, without control and format characters."""
    spaced = "".join(" " if char.isspace() else char for char in text)
    kept = "".join(char for char in spaced if unicodedata.category(char)[0] != "C")
    return " ".join(kept.split())


def legible(text: str) -> str:
    """Return what of the text can be drawn, accents folded away; empty if that is too little."""
    line = flat(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
    drawn = "".join(_letter(char) for char in line)
    marks = sum(char.isalnum() for char in line)
    if sum(char.isalnum() for char in drawn) * 2 < marks:
        return ""  # a caption with most of its letters missing says something else
    return " ".join(drawn.split())


def draw(image: Image.Image, text: str) -> None:
    """Write the text over the foot of an RGB picture, if it is large enough to be read."""
    short = min(image.size)
    size = max(11, round(short / 28))
    margin = max(4, size * 9 // 10)
    capacity = image.width - 4 * margin
    text = legible(text)
    if not text or short < 96 or capacity < 8 * size:  # nobody could read it
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
