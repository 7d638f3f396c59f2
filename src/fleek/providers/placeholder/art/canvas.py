"""Painting tools of all styles: gradients, glows, clouds and shapes with smooth edges.

Pillow does the work for each pixel; Python's loops are over shapes only.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Final

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Palette = tuple[Colour, ...]
"""Six colours, the darkest first."""

_PALETTES: Final[dict[str, tuple[str, ...]]] = {
    "dusk": ("1b1235", "4a1e5c", "9b2c6b", "e4576b", "f9956a", "fcd9a0"),
    "ocean": ("04192e", "0b3c5d", "16697a", "489fb5", "9fd8cb", "f6f1de"),
    "forest": ("0d1f1a", "1f4037", "3d6b4f", "7d9d5c", "c8c785", "f5edc4"),
    "ember": ("1a0b0f", "531121", "a4262c", "e2592a", "f5a13b", "fbe3a4"),
    "lavender": ("1d1740", "43348c", "7c5cbf", "b58ae0", "e8b7dc", "fdeff0"),
    "mint": ("0a2a2f", "11545b", "1f8a83", "64c4a4", "b9e8c0", "fbf8e3"),
    "desert": ("2b1a1e", "6d3b34", "b3654a", "e09f6a", "f2cf9b", "faf0dc"),
    "nordic": ("101828", "26405e", "4d7796", "8fb8c9", "d3e2e3", "fbf4ea"),
    "candy": ("2a0f3d", "7b1e7a", "d6336c", "ff7a8a", "ffb88a", "fff0c9"),
    "midnight": ("070b24", "1a1f5c", "3a3fa6", "7a5de0", "c88cf2", "ffd6f6"),
    "citrus": ("17301f", "2f6b3a", "8fb339", "f2c230", "f58a1f", "fff3cf"),
    "cherry": ("2d0a1f", "701c45", "bd3a68", "f0779b", "f9b5bf", "fff1ec"),
    "harbour": ("14213d", "2a4d69", "3f8e8c", "e76f51", "f4a261", "f6e3b4"),
}

_WORDS: Final[dict[str, str]] = {
    "sea": "ocean", "ocean": "ocean", "water": "ocean", "beach": "ocean", "river": "ocean",
    "forest": "forest", "tree": "forest", "garden": "forest", "jungle": "forest",
    "sunset": "dusk", "dusk": "dusk", "evening": "dusk", "sunrise": "ember", "fire": "ember",
    "autumn": "ember", "desert": "desert", "sand": "desert", "snow": "nordic", "winter": "nordic",
    "ice": "nordic", "night": "midnight", "space": "midnight", "stars": "midnight",
    "spring": "mint", "lemon": "citrus", "summer": "citrus", "flower": "cherry", "rose": "cherry",
    "love": "cherry", "lavender": "lavender", "dream": "lavender", "candy": "candy",
    "neon": "candy", "harbour": "harbour", "harbor": "harbour", "city": "harbour",
}  # fmt: skip


def choose(prompt: str, dice: Random) -> Palette:
    """Return a palette that suits a word of the prompt, else any."""
    drawn = dice.choice(sorted(_PALETTES))
    words = (word.strip(".,;:!?\"'").lower() for word in prompt[:400].split())
    suited = [_WORDS[word] for word in words if word in _WORDS]
    name = dice.choice(suited) if suited else drawn
    return tuple(_colour(code) for code in _PALETTES[name])


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Return the colour between two; share 0.0 is the one, 1.0 the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def ramp(colours: Sequence[Colour], place: float) -> Colour:
    """Return the colour at a place along several, 0.0 the first and 1.0 the last."""
    spot = min(max(place, 0.0), 1.0) * (len(colours) - 1)
    first = min(int(spot), len(colours) - 2)
    return mix(colours[first], colours[first + 1], spot - first)


def _colour(code: str) -> Colour:
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


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
