"""Text: a few verses about a prompt."""

from random import Random
from typing import Final

from fleek.providers.placeholder.picture import flat
from fleek.providers.placeholder.spec import OutputSpec, clean

_WHEN: Final = (
    "At dawn", "By noon", "At dusk", "In winter", "Past midnight", "In early spring",
    "When it rains", "On a Sunday", "Long ago", "Before the storm",
)  # fmt: skip
_WHO: Final = (
    "the river", "a lantern", "the old harbour", "a paper boat", "the north wind", "a lighthouse",
    "the quiet street", "a flock of starlings", "the moon", "a bell tower", "the tide", "a fox",
)  # fmt: skip
_DOES: Final = (
    "remembers", "waits for", "drifts towards", "sings to", "folds away", "borrows", "looks after",
    "paints over", "listens to", "carries", "dreams of", "counts",
)  # fmt: skip
_WHAT: Final = (
    "the last light", "a slow blue song", "the edge of the map", "every open window",
    "a handful of stars", "the names of the hills", "an unsent letter", "the colour of rain",
    "the far side of the lake", "a road without end", "the first snow", "all that we left",
)  # fmt: skip
_CLOSE: Final = (
    "and nobody asks why.", "and the hour is kind.", "and the page stays warm.",
    "and something begins.", "and that is enough.", "and the door stays open.",
    "and the night lets it pass.", "and the picture is done.",
)  # fmt: skip


def make(spec: OutputSpec) -> bytes:
    """Return verses about the prompt, as UTF-8."""
    dice = spec.dice("verse")
    verses = [_verse(dice) for _ in range(spec.whole("verses", 3))]
    record = spec.record
    about = [f"{key}: {flat(value)}" for key, value in record.items() if key != "Prompt"]
    # A fixed first word, so that no prompt can make the file look like HTML or a program.
    title = f"Verses on “{flat(clean(spec.prompt))}”"
    return "\n\n".join([title, *verses, "\n".join(["---", *about])]).encode() + b"\n"


def _verse(dice: Random) -> str:
    who = dice.sample(_WHO, 2)
    does = dice.sample(_DOES, 3)
    what = dice.sample(_WHAT, 3)
    lines = (
        f"{dice.choice(_WHEN)} {who[0]} {does[0]} {what[0]},",
        f"{who[1]} {does[1]} {what[1]};",
        f"it {does[2]} {what[2]}",
        dice.choice(_CLOSE),
    )
    return "\n".join(lines)
