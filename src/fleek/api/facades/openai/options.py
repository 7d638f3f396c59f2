"""Parameters of OpenAI's API as a model takes them: translated, ignored and said so, or refused."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import Any, Final

from fleek.api.facades.models import COUNTS, by_preference
from fleek.api.facades.openai.errors import refused, unknown_model
from fleek.domain.errors import NotFound
from fleek.domain.job import MODEL_NAME, ModelName
from fleek.domain.values import dataclass
from fleek.engine.routes import split_provider
from fleek.engine.runtime import Runtime
from fleek.providers.base import Schema

SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
RATIO: Final = re.compile(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,2})")
RATIOS: Final = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
CLOSE: Final = 0.03  # of a ratio that counts as the same: 1792x1024 is 16:9

IMAGES: Final = (
    *("image", "images", "input_image", "input_images", "image_input", "image_url", "image_urls"),
    *("image_prompt", "first_frame_image", "start_image", "init_image", "reference_images"),
)
NAMES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "n": ("num_outputs", COUNTS),
    "output_format": ("output_format", ("output_format", "format")),
    "output_compression": ("", ("output_compression", "output_quality")),
    "image": ("image", IMAGES),
    "mask": ("mask", ("mask", "mask_image", "mask_url")),
    "input_reference": ("image", ("input_reference", *IMAGES)),
    "seconds": ("duration_seconds", ("seconds", "duration", "duration_seconds", "video_length")),
    "voice": ("voice", ("voice", "voice_id", "speaker")),
    "response_format": ("output_format", ("response_format", "output_format", "format")),
}
"""What models call a parameter: in the catalogue, and by themselves."""

NEEDED: Final = frozenset({"image", "mask", "input_reference"})
"""Parameters without which another thing would be made."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model, and what it takes."""

    name: ModelName
    provider: str | None  # None: by the catalogue
    common: Mapping[str, str]  # names of the catalogue, each with the model's own where it has one
    own: (
        Mapping[str, Any] | None
    )  # its own parameters, each with its schema; None: it checks itself

    def called(self, name: str) -> str | None:
        """Return what the model calls one of OpenAI's parameters; None: it has none like it."""
        common, names = NAMES.get(name, ("", (name,)))
        if common in self.common:
            return common
        if self.own is None:
            return name
        return next((each for each in names if each in self.own), None)

    def has(self, *names: str) -> bool:
        """Whether the model has all of these parameters, by either name."""
        return {*names} <= {*self.common, *(self.own or ())}

    def schema(self, name: str) -> Mapping[str, Any]:
        """Return the schema of a parameter, by either name; empty: unknown."""
        found = (self.own or {}).get(self.common.get(name, name))
        return found if isinstance(found, Mapping) else {}


@dataclass(slots=True)
class Translated:
    """The parameters of a job, and what has become of the others."""

    parameters: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    adjusted: list[str] = field(default_factory=list)

    def headers(self) -> dict[str, str]:
        """Return the headers that say so."""
        lists = {"X-Fleek-Ignored": self.ignored, "X-Fleek-Adjusted": self.adjusted}
        return {name: ", ".join(sorted(values)) for name, values in lists.items() if values}


async def find_target(rt: Runtime, asked: str) -> Target:
    """Return the model of a name: an alias, one of the catalogue, or a provider's own.

    Raises:
        InvalidInput: There is no such model.
        ProviderError: What it takes is unknown now.
    """
    resolved = rt.catalogue.resolve(asked)
    entry = rt.catalogue.models.get(resolved)
    for route in () if entry is None else entry.routes:
        if route.provider in rt.providers:
            schema = await rt.providers[route.provider].schema(route.model)
            common = dict.fromkeys(route.expresses, "") | dict(route.parameters)
            return Target(ModelName(resolved), None, common, _properties(schema))
    named, own = split_provider(resolved)
    if MODEL_NAME.fullmatch(own) is None or (named is not None and named not in rt.providers):
        raise unknown_model(asked)
    for provider in by_preference(rt) if named is None else [named]:
        with suppress(NotFound):
            schema = await rt.providers[provider].schema(ModelName(own))
            return Target(ModelName(own), provider, {}, _properties(schema))
    raise unknown_model(asked)


def _properties(schema: Schema | None) -> Mapping[str, Any] | None:
    properties: Any = None if schema is None else schema.get("properties")
    return properties if isinstance(properties, dict) else None


