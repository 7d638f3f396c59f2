"""Pictures: chooses size, style and palette, paints, captions and saves."""

import math
from typing import Final

from PIL import Image

from fleek.providers.placeholder import caption
from fleek.providers.placeholder.art import STYLES
from fleek.providers.placeholder.art.canvas import Size
from fleek.providers.placeholder.art.palette import choose
from fleek.providers.placeholder.files import save_image
from fleek.providers.placeholder.spec import Piece

STYLE_NAMES: Final = tuple(STYLES)

_MOST_PIXELS: Final = 2_100_000
"""Larger pictures are painted at this size and enlarged: 4096 x 4096 fits into 200 MB."""


def make(piece: Piece) -> bytes:
    """Return the piece's picture as a file, with what made it inside."""
    image = paint(piece, frame(piece))
    if piece.parameters.get("caption", True):
        caption.draw(image, piece.prompt)
    quality = max(1, piece.whole("output_quality", 90))
    return save_image(image, piece, form=piece.word("output_format", "png"), quality=quality)


def paint(piece: Piece, size: Size) -> Image.Image:
    """Return the picture without its caption."""
    dice = piece.dice("picture")
    drawn = dice.choice(STYLE_NAMES)
    style = STYLES.get(piece.word("style", drawn), STYLES[drawn])
    palette = choose(piece.prompt, dice)
    painted = _paintable(size)
    image = style(painted, palette, dice)
    return image if painted == size else image.resize(size, Image.Resampling.BICUBIC)


def frame(piece: Piece) -> Size:
    """Return the picture's width and height in pixels; what is missing follows from the shape."""
    given = piece.parameters
    across, down = _ratio(piece.word("aspect_ratio", "1:1"))
    if "width" in given and "height" in given:
        return piece.whole("width", 0), piece.whole("height", 0)
    if "width" in given:
        width = piece.whole("width", 0)
        return width, _side(width * down / across)
    if "height" in given:
        height = piece.whole("height", 0)
        return _side(height * across / down), height
    area = float(piece.word("megapixels", "1")) * 1024 * 1024
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
