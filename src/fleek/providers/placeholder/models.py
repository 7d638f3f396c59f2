"""The placeholder's models: what each is called, accepts and makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

from fleek.domain.errors import NotFound, ProviderRejected
from fleek.domain.job import ModelName
from fleek.domain.request import MODEL_NAME
from fleek.providers.base import Model, Schema
from fleek.providers.placeholder import parameters
from fleek.providers.placeholder.spec import Piece

PICTURE: Final = ModelName("fleek/placeholder")


@dataclass(frozen=True, slots=True)
class _Kind:
    model: Model
    validator: Draft202012Validator
    maker: str  # the module that makes it; loaded, with Pillow, when the first is made


def _kind(name: str, output: str, description: str, schema: Schema, maker: str) -> _Kind:
    model = Model(name=ModelName(name), description=description, schema=schema, output=output)
    return _Kind(model, Draft202012Validator(dict(schema)), maker)


_KINDS: Final[Mapping[str, _Kind]] = {
    kind.model.name: kind
    for kind in (
        _kind(
            PICTURE,
            "image",
            "Generative art in many styles, with the prompt as its caption. "
            "Stands in for every model that the placeholder does not have.",
            parameters.picture(parameters.STYLES),
            "fleek.providers.placeholder.picture",
        ),
        _kind(
            "fleek/placeholder-animation",
            "animation",
            "A sea in motion that starts over without a seam, as WebP or GIF.",
            parameters.ANIMATION,
            "fleek.providers.placeholder.animation",
        ),
        _kind(
            "fleek/placeholder-audio",
            "audio",
            "A short melody of plucked strings, as WAV.",
            parameters.AUDIO,
            "fleek.providers.placeholder.sound",
        ),
        _kind(
            "fleek/placeholder-text",
            "text",
            "A few verses about the prompt, as plain text in UTF-8.",
            parameters.TEXT,
            "fleek.providers.placeholder.text",
        ),
    )
}

CATALOGUE: Final = tuple(kind.model for kind in _KINDS.values())


def schema(model: ModelName) -> Schema:
    """Return the schema of a model's parameters.

    Raises:
        NotFound: The name is not well-formed.
    """
    return _named(model).model.schema or {}


def check(model: ModelName, given: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return how many outputs these parameters ask for, and the seed if they name one.

    Raises:
        ProviderRejected: The model's name or its parameters are not acceptable.
    """
    try:
        kind = _named(model)
    except NotFound as error:
        raise ProviderRejected(str(error)) from error
    for problem in kind.validator.iter_errors(dict(given)):
        place = "/".join(map(str, problem.instance_path)) or "parameters"
        raise ProviderRejected(f"{place}: not acceptable to {kind.model.name}")
    seed = given.get("seed")
    return int(given.get("num_outputs", 1)), None if seed is None else int(seed)


def make(piece: Piece) -> bytes:
    """Return the file of one output; takes a thread for up to a few seconds."""
    made: bytes = import_module(_named(piece.model).maker).make(piece)
    return made


def _named(model: ModelName) -> _Kind:
    if MODEL_NAME.fullmatch(model) is None:
        raise NotFound(f"no such model: {model[:100]!r}; it must be owner/name[:version]")
    return _KINDS.get(model.partition(":")[0], _KINDS[PICTURE])