def translate(
    target: Target, given: Mapping[str, Any], *, options: Iterable[str] = ()
) -> Translated:
    """Return OpenAI's parameters as a model takes them. Those that are None were not given.

    Args:
        target: The model.
        given: The parameters, and further ones by the model's own names.
        options: OpenAI's parameters without which a model can do; others must be known to it.

    Raises:
        InvalidInput: A parameter is not valid, or the model has none like it.
    """
    done, known = Translated(), frozenset(options)
    for name, value in given.items():
        if value is None:
            continue
        if name == "size":
            _put_size(target, value, done)
        elif name == "n":
            _put_count(target, value, done)
        elif (called := target.called(name)) is not None:
            done.parameters[called] = _fitting(target, name, called, value)
        elif name in NEEDED:
            raise refused(name, f"{target.name} takes none", code="unsupported_parameter")
        elif name in known:
            done.ignored.append(name)
        else:
            raise refused(name, f"is no parameter of {target.name}", code="unknown_parameter")
    return done


def _put_count(target: Target, value: Any, done: Translated) -> None:
    count = _whole(value)
    if count is None or not 1 <= count <= 10:
        raise refused("n", "must be a whole number from 1 to 10")
    called = target.called("n")
    if called is not None:
        done.parameters[called] = count
    elif count > 1:
        raise refused("n", f"{target.name} makes one output per request; send {count} requests")


def _put_size(target: Target, value: Any, done: Translated) -> None:
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None and value != "auto":
        raise refused("size", "must be WIDTHxHEIGHT, such as 1024x1024, or auto")
    if target.called("size") is not None and not (found and target.has("width", "height")):
        done.parameters["size"] = value
        return
    if found is None:
        return
    width, height = int(found[1]), int(found[2])
    if target.has("width", "height"):
        done.parameters |= {"width": width, "height": height}
    elif target.has("image_size"):
        done.parameters["image_size"] = {"width": width, "height": height}
    elif target.has("aspect_ratio"):
        ratio, is_close = _ratio(target.schema("aspect_ratio"), width / height)
        done.parameters["aspect_ratio"] = ratio
        if not is_close:
            done.adjusted.append(f"size={value} to aspect_ratio={ratio}")
    else:
        done.ignored.append("size")


def _ratio(schema: Mapping[str, Any], wanted: float) -> tuple[str, bool]:
    """Return the nearest ratio that a model knows, and whether it is as good as the same."""
    choices = schema.get("enum") or RATIOS
    known = [each for each in choices if isinstance(each, str) and RATIO.fullmatch(each)]
    errors = {each: abs(math.log(_quotient(each) / wanted)) for each in known or RATIOS}
    nearest = min(errors, key=lambda each: errors[each])
    return nearest, errors[nearest] < CLOSE


def _quotient(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)


def _fitting(target: Target, name: str, called: str, value: Any) -> Any:
    """Return a value in the type that the parameter has: fields of a form are texts."""
    schema = target.schema(called)
    if name in NEEDED:
        return _files(target, name, schema, value, is_common=called in target.common)
    if name == "seconds" and called in target.common and not schema:
        return _number(value)
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        other = {"jpeg": "jpg", "jpg": "jpeg"}.get(value) if isinstance(value, str) else None
        same = [each for each in choices if str(each) == str(value)]
        return next(iter(same), other if other in choices else value)
    return _typed(schema, value)


def _files(
    target: Target, name: str, schema: Mapping[str, Any], value: Any, *, is_common: bool
) -> Any:
    """Return a file, or a list of them where the parameter takes one."""
    files: Sequence[Any] = value if isinstance(value, list) else [value]
    options = schema.get("anyOf") or [schema]
    kinds = {option.get("type") for option in options if isinstance(option, Mapping)}
    if len(files) == 1 and kinds != {"array"}:
        return files[0]
    if is_common or target.own is None or "array" in kinds:
        return list(files)
    raise refused(name, f"{target.name} takes one file")


def _typed(schema: Mapping[str, Any], value: Any) -> Any:
    kind = schema.get("type")
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return value
    if kind in {"integer", "number"}:
        return _number(value)
    if kind == "boolean" and value in {"true", "false"}:
        return value == "true"
    return value


def _number(value: Any) -> Any:
    """Return a number for a text that is one; anything else is for the model to refuse."""
    if not isinstance(value, str) or re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value) is None:
        return value
    return float(value) if "." in value else int(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return number if isinstance(number, int) and not isinstance(number, bool) else None
