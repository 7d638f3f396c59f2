"""The night sky: northern lights, and worlds with rings."""

import math
from random import Random
from typing import NamedTuple

from PIL import Image, ImageChops

from fleek.providers.placeholder.art.canvas import (
    FINE,
    Palette,
    Pen,
    Point,
    Size,
    clouds,
    disc,
    glow,
    ground,
    mix,
    ramp,
    skyline,
    stars,
    stencil,
    unit,
    upright,
)


def aurora(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint northern lights over hills."""
    height = size[1]
    night = mix(palette[0], (2, 4, 16), 0.6)
    canvas = upright(
        size, [night, mix(night, palette[1], 0.5), palette[1], mix(palette[1], palette[2], 0.6)]
    )
    stars(canvas, dice, depth=0.8)
    for i in range(3):
        light = _curtain(size, dice, base=0.36 + 0.13 * i)
        colours = [palette[3], palette[4], ramp(palette[2:], dice.random()), palette[5]]
        veil = upright(size, colours)
        canvas.paste(veil, (0, 0), light)
    for depth in (0.0, 0.5, 1.0):
        heights = skyline(dice, steps=6, rough=0.35)
        level = height * (0.8 + 0.07 * depth)
        outline = ground(heights, size, level=level, reach=unit(size) * 0.07)
        mask = stencil(size, lambda pen, shape=outline: pen.polygon(shape, fill=255))  # type: ignore[misc]  # a default binds the loop's value
        canvas.paste(
            mix(mix(palette[1], palette[2], 0.25), (3, 4, 10), 0.45 + depth / 2), mask=mask
        )
    return canvas


def _curtain(size: Size, dice: Random, *, base: float) -> Image.Image:
    """Return the brightness of one veil: rays above a line that winds across the sky."""
    width, height = max(8, min(512, size[0])), max(8, min(512, size[1]))
    fine, broad = clouds((width, 1), dice, (90, 2)), clouds((width, 1), dice, (22, 2))
    patches = clouds((width, 1), dice, (5, 2)).point([min(255, 40 + v) for v in range(256)])
    rays = ImageChops.multiply(Image.blend(fine, broad, 0.65), patches).resize((width, height))
    rays = rays.point([min(255, v * 1.5) for v in range(256)])
    fall = [round(255 * _veil(i / 63)) for i in range(64)]
    column = Image.new("L", (1, 64))
    column.putdata(fall)
    texture = ImageChops.multiply(rays, column.resize((width, height), Image.Resampling.BICUBIC))
    phases = [dice.uniform(0, 2 * math.pi) for _ in range(3)]
    swing = dice.uniform(0.05, 0.11)

    def drop(x: float) -> float:
        waves = (math.sin((k + 1) * 2.6 * x + phases[k]) / (k + 1) for k in range(3))
        return (base - 0.8 + swing * sum(waves)) * height

    strips = min(48, width)
    mesh = []
    for i in range(strips):
        left, right = i * width // strips, (i + 1) * width // strips
        at, to = drop(i / strips), drop((i + 1) / strips)
        quad = (left, -at, left, height - at, right, height - to, right, -to)
        mesh.append(((left, 0, right, height), quad))
    bent = texture.transform(
        (width, height), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR
    )
    return bent.resize(size, Image.Resampling.BICUBIC)


def _veil(place: float) -> float:
    """Return the brightness along a ray, 0.0 at its upper end and 1.0 at its foot."""
    if place > 0.8:
        return max(0.0, 1 - (place - 0.8) / 0.06)
    return math.pow(place / 0.8, 4)


def planet(size: Size, palette: Palette, dice: Random) -> Image.Image:
    """Paint a world in a cloud of stars."""
    width, height = size
    night = mix(palette[0], (2, 2, 12), 0.65)
    canvas = Image.new("RGB", size, night)
    for tone in (palette[1], palette[2], palette[1]):
        mist = clouds(size, dice, (4, 4))
        for cells, share in ((7, 0.42), (13, 0.22), (25, 0.1)):
            mist = Image.blend(mist, clouds(size, dice, (cells, cells)), share)
        canvas.paste(tone, (0, 0), mist.point([max(0, v - 100) * 1.3 for v in range(256)]))
    stars(canvas, dice, depth=1.0)
    centre = (width * dice.uniform(0.38, 0.62), height * dice.uniform(0.36, 0.5))
    orb = _Orb(centre, unit(size) * dice.uniform(0.2, 0.28), dice.uniform(-28, 28))
    glow(canvas, centre, orb.radius * 2.6, palette[3], 0.55)
    notify = dice.random() < 0.7
    if notify:
        _ring(canvas, palette, orb, front=False)
    _world(canvas, palette, orb, dice)
    if notify:
        _ring(canvas, palette, orb, front=True)
    across, above = dice.choice((-1.5, 1.6)), dice.uniform(0.7, 1)
    aside = (centre[0] + orb.radius * across, centre[1] - orb.radius * above)
    _world(canvas, palette, _Orb(aside, orb.radius * dice.uniform(0.1, 0.2), orb.tilt), dice)
    return canvas


class _Orb(NamedTuple):
    centre: Point
    radius: float
    tilt: float  # degrees, against the clock


def _world(canvas: Image.Image, palette: Palette, orb: _Orb, dice: Random) -> None:
    side = max(4, round(orb.radius * 2))
    square = (side, side)
    bands = clouds(square, dice, (2, dice.randrange(8, 14)))
    bands = Image.blend(bands, clouds(square, dice, (4, dice.randrange(18, 30))), 0.4)
    bands = bands.rotate(orb.tilt, Image.Resampling.BICUBIC, fillcolor=128)
    tones = [ramp(palette[1:], v / 255) for v in range(256)]
    skin = Image.merge("RGB", [bands.point([tone[k] for tone in tones]) for k in range(3)])
    # The sun stands to the upper left: the middle of this shade is there, its rim is night.
    shade = Image.radial_gradient("L").point([_night(v / 255) for v in range(256)])
    shade = shade.resize(square, Image.Resampling.BILINEAR, box=(54, 58, 246, 250))
    skin.paste(mix(palette[0], (0, 0, 8), 0.75), (0, 0), shade)
    middle = side * FINE / 2
    shape = stencil(square, lambda pen: disc(pen, (middle, middle), middle - 1, 255))
    x, y = orb.centre
    canvas.paste(skin, (round(x - side / 2), round(y - side / 2)), shape)


def _night(far: float) -> float:
    """Return the depth of shade, 0-255, at a distance of 0.0-1.0 from where the sun stands."""
    deep = min(1.0, max(0.0, (far - 0.12) / 0.62))
    return 242 * math.pow(deep, 1.3)


def _ring(canvas: Image.Image, palette: Palette, orb: _Orb, *, front: bool) -> None:
    radius = orb.radius
    half = max(4, round(radius * 2.3))
    start, end = (0, 180) if front else (180, 360)

    def paint(pen: Pen) -> None:
        for i, strength in enumerate((120, 200, 90, 170, 230, 60, 140)):
            outer = radius * (2.2 - 0.1 * i) * FINE
            x = y = half * FINE
            box = (x - outer, y - outer * 0.26, x + outer, y + outer * 0.26)
            pen.arc(box, start, end, strength, max(1, round(radius * 0.075 * FINE)))

    mask = stencil((half * 2, half * 2), paint).rotate(orb.tilt, Image.Resampling.BICUBIC)
    place = (round(orb.centre[0]) - half, round(orb.centre[1]) - half)
    canvas.paste(palette[5], place, mask)
