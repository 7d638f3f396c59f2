"""Colours that go together."""

from collections.abc import Sequence
from random import Random
from typing import Final

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
