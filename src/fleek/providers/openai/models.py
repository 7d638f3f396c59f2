"""The models of an account or a server, by kind, and the parameters of each kind."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

from fleek.domain.job import ModelName
from fleek.providers.base import Model, Schema

Kind = Literal["image", "speech", "video"]
KINDS: Final = frozenset(get_args(Kind))

SIZE: Final = {"type": "string", "pattern": r"^(auto|[0-9]{1,5}x[0-9]{1,5})$"}
FILE: Final = {"type": "string", "format": "uri"}
WHOLE: Final = {"const": False, "description": "results are stored as a whole"}
SCHEMAS: Final[Mapping[Kind, Schema]] = {
    "image": {
        "type": "object",
        "properties": {
            "size": SIZE,
            "n": {"type": "integer", "minimum": 1, "maximum": 10},
            "quality": {"type": "string"},
            "background": {"type": "string"},
            "output_format": {"enum": ["png", "jpeg", "webp"]},
            "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
            "moderation": {"type": "string"},
            "image": {"anyOf": [FILE, {"type": "array", "items": FILE, "minItems": 1}]},
            "mask": FILE,
            "mask_image": FILE | {"description": "what vLLM-Omni calls the mask"},
            "reference_image": FILE | {"description": "of vLLM-Omni"},
            "stream": WHOLE,
        },
    },
    "speech": {
        "type": "object",
        "properties": {
            "voice": {"type": "string"},
            "instructions": {"type": "string"},
            "ref_audio": FILE,
            "speed": {"type": "number", "minimum": 0.25, "maximum": 4},
            "response_format": {"enum": ["mp3", "opus", "aac", "flac", "wav", "pcm"]},
            "stream": WHOLE,
            "stream_format": {"const": "audio"},
        },
    },
    "video": {
        "type": "object",
        "properties": {
            "size": SIZE,
            "input_reference": FILE,
            "seconds": {
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "string", "pattern": "^[1-9][0-9]{0,4}$"},
                ]
            },
        },
    },
}
"""What the servers have in common. Each accepts more, and refuses by itself what it does not know."""

OUTPUTS: Final[Mapping[Kind, str]] = {"image": "image", "speech": "audio", "video": "video"}

_NAMED_BYTES: Final = ("gpt-image", "chatgpt-image")


def read_models(entries: Iterable[str]) -> Mapping[ModelName, Kind]:
    """Return the kind of each model, from entries such as ``image:NAME``."""
    models: dict[ModelName, Kind] = {}
    for entry in entries:
        given, _, name = entry.partition(":")
        kind: Kind = given  # type: ignore[assignment]  # checked with the settings
        models.setdefault(ModelName(name), kind)
    return models


def described(models: Mapping[ModelName, Kind]) -> list[Model]:
    """Return the models as they are listed."""
    return [
        Model(name=name, description=f"Makes {kind}", schema=SCHEMAS[kind], output=OUTPUTS[kind])
        for name, kind in models.items()
    ]


def request_body(
    kind: Kind, model: ModelName, prompt: str, given: Mapping[str, Any], *, voice: str | None
) -> dict[str, Any]:
    """Return the fields of a request.

    The bytes of images are requested, as addresses expire, and a server may have no place for
    files. GPT Image models return bytes in any case, and know no such parameter.
    """
    if kind == "speech":
        spoken = {} if voice is None else {"voice": voice}
        return {**spoken, **given, "model": model, "input": prompt}
    body = {**given, "model": model, "prompt": prompt}
    bare = model.rpartition("/")[2]
    if kind == "image" and not bare.startswith(_NAMED_BYTES):
        body.setdefault("response_format", "b64_json")
    return body
