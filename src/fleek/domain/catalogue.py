"""The catalogue: models under names of our own, and where each can be run.

A parameter of the common vocabulary means the same for every model; a route says what the model of
its provider calls it.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal

from fleek.domain.job import Kind, ModelName
from fleek.domain.values import dataclass

VOCABULARY: Final[Mapping[str, Mapping[str, Any]]] = {
    "width": {"type": "integer", "minimum": 1, "description": "In pixels."},
    "height": {"type": "integer", "minimum": 1, "description": "In pixels."},
    "aspect_ratio": {"type": "string", "description": "Such as 16:9."},
    "num_outputs": {"type": "integer", "minimum": 1, "description": "How many files to make."},
    "seed": {"type": "integer", "description": "The same seed gives the same result."},
    "negative_prompt": {"type": "string", "description": "What to leave out."},
    "image": {"type": "string", "format": "uri", "description": "The image to start from."},
    "mask": {"type": "string", "format": "uri", "description": "What to change of the image."},
    "strength": {"type": "number", "description": "How much to change of the image, 0-1."},
    "output_format": {"type": "string", "description": "Type of the file: png, jpeg, webp, mp3."},
    "duration_seconds": {"type": "number", "minimum": 0, "description": "Length of the result."},
    "voice": {"type": "string", "description": "Who speaks."},
}
"""The common parameters, each with the JSON schema of its values."""

FILES: Final = frozenset({"image", "mask"})
"""Common parameters that are never left out, whatever the caller allows."""

PROMPT: Final = "prompt"

STAND_IN: Final = "placeholder"
"""The provider that takes any name, and so stands in for models whose providers are not open."""

PROMPT_NOTE: Final = "x-prompt"
"""The member of a schema that says of a model that it can do without a prompt: ``optional``, or ``none``: it has none.

A schema without it is that of a model that needs one.
"""
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRoute:
    """A model of a provider that makes what a model of the catalogue stands for."""

    provider: str
    model: ModelName
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The model's name of each common parameter: ``name``, ``outer.inner`` or, in a list, ``name[]``."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Texts made of common parameters and the prompt, by the model's name: ``{width}x{height}``."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What the model calls some values of a common parameter."""
    fixed: Mapping[str, Any] = field(default_factory=dict)  # sent with each request
    verified: bool = True  # whether the name and the parameters were compared with the provider's

    @property
    def expresses(self) -> frozenset[str]:
        """The common parameters that have a meaning here."""
        inserted = (name for text in self.templates.values() for name in placeholders(text))
        return frozenset({*self.parameters, *inserted} - {PROMPT})

    @property
    def inserts_prompt(self) -> bool:
        """Whether a template needs the prompt."""
        return any(PROMPT in placeholders(text) for text in self.templates.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model under a name of our own."""

    name: ModelName
    kind: Kind
    description: str
    routes: tuple[CatalogueRoute, ...]  # in the order of preference
    aliases: tuple[str, ...] = ()
    prompt: Literal["none", "optional"] | None = None  # see `PROMPT_NOTE`; None: needed

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of the common parameters that some route expresses."""
        known = frozenset().union(*(route.expresses for route in self.routes))
        properties = {name: dict(VOCABULARY[name]) for name in VOCABULARY if name in known}
        note = {} if self.prompt is None else {PROMPT_NOTE: self.prompt}
        return {"type": "object", "properties": properties, **note}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models that have names of our own."""

    models: Mapping[str, CatalogueModel] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names, of any model

    def resolve(self, name: str) -> str:
        """Return what an alias stands for; any other name is returned as it is."""
        return self.aliases.get(name, name)

    def get(self, name: str) -> CatalogueModel | None:
        """Return the model of a name or alias; None: the name is a provider's."""
        return self.models.get(self.resolve(name))


def placeholders(template: str) -> list[str]:
    """Return the common parameters that a template inserts, and ``prompt`` if it does."""
    return [str(name) for name in _PLACEHOLDER.findall(template)]


def translate(
    route: CatalogueRoute, given: Mapping[str, Any], *, prompt: str = ""
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return parameters as the model of a route takes them, and those that it cannot express.

    Only common parameters are translated. Others are the model's own and stay as they are.
    """
    translated: dict[str, Any] = {}
    inserted = _filled(route, {**given, PROMPT: prompt})
    used = {name for template in inserted for name in placeholders(route.templates[template])}
    missing: list[str] = []
    for name, value in given.items():
        if name in route.parameters:
            _put(translated, route.parameters[name], _renamed(route, name, value))
        elif name not in VOCABULARY:
            translated[name] = value
        elif name not in used:
            missing.append(name)
    for target, text in {**inserted, **route.fixed}.items():
        _put(translated, target, text)
    return translated, tuple(missing)


def _filled(route: CatalogueRoute, given: Mapping[str, Any]) -> dict[str, str]:
    """Return the templates whose parameters were all given, filled in."""
    return {
        target: _PLACEHOLDER.sub(lambda found: _text(given[found[1]]), template)
        for target, template in route.templates.items()
        if given.keys() >= set(placeholders(template))
    }


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _renamed(route: CatalogueRoute, name: str, value: Any) -> Any:
    known = route.values.get(name, {})
    return known.get(value, value) if isinstance(value, str) else value


def _put(parameters: dict[str, Any], target: str, value: Any) -> None:
    """Set the parameter that `target` names; see `CatalogueRoute.parameters`."""
    *outer, last = target.split(".")
    for name in outer:
        parameters = parameters.setdefault(name, {})
    if last.endswith("[]"):
        last, value = last[:-2], value if isinstance(value, list) else [value]
    parameters[last] = value
