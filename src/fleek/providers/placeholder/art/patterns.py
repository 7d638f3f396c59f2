"""Patterns of pieces: stained glass and tiles."""

import math
from random import Random

from PIL import Image, ImageChops, ImageDraw

from fleek.providers.placeholder.art.canvas import (
    FINE,
    Colour,
    Palette,
    Pen,
    Point,
    Size,
    clouds,
    disc,
    glow,
    mix,
    ramp,
    unit,
)

Shape = list[Point]


def glass(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint a window of coloured panes that the light shines through."""
    cell = max(unit(size) / dice.choice((6, 8, 10)), math.sqrt(size[0] * size[1] / 260))
    sites = _sites(size, cell, dice)
    large = Image.new("RGB", (size[0] * FINE, size[1] * FINE), palette[0])
    pen = ImageDraw.Draw(large)
    light = (dice.uniform(0.25, 0.75) * size[0], dice.uniform(0.2, 0.5) * size[1])
    far = math.hypot(*size) * 0.62
    lead = max(1, round(unit(size) * 0.0065 * FINE))
    for (column, row), (x, y) in sites.items():
        pane = _pane(sites, column, row, size, cell)
        place = 1 - math.hypot(x - light[0], y - light[1]) / far + dice.uniform(-0.2, 0.2)
        colour = ramp(palette[1:], place)
        outline = [(px * FINE, py * FINE) for px, py in pane]
        if len(outline) > 2:
            pen.polygon(outline, fill=colour)
            pen.line([*outline, outline[0], outline[1]], palette[0], lead, joint="curve")
    canvas = large.reduce(FINE)
    streaks = clouds(size, dice, (size[0] * 40 // max(size), size[1] * 9 // max(size)))
    canvas.paste(
        (255, 255, 255), (0, 0), streaks.point([max(0, v - 120) * 0.3 for v in range(256)])
    )
    canvas.paste(palette[0], (0, 0), streaks.point([max(0, 120 - v) * 0.4 for v in range(256)]))
    glow(canvas, light, far * 0.9, (255, 252, 235), 0.4)
    return canvas


def _sites(size: Size, cell: float, dice: Random) -> dict[tuple[int, int], Point]:
    """Return one point in each cell of a grid that is wider than the canvas."""
    return {
        (column, row): (
            (column + dice.uniform(0.08, 0.92)) * cell,
            (row + dice.uniform(0.08, 0.92)) * cell,
        )
        for column in range(-2, math.ceil(size[0] / cell) + 2)
        for row in range(-2, math.ceil(size[1] / cell) + 2)
    }


def _pane(
    sites: dict[tuple[int, int], Point], column: int, row: int, size: Size, cell: float
) -> Shape:
    """Return what is nearer to one site than to any other: its Voronoi cell."""
    x, y = sites[column, row]
    reach = cell * 2
    if not (-reach < x < size[0] + reach and -reach < y < size[1] + reach):
        return []
    shape: Shape = [
        (x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)
    ]  # fmt: skip
    for across in range(column - 2, column + 3):
        for down in range(row - 2, row + 3):
            other = sites.get((across, down))
            if other is not None and other != (x, y):
                shape = _nearer(shape, (x, y), other)
    return shape


def _nearer(shape: Shape, site: Point, other: Point) -> Shape:
    """Return the part of a convex shape that is nearer to `site` than to `other`."""
    dx, dy = other[0] - site[0], other[1] - site[1]
    limit = (other[0] ** 2 + other[1] ** 2 - site[0] ** 2 - site[1] ** 2) / 2
    sides = [px * dx + py * dy - limit for px, py in shape]
    if max(sides, default=0) <= 0:
        return shape
    kept: Shape = []
    for i, (point, side) in enumerate(zip(shape, sides, strict=True)):
        last, before = shape[i - 1], sides[i - 1]
        if (side <= 0) != (before <= 0):
            share = before / (before - side)
            kept.append(
                (last[0] + (point[0] - last[0]) * share, last[1] + (point[1] - last[1]) * share)
            )
        if side <= 0:
            kept.append(point)
    return kept


def tiles(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint a wall of geometric tiles."""
    side = unit(size) / dice.choice((4, 5, 6)) * FINE
    side = math.ceil(max(side, math.sqrt(size[0] * size[1] / 300) * FINE))
    paper = palette[5]
    large = Image.new("RGB", (size[0] * FINE, size[1] * FINE), paper)
    across, down = math.ceil(large.width / side), math.ceil(large.height / side)
    left, top = (large.width - across * side) // 2, (large.height - down * side) // 2
    motifs = dice.sample((_quarter, _leaf, _half, _rings, _corner, _dot), 4)
    for row in range(down):
        for column in range(across):
            ground, ink, spark = dice.sample([*palette[:5], paper], 3)
            tile = Image.new("RGB", (side, side), ground)
            dice.choice(motifs)(ImageDraw.Draw(tile), side, ink, spark)
            place = (left + column * side, top + row * side)
            large.paste(tile.rotate(90 * dice.randrange(4)), place)
    canvas = large.reduce(FINE)
    glow(canvas, (size[0] * 0.3, 0), max(size) * 0.9, (255, 255, 255), 0.12)
    return canvas


def _quarter(pen: Pen, side: int, ink: Colour, spark: Colour) -> None:
    disc(pen, (0, 0), side, ink)
    disc(pen, (0, 0), side / 2, spark)


def _leaf(pen: Pen, side: int, ink: Colour, spark: Colour) -> None:
    leaf, other = Image.new("L", (side, side)), Image.new("L", (side, side))
    disc(ImageDraw.Draw(leaf), (0, side), side, 255)
    disc(ImageDraw.Draw(other), (side, 0), side, 255)
    pen.bitmap((0, 0), other, fill=spark)
    pen.bitmap((0, 0), ImageChops.multiply(leaf, other), fill=ink)


def _half(pen: Pen, side: int, ink: Colour, spark: Colour) -> None:
    disc(pen, (side / 2, 0), side / 2, ink)
    disc(pen, (side / 2, side), side / 2, spark)


def _rings(pen: Pen, side: int, ink: Colour, spark: Colour) -> None:
    for i in range(4):
        disc(pen, (side / 2, side / 2), side * (0.48 - 0.12 * i), spark if i % 2 else ink)


def _corner(pen: Pen, side: int, ink: Colour, spark: Colour) -> None:
    pen.polygon([(0, 0), (side, 0), (0, side)], fill=ink)
    disc(pen, (side * 0.7, side * 0.7), side * 0.16, spark)


def _dot(pen: Pen, side: int, ink: Colour, spark: Colour) -> None:
    pen.rectangle((0, 0, side, side / 2), fill=mix(ink, spark, 0.2))
    disc(pen, (side / 2, side / 2), side * 0.3, spark)
