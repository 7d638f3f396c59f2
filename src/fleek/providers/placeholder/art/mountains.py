"""Mountains behind mountains, a low sun and sometimes a lake."""

from random import Random

from PIL import Image

from fleek.providers.placeholder.art.canvas import (
    FINE,
    Palette,
    Pen,
    Point,
    Size,
    disc,
    glow,
    ground,
    mix,
    skyline,
    stars,
    stencil,
    unit,
    upright,
)


def dusk(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint ridges that fade into the evening light."""
    height = size[1]
    horizon = height * dice.uniform(0.56, 0.66)
    canvas = _sky(size, palette, dice, horizon)
    ridges = dice.choice((4, 5, 6))
    lake = dice.random() < 0.45
    for i in range(ridges):
        depth = 0.85 * i / (ridges - 1)  # 0.0 far away; 1.0 is where the trees stand
        level = horizon + (height - horizon) * (0.02 + 0.62 * depth**1.3) * (0.5 if lake else 1)
        reach = unit(size) * (0.17 - 0.08 * depth)
        heights = skyline(dice, steps=7, rough=0.75 - 0.4 * depth)
        _ridge(canvas, palette, heights, level=level, reach=reach, depth=depth)
    if lake:
        _lake(canvas, palette, dice, shore=round(height * 0.8))
    _pines(canvas, palette, dice)
    return canvas


def _sky(size: Size, palette: Palette, dice: Random, horizon: float) -> Image.Image:
    width = size[0]
    canvas = upright(
        size, [palette[1], palette[2], palette[3], palette[4], palette[5], palette[5]]
    )
    stars(canvas, dice, depth=0.35)
    centre = (width * dice.uniform(0.25, 0.75), horizon - unit(size) * dice.uniform(0.1, 0.24))
    radius = unit(size) * dice.uniform(0.055, 0.1)
    light = mix(palette[5], (255, 255, 245), 0.6)
    glow(canvas, centre, radius * 7, palette[5], 0.75)
    box = (round(centre[0] - radius) - 2, round(centre[1] - radius) - 2)
    side = round(radius * 2) + 4

    def sun(pen: Pen) -> None:
        middle = ((centre[0] - box[0]) * FINE, (centre[1] - box[1]) * FINE)
        disc(pen, middle, radius * FINE, 255)

    canvas.paste(light, box, stencil((side, side), sun))
    return canvas


def _ridge(
    canvas: Image.Image,
    palette: Palette,
    heights: list[float],
    *,
    level: float,
    reach: float,
    depth: float,
) -> None:
    top = max(0, min(round(level - reach) - 1, canvas.height - 2))
    size = (canvas.width, canvas.height - top)
    outline = ground(heights, size, level=level - top, reach=reach)
    mask = stencil(size, lambda pen: pen.polygon(outline, fill=255))
    rock = mix(mix(palette[3], palette[4], 0.35), palette[0], depth**0.8)
    mist = mix(rock, palette[4], 0.5 * (1 - depth))
    canvas.paste(upright(size, [rock, mist, mist]), (0, top), mask)


def _lake(canvas: Image.Image, palette: Palette, dice: Random, *, shore: int) -> None:
    deep = canvas.height - shore
    if deep < 2:
        return
    mirrored = canvas.crop((0, shore - deep, canvas.width, shore))
    mirrored = mirrored.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    water = Image.blend(
        mirrored, upright(mirrored.size, [mix(palette[4], palette[2], 0.4), palette[1]]), 0.42
    )
    canvas.paste(water, (0, shore))

    def ripples(pen: Pen) -> None:
        for _ in range(min(90, deep)):
            y = dice.random() ** 1.5 * deep * FINE
            x = dice.uniform(-0.1, 1) * canvas.width * FINE
            length = canvas.width * FINE * dice.uniform(0.03, 0.16)
            pen.line((x, y, x + length, y), dice.randrange(30, 90), max(1, round(deep / 90)))

    canvas.paste(palette[5], (0, shore), stencil((canvas.width, deep), ripples))


def _pines(canvas: Image.Image, palette: Palette, dice: Random) -> None:
    short = unit(canvas.size)
    top = round(canvas.height - short * 0.3)
    size = (canvas.width, canvas.height - top)
    heights = [0.5 * height for height in skyline(dice, steps=5, rough=0.1)]
    level, reach = short * 0.27, short * 0.06
    outline = ground(heights, size, level=level, reach=reach)
    pace = max(3.0, short * 0.016)
    thick = dice.uniform(0.35, 0.9)
    trees = [i * pace for i in range(round(canvas.width / pace) + 1) if dice.random() < thick]

    def paint(pen: Pen) -> None:
        pen.polygon(outline, fill=255)
        for x in trees:
            at = min(len(heights) - 1, round(x / canvas.width * (len(heights) - 1)))
            foot = level - heights[at] * reach + short * 0.01
            _pine(pen, (x, foot), short * dice.uniform(0.035, 0.105))

    canvas.paste(mix(palette[0], (4, 4, 10), 0.35), (0, top), stencil(size, paint))


def _pine(pen: Pen, foot: Point, high: float) -> None:
    x, y, high = foot[0] * FINE, foot[1] * FINE, high * FINE
    for tier in range(4):
        base = y - high * (0.08 + 0.22 * tier)
        half = high * (0.2 - 0.045 * tier)
        pen.polygon(
            [(x - half, base), (x + half, base), (x, base - high * (0.34 - 0.02 * tier))], 255
        )
