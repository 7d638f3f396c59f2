"""A given picture that shows through the painted one."""

import io
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from fleek.providers.placeholder.spec import OutputSpec

MAX_PIXELS: Final = 50_000_000
FORMS: Final = ("PNG", "JPEG", "WEBP", "GIF")


def is_readable(path: Path) -> bool:
    """Whether a file is a picture of a usual form and size; decodes it."""
    try:
        with Image.open(path, formats=FORMS) as image:
            if image.width * image.height > MAX_PIXELS:
                return False
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # as Pillow raises
        return False
    return True


def over_input(painted: Image.Image, spec: OutputSpec) -> Image.Image:
    """Return the painting over the picture in `image`, where `mask`, if there is one, is white."""
    content = spec.files.get("/image")
    if content is None:
        return painted
    given = _fitted(content, painted.size).convert("RGB")
    strengths = (spec.parameters.get(name) for name in ("prompt_strength", "strength"))
    strength = next((float(each) for each in strengths if each is not None), 0.5)
    mixed = Image.blend(given, painted, strength)
    if (mask := spec.files.get("/mask")) is None:
        return mixed
    return Image.composite(mixed, given, _fitted(mask, painted.size).convert("L"))


def _fitted(content: bytes, size: tuple[int, int]) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=FORMS) as image:
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    below = Image.new("RGBA", upright.size, (255, 255, 255, 255))
    return ImageOps.fit(Image.alpha_composite(below, upright), size)
