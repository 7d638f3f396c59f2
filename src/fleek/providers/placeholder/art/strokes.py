"""Drawn with a brush: currents and flowers."""

import math
from random import Random

from PIL import Image, ImageDraw

from fleek.providers.placeholder.art.canvas import (
    FINE,
    Palette,
    Point,
    Size,
    disc,
    glow,
    mix,
    ramp,
    unit,
    upright,
)


def flow(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint strokes that follow a current."""
    width, height = size[0] * FINE, size[1] * FINE
    dark = dice.random() < 0.6
    paper = [palette[0], mix(palette[0], palette[1], 0.6)] if dark else [palette[5], palette[4]]
    inks = palette[1:] if dark else palette[:4]
    large = upright((width, height), paper)
    pen = ImageDraw.Draw(large)
    small = unit(size) * FINE
    count = max(40, min(900, round(size[0] * size[1] / unit(size) ** 2 * 620)))
    if small < 300:
        count = max(30, count // 4)
    turn = [dice.uniform(0.6, 2.2) / small * math.pi for _ in range(4)]
    phase = [dice.uniform(0, 2 * math.pi) for _ in range(4)]
    lean, step = dice.uniform(0, 2 * math.pi), small * 0.014
    for _ in range(count):
        x, y = dice.uniform(-0.05, 1.05) * width, dice.uniform(-0.05, 1.05) * height
        tone = 0.5 + 0.5 * math.sin(turn[0] * x + turn[1] * y + phase[3])
        colour = ramp(inks, tone * 0.75 + dice.uniform(0, 0.25))
        line = _current((x, y), dice.randrange(8, 30), step, (turn, phase, lean))
        thick = max(1, round(small * dice.choice((0.002, 0.004, 0.006, 0.011))))
        pen.line(line, colour, thick, joint="curve")
        for end in (line[0], line[-1]):
            disc(pen, end, thick / 2 - 0.5, colour)
    canvas = large.reduce(FINE)
    glow(canvas, (size[0] * 0.5, size[1] * 0.35), max(size) * 0.8, palette[5], 0.16)
    return canvas


def _current(
    start: Point, steps: int, step: float, field: tuple[list[float], list[float], float]
) -> list[Point]:
    turn, phase, lean = field
    x, y = start
    line = [start]
    for _ in range(steps):
        angle = lean + 1.5 * math.sin(turn[0] * x + phase[0] + math.sin(turn[1] * y + phase[1]))
        angle += 1.1 * math.cos(turn[2] * y - turn[3] * x + phase[2])
        x, y = x + step * math.cos(angle), y + step * math.sin(angle)
        line.append((x, y))
    return line


def bloom(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint flowers of many petals."""
    dark = dice.random() < 0.7
    ends = (palette[0], palette[1]) if dark else (palette[5], mix(palette[5], palette[4], 0.5))
    canvas = upright(size, [ends[0], ends[1], ends[0]])
    centre = (size[0] * dice.uniform(0.4, 0.6), size[1] * dice.uniform(0.4, 0.5))
    glow(canvas, centre, unit(size) * 0.9, palette[2] if dark else (255, 255, 255), 0.6)
    large = canvas.resize((size[0] * FINE, size[1] * FINE), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(large, "RGBA")
    for _ in range(dice.randrange(3, 6)):
        spot = (dice.uniform(0, 1) * large.width, dice.uniform(0, 1) * large.height)
        _flower(pen, palette, dice, spot, unit(size) * FINE * dice.uniform(0.1, 0.2), alpha=70)
    middle = (centre[0] * FINE, centre[1] * FINE)
    _flower(pen, palette, dice, middle, unit(size) * FINE * dice.uniform(0.36, 0.43), alpha=150)
    return large.reduce(FINE)


def _flower(
    pen: ImageDraw.ImageDraw,
    palette: Palette,
    dice: Random,
    centre: Point,
    radius: float,
    *,
    alpha: int,
) -> None:
    petals, rings = dice.choice((8, 10, 12, 16)), dice.randrange(4, 7)
    fat = dice.uniform(0.75, 1.25)
    for notify in range(rings):
        far = radius * (1 - notify / rings * 0.82)
        shade = ramp(palette[1:], notify / (rings - 1))
        for petal in range(petals):
            angle = 2 * math.pi * (petal + notify % 2 / 2) / petals
            shape = _petal(centre, angle, far, far * fat * math.pi / petals)
            pen.polygon(shape, fill=(*shade, alpha))
            vein = (*mix(shade, palette[5], 0.45), alpha)
            pen.line([*shape, shape[0]], fill=vein, width=max(1, round(radius * 0.006)))
    disc(pen, centre, radius * 0.09, palette[5])
    disc(pen, centre, radius * 0.05, palette[3])


def _petal(centre: Point, angle: float, far: float, half: float) -> list[Point]:
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    shape = []
    for i in range(-12, 13):
        place = 1 - abs(i) / 12  # 0.0 at the centre of the flower, 1.0 at the tip
        wide = math.sin(math.pi * place**1.35) * half * (1 if i < 0 else -1)
        reach = far * (0.12 + 0.88 * place)
        shape.append(
            (
                centre[0] + along[0] * reach + across[0] * wide,
                centre[1] + along[1] * reach + across[1] * wide,
            )
        )
    return shape
