"""Animations: waves under a low sun, in a seamless loop."""

import math
from collections.abc import Iterator
from random import Random

from PIL import Image, ImageDraw

from fleek.providers.placeholder import picture
from fleek.providers.placeholder.art.canvas import (
    FINE,
    Palette,
    Point,
    Size,
    choose,
    disc,
    glow,
    mix,
    unit,
    upright,
)
from fleek.providers.placeholder.picture import save_animation
from fleek.providers.placeholder.spec import OutputSpec


def make(spec: OutputSpec) -> bytes:
    """Return the animation as a file, with its specification as metadata."""
    fps = spec.whole("fps", 12)
    form = spec.word("output_format", "webp")
    return save_animation(_frames(spec), spec, form=form, milliseconds=round(1000 / fps))


def _frames(spec: OutputSpec) -> Iterator[Image.Image]:
    size = (spec.whole("width", 512), spec.whole("height", 288))
    count = spec.whole("frames", 24)
    dice = spec.dice("animation")
    palette = choose(spec.prompt, dice)
    sky = _sky(size, palette, dice)
    swells = [_Swell(dice, i / 5) for i in range(6)]
    for number in range(count):
        image = _sea(sky, palette, swells, number / count)
        if spec.parameters.get("caption", True):
            picture.draw(image, spec.prompt)
        yield image


class _Swell:
    """One layer of waves, from 0.0 far to 1.0 near."""

    def __init__(self, dice: Random, depth: float) -> None:
        self.depth = depth
        self._waves = [
            (dice.uniform(1.2, 2.2) * k * (2.2 - depth), dice.choice((-1, 1, 1)) * k,
             dice.uniform(0, 2 * math.pi), 1 / k)
            for k in (1, 2, 3)
        ]  # fmt: skip

    def outline(self, size: Size, time: float) -> list[Point]:
        """Return the area below the waves, FINE times as large; time 1.0 equals time 0.0."""
        width, bottom = size[0] * FINE, size[1] * FINE
        level = bottom * (0.58 + 0.3 * self.depth)
        reach = unit(size) * FINE * (0.008 + 0.022 * self.depth)
        crest = []
        for i in range(65):
            turn = 2 * math.pi
            lift = sum(
                share * math.sin(turn * (wave * i / 64 + cycles * time) + phase)
                for wave, cycles, phase, share in self._waves
            )
            crest.append((width * i / 64, level - reach * lift))
        return [(0, bottom), *crest, (width, bottom)]


def _sky(size: Size, palette: Palette, dice: Random) -> Image.Image:
    large = (size[0] * FINE, size[1] * FINE)
    sky = upright(large, [palette[1], palette[2], palette[3], palette[4], palette[5]])
    centre = (large[0] * dice.uniform(0.3, 0.7), large[1] * 0.44)
    radius = unit(large) * 0.12
    glow(sky, centre, radius * 5, palette[5], 0.8)
    disc(ImageDraw.Draw(sky), centre, radius, mix(palette[5], (255, 255, 245), 0.6))
    return sky


def _sea(sky: Image.Image, palette: Palette, swells: list[_Swell], time: float) -> Image.Image:
    large = sky.copy()
    size = (sky.width // FINE, sky.height // FINE)
    pen = ImageDraw.Draw(large)
    for swell in swells:
        colour = mix(mix(palette[4], palette[2], 0.55), palette[0], swell.depth**0.8)
        outline = swell.outline(size, time)
        pen.polygon(outline, fill=colour)
        crest = mix(colour, palette[5], 0.35)
        pen.line(outline[1:-1], crest, max(1, round(unit(sky.size) * 0.003)))
    return large.reduce(FINE)
