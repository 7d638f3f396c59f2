"""What a request asks for: fal's common arguments become parameters as the model calls them."""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from fleek.api.facades.models import count_parameter
from fleek.domain.inputs import texts_of, with_values
from fleek.domain.values import dataclass
from fleek.providers.base import Schema

SIZES: Final[Mapping[str, tuple[int, int, str]]] = {
    "square_hd": (1024, 1024, "1:1"),
    "square": (512, 512, "1:1"),
    "portrait_4_3": (768, 1024, "3:4"),
    "portrait_16_9": (576, 1024, "9:16"),
    "landscape_4_3": (1024, 768, "4:3"),
    "landscape_16_9": (1024, 576, "16:9"),
}
PICTURES: Final = ("image", "input_image", "image_prompt", "first_frame_image", "start_image")
LISTS: Final = ("images", "image_input", "input_images")
IGNORED: Final = (
    "sync_mode",
    "enable_safety_checker",
    "acceleration",
    "enable_output_safety_checker",
)
"""What most of fal's models take and others lack: accepted, and named in `X-Fleek-Ignored`."""

ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(slots=True)
class Translation:
    """The parameters of a job, and what was left out."""

    parameters: dict[str, Any]
    ignored: list[str] = field(default_factory=list)


def translate(arguments: Mapping[str, Any], schema: Schema | None, *, files: str) -> Translation:
    """Return the parameters that arguments, without the prompt, stand for.

    What the model has under the same name stays, and so does what is not known here: the model's schema
    decides. `files`: what the addresses of uploaded files begin with.
    """
    made = Translation(dict(arguments))
    known = _known(schema)
    if known is not None:
        _rename_count(made, known, schema)
        _resize(made, known)
        _rename(made, known, "image_url", PICTURES)
        _rename(made, known, "image_urls", LISTS)
        _rename(made, known, "mask_url", ("mask", "mask_image"))
        for name in IGNORED:
            if name in made.parameters and name not in known:
                del made.parameters[name]
                made.ignored.append(name)
    made.parameters = _with_uploads(made.parameters, files)
    return made


def _known(schema: Schema | None) -> Mapping[str, Any] | None:
    properties: Any = None if schema is None else schema.get("properties")
    return properties if isinstance(properties, Mapping) and properties else None


def _rename_count(made: Translation, known: Mapping[str, Any], schema: Schema | None) -> None:
    value = made.parameters.get("num_images")
    if value is None or "num_images" in known:
        return
    theirs = None if schema is None else count_parameter(schema)
    if theirs is not None or value == 1:
        del made.parameters["num_images"]
    if theirs is not None:
        made.parameters[theirs] = value


def _resize(made: Translation, known: Mapping[str, Any]) -> None:
    """Translate ``image_size``: a name, or a width and a height."""
    size = made.parameters.get("image_size")
    if size is None or "image_size" in known:
        return
    if isinstance(size, str) and size in SIZES:
        width, height, ratio = SIZES[size]
    elif isinstance(size, Mapping) and size.keys() == {"width", "height"}:
        width, height, ratio = size["width"], size["height"], ""
    else:
        return
    if {"width", "height"} <= known.keys():
        made.parameters |= {"width": width, "height": height}
    elif "size" in known:
        made.parameters["size"] = f"{width}x{height}"
    elif "aspect_ratio" in known and ratio:
        made.parameters["aspect_ratio"] = ratio
    else:
        return
    del made.parameters["image_size"]


def _rename(
    made: Translation, known: Mapping[str, Any], name: str, others: tuple[str, ...]
) -> None:
    if name not in made.parameters or name in known:
        return
    theirs = next((other for other in others if other in known), None)
    if theirs is not None:
        made.parameters[theirs] = made.parameters.pop(name)


def _with_uploads(parameters: dict[str, Any], files: str) -> dict[str, Any]:
    ours = re.compile(rf"{re.escape(files)}({ID})", re.IGNORECASE)
    found = {
        pointer: f"upload:{match[1]}"
        for pointer, text in texts_of(parameters).items()
        if (match := ours.fullmatch(text)) is not None
    }
    return with_values(parameters, found) if found else parameters
