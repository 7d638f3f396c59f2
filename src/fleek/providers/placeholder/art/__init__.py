"""The styles of the placeholder's pictures, by name.

Each style takes a size in pixels, a palette and a source of choices, and returns an RGB picture of
that size. None uses Pillow's own noise: it is different each time.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from PIL import Image

from fleek.providers.placeholder.art import layers, mountains, patterns, sky, strokes
from fleek.providers.placeholder.art.canvas import Palette, Size

Style = Callable[[Size, Palette, Random], Image.Image]

STYLES: Final[Mapping[str, Style]] = {
    "dusk": mountains.dusk,
    "aurora": sky.aurora,
    "planet": sky.planet,
    "glass": patterns.glass,
    "tiles": patterns.tiles,
    "flow": strokes.flow,
    "bloom": strokes.bloom,
    "papercut": layers.papercut,
    "mesh": layers.mesh,
}
