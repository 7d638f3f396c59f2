"""What all styles paint with: gradients, glows, clouds and shapes with smooth edges.

Pillow does the work for each pixel; Python's loops are over shapes only.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Final

from PIL import Image, ImageDraw

from fleek.providers.placeholder.art.palette import Colour

Size = tuple[int, int]
Point = tuple[float, float]
Pen = ImageDraw.ImageDraw

FINE: Final = 2  # shapes are drawn this many times larger, then reduced: smooth edges


def unit(size: Size) -> float:
    """Return the shorter side, the measure of everything painted."""
    return float(min(size))


def upright(size: Size, colours: Sequence[Colour]) -> Image.Image:
    """Return a gradient through the colours, from top to bottom."""
    strip = Image.new("RGB", (1, len(colours)))
    strip.putdata(list(colours))
    return strip.resize(size, Image.Resampling.BICUBIC, box=(0, 0.5, 1, len(colours) - 0.5))


def clouds(size: Size, dice: Random, cells: Size) -> Image.Image:
    """Return soft grey noise with so many cells across and down."""
    across, down = max(2, cells[0]), max(2, cells[1])
    seed = Image.frombytes("L", (across, down), dice.randbytes(across * down))
    return seed.resize(size, Image.Resampling.BICUBIC)


def glow(
    canvas: Image.Image, centre: Point, radius: float, colour: Colour, strength: float
) -> None:
    """Lay a round light on the canvas, brightest at its centre.

    Args:
        canvas: Painted on.
        centre: Where, in pixels.
        radius: Where it has faded to nothing, in pixels.
        colour: Of the light.
        strength: At its centre, 0.0-1.0.
    """
    side = max(2, round(radius * 2))
    light = Image.radial_gradient("L").point([_fade(v) * strength for v in range(256)])
    corner = (round(centre[0] - side / 2), round(centre[1] - side / 2))
    left, top = max(0, corner[0]), max(0, corner[1])
    right, bottom = min(canvas.width, corner[0] + side), min(canvas.height, corner[1] + side)
    if right <= left or bottom <= top:
        return
    shrink = 256 / side
    box = (
        (left - corner[0]) * shrink, (top - corner[1]) * shrink,
        (right - corner[0]) * shrink, (bottom - corner[1]) * shrink,
    )  # fmt: skip
    mask = light.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    canvas.paste(colour, (left, top, right, bottom), mask)


def stencil(size: Size, paint: Callable[[Pen], None]) -> Image.Image:
    """Return a mask with smooth edges. `paint` draws with 255 on a pen FINE times as large."""
    large = Image.new("L", (size[0] * FINE, size[1] * FINE))
    paint(ImageDraw.Draw(large))
    return large.reduce(FINE)


def skyline(dice: Random, *, steps: int, rough: float) -> list[float]:
    """Return heights between -1.0 and 1.0 along a ridge, by halving and shifting.

    Args:
        dice: Chooses the shape.
        steps: How many times the ridge is halved; it gets 2 ** steps + 1 heights.
        rough: 0.0 gives smooth hills, 1.0 jagged rock.
    """
    heights = [dice.uniform(-1, 1), dice.uniform(-1, 1)]
    reach = 1.0
    for _ in range(steps):
        reach *= 0.35 + 0.3 * rough
        finer: list[float] = []
        for left, right in pairwise(heights):
            finer += [left, (left + right) / 2 + dice.uniform(-reach, reach)]
        heights = [*finer, heights[-1]]
    most = max(1.0, *map(abs, heights))
    return [height / most for height in heights]


def ground(heights: Sequence[float], size: Size, *, level: float, reach: float) -> list[Point]:
    """Return the outline, FINE times as large, of all below a ridge.

    Args:
        heights: Of the ridge from left to right, -1.0 to 1.0.
        size: Of the canvas, in pixels.
        level: Where height 0 is, in pixels from the top.
        reach: How far height 1 is above that, in pixels.
    """
    width, bottom = size[0] * FINE, size[1] * FINE
    step = width / (len(heights) - 1)
    ridge = [(i * step, (level - h * reach) * FINE) for i, h in enumerate(heights)]
    return [(0, bottom), *ridge, (width, bottom)]


def disc(pen: Pen, centre: Point, radius: float, fill: int | Colour) -> None:
    """Draw a filled circle, all in the pen's own pixels."""
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def stars(canvas: Image.Image, dice: Random, *, depth: float) -> None:
    """Sprinkle stars over the upper part of the canvas, down to a share `depth` of its height."""
    small = unit(canvas.size)
    count = min(600, round(canvas.width * canvas.height * depth / small**2 * 170))
    if small < 48:
        count //= 6

    def paint(pen: Pen) -> None:
        for _ in range(count):
            x = dice.uniform(0, canvas.width) * FINE
            y = dice.random() ** 1.4 * canvas.height * depth * FINE
            size = small / 1024 * dice.choice((0.9, 0.9, 1.2, 1.6, 2.6)) * FINE
            disc(pen, (x, y), max(0.5, size), dice.randrange(90, 256))

    mask = stencil((canvas.width, max(1, round(canvas.height * depth))), paint)
    canvas.paste((255, 250, 240), (0, 0), mask)


def _fade(distance: int) -> float:
    """Return the strength, 0-255, of a light at a distance of 0-255 from its centre."""
    return 255 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, distance / 180))) ** 2
