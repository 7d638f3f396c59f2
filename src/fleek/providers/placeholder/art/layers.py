"""Layers over layers: cut paper, and discs of light."""

import math
from random import Random

from PIL import Image, ImageFilter

from fleek.providers.placeholder.art.canvas import (
    FINE,
    Palette,
    Pen,
    Point,
    Size,
    disc,
    glow,
    mix,
    ramp,
    stencil,
    unit,
)


def papercut(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint sheets of paper with holes, each with its shadow on the one below."""
    sheets = dice.choice((5, 6, 7))
    order = palette if dice.random() < 0.7 else palette[::-1]
    centre = (size[0] * dice.uniform(0.4, 0.6), size[1] * dice.uniform(0.38, 0.55))
    canvas = Image.new("RGB", size, order[5])
    glow(canvas, centre, unit(size) * 0.5, mix(order[5], order[4], 0.4), 0.8)
    soft = max(1, round(unit(size) * 0.012))
    drift = dice.uniform(0, 2 * math.pi)
    for i in range(sheets):
        share = (i + 1) / sheets
        reach = (0.13 + 0.47 * share) * (0.6 * unit(size) + 0.4 * max(size))
        off = unit(size) * 0.05 * share
        spot = (centre[0] + off * math.cos(drift + i), centre[1] + off * math.sin(drift + i))
        hole = _hole(dice, spot, reach, size)
        mask = stencil(size, lambda pen, edge=hole: _around(pen, edge))  # type: ignore[misc]  # a default binds the loop's value
        shadow = Image.new("L", size)
        shadow.paste(mask, (soft // 2, soft))
        shadow = shadow.filter(ImageFilter.BoxBlur(soft)).point([v * 0.5 for v in range(256)])
        canvas.paste((8, 6, 20), (0, 0), shadow)
        canvas.paste(ramp(order, 0.86 - 0.86 * share), (0, 0), mask)
    glow(canvas, (size[0] * 0.2, 0), max(size) * 0.9, palette[4], 0.1)
    return canvas


def _around(pen: Pen, edge: list[Point]) -> None:
    pen.rectangle((0, 0, *pen.im.size), fill=255)
    pen.polygon(edge, fill=0)


def _hole(dice: Random, centre: Point, reach: float, size: Size) -> list[Point]:
    """Return a wavy ring of points, stretched towards the canvas's longer side."""
    waves = [(k, dice.uniform(0.02, 0.16) / k**0.5, dice.uniform(0, 6.28)) for k in range(2, 8)]
    wide, high = size[0] / max(size), size[1] / max(size)
    wide, high = 0.5 + wide / 2, 0.5 + high / 2
    edge = []
    for i in range(160):
        angle = 2 * math.pi * i / 160
        far = reach * (1 + sum(a * math.sin(k * angle + p) for k, a, p in waves))
        x, y = centre[0] + far * wide * math.cos(angle), centre[1] + far * high * math.sin(angle)
        edge.append((x * FINE, y * FINE))
    return edge


def mesh(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint colours that run into each other, and discs of light before them."""
    cells = (4, 4)
    grid = Image.new("RGB", cells)
    tilt = dice.uniform(-0.25, 0.25)
    grid.putdata(
        [
            ramp(palette[1:], y / 3 + tilt * (x - 1.5) + dice.uniform(-0.3, 0.3))
            for y in range(4)
            for x in range(4)
        ]
    )
    canvas = grid.resize(size, Image.Resampling.BICUBIC)
    for _ in range(3):
        spot = (dice.uniform(0, size[0]), dice.uniform(0, size[1]))
        glow(canvas, spot, unit(size) * dice.uniform(0.4, 0.8), dice.choice(palette[2:]), 0.6)
    for i in range(dice.randrange(4, 7)):
        radius = unit(size) * (0.34 - 0.045 * i) * dice.uniform(0.8, 1.1)
        spot = (dice.uniform(0.12, 0.88) * size[0], dice.uniform(0.12, 0.8) * size[1])
        _bubble(canvas, palette, dice, spot, radius)
    return canvas


def _bubble(
    canvas: Image.Image, palette: Palette, dice: Random, centre: Point, radius: float
) -> None:
    side = max(3, round(radius * 2))
    soft = max(1, side // 14)
    corner = (round(centre[0] - side / 2), round(centre[1] - side / 2))
    half = side * FINE / 2
    shape = stencil((side, side), lambda pen: disc(pen, (half, half), half - 1, 255))
    shadow = Image.new("L", (side + 4 * soft, side + 4 * soft))
    shadow.paste(shape.point([v * 0.32 for v in range(256)]), (2 * soft, 2 * soft))
    shadow = shadow.filter(ImageFilter.BoxBlur(soft))
    shadow.paste(0, (2 * soft, soft), shape)  # none below the disc itself: it is glass
    canvas.paste(palette[0], (corner[0] - 2 * soft, corner[1] - soft), shadow)
    light = mix(dice.choice(palette[3:]), (255, 255, 255), 0.25)
    fill = (
        Image.linear_gradient("L").resize((side, side)).rotate(dice.uniform(-40, 40), fillcolor=70)
    )
    veil = fill.point([235 - v * 0.72 for v in range(256)])
    alpha = Image.new("L", (side, side))
    alpha.paste(veil, (0, 0), shape)
    canvas.paste(light, corner, alpha)
