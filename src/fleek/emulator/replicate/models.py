"""The catalogue of models: a few that resemble real ones, and one for any other name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from fleek.emulator.clock import iso

CREATED: Final = iso(1_700_000_000)

PROMPT: Final = {"prompt": {"type": "string", "title": "Prompt", "description": "What to make"}}
SEED: Final = {"seed": {"type": "integer", "title": "Seed", "description": "Random seed"}}
FORMAT: Final = {"enum": ["png", "jpg", "webp"], "type": "string", "title": "Output Format"}
RATIO: Final = {"enum": ["1:1", "16:9", "9:16", "4:3"], "type": "string", "default": "1:1"}
URI: Final = {"type": "string", "format": "uri"}
URIS: Final = {"type": "array", "items": URI, "title": "Output"}
TOKENS: Final = {
    "type": "array",
    "items": {"type": "string"},
    "x-cog-array-type": "iterator",
    "x-cog-array-display": "concatenate",
    "title": "Output",
}


def _count(title: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": 10, "default": 1, "title": title}


@dataclass(frozen=True, slots=True)
class Model:
    """A model on Replicate, by `owner/name`."""

    name: str
    what: str
    inputs: Mapping[str, Any]  # JSON schema of each parameter
    output: Mapping[str, Any]  # JSON schema of the output
    shape: str = "list"  # see media.SHAPES
    extension: str = "png"
    official: bool = True  # whether it can be run without a version
    required: tuple[str, ...] = ("prompt",)
    tags: tuple[str, ...] = field(default=("text-to-image",))

    @property
    def version(self) -> str:
        """The id of its only version: 64 hexadecimal digits."""
        return sha256(f"version 1 of {self.name}".encode()).hexdigest()


OFFERED: Final = (
    Model(
        "black-forest-labs/flux-schnell",
        "A fast text-to-image model",
        PROMPT
        | SEED
        | {
            "num_outputs": _count("Num Outputs") | {"maximum": 4},
            "aspect_ratio": RATIO,
            "output_format": FORMAT | {"default": "webp"},
            "output_quality": {"type": "integer", "minimum": 0, "maximum": 100, "default": 80},
            "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 4, "default": 4},
        },
        URIS,
        extension="webp",
    ),
    Model(
        "black-forest-labs/flux-1.1-pro",
        "Text to one image",
        PROMPT | SEED | {"aspect_ratio": RATIO, "image_prompt": URI},
        URI,
        shape="string",
    ),
    Model(
        "stability-ai/sdxl",
        "A community model, run by version",
        PROMPT
        | SEED
        | {
            "image": URI,
            "negative_prompt": {"type": "string", "default": ""},
            "width": {"type": "integer", "default": 1024},
            "height": {"type": "integer", "default": 1024},
            "num_outputs": _count("Num Outputs") | {"maximum": 4},
        },
        URIS,
        official=False,
    ),
    Model(
        "meta/meta-llama-3-8b-instruct",
        "A language model",
        PROMPT | {"max_tokens": {"type": "integer", "default": 512}},
        TOKENS,
        shape="tokens",
        tags=("language",),
    ),
    Model(
        "meta/musicgen",
        "Text to music",
        PROMPT | {"duration": {"type": "integer", "default": 8}},
        URI,
        shape="string",
        extension="wav",
        official=False,
        tags=("audio",),
    ),
    Model(
        "minimax/video-01",
        "Text to video",
        PROMPT | {"first_frame_image": URI},
        URI,
        shape="string",
        extension="mp4",
        tags=("video",),
    ),
    Model(
        "nightmareai/real-esrgan",
        "Enlarges a picture; it has no prompt",
        {
            "image": URI,
            "scale": {"type": "number", "minimum": 0, "maximum": 10, "default": 4},
            "face_enhance": {"type": "boolean", "default": False},
        },
        URI,
        shape="string",
        required=("image",),
        tags=("upscaling",),
    ),
    Model(
        "openai/whisper",
        "Speech to text",
        {"audio": URI},
        {"type": "object", "title": "ModelOutput", "properties": {"text": {"type": "string"}}},
        shape="dict",
        official=False,
        required=("audio",),
        tags=("audio",),
    ),
)

BY_NAME: Final = {model.name: model for model in OFFERED}
BY_VERSION: Final = {model.version: model for model in OFFERED}


def any_model(name: str) -> Model:
    """Return a model for a name outside the catalogue: it accepts any input and makes PNGs."""
    return Model(name, "Any other model", PROMPT | SEED, URIS, required=())


def refusals(model: Model, values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the mistakes in an input, each as (field, type of mistake, description)."""
    wrong = [
        (name, "required", f"{name} is required") for name in model.required if name not in values
    ]
    for name, value in values.items():
        schema = model.inputs.get(name, {})
        if "enum" in schema and value not in schema["enum"]:
            allowed = ", ".join(f'"{choice}"' for choice in schema["enum"])
            wrong.append((name, "enum", f"{name} must be one of the following: {allowed}"))
        elif not _has_type(value, schema.get("type")):
            wrong.append((name, "invalid_type", f"Invalid type. Expected: {schema['type']}"))
        elif "maximum" in schema and value > schema["maximum"]:
            wrong.append(
                (name, "number_lte", f"Must be less than or equal to {schema['maximum']}")
            )
        elif "minimum" in schema and value < schema["minimum"]:
            wrong.append(
                (name, "number_gte", f"Must be greater than or equal to {schema['minimum']}")
            )
    return wrong


def _has_type(value: object, kind: str | None) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case _:
            return True


def describe(model: Model, base: str) -> dict[str, Any]:
    """Return a model as in the response to `GET /v1/models/{owner}/{name}`."""
    owner, _, name = model.name.partition("/")
    return {
        "url": f"{base}/{model.name}",
        "owner": owner,
        "name": name,
        "description": model.what,
        "visibility": "public",
        "is_official": model.official,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": describe_version(model),
    }


def describe_version(model: Model) -> dict[str, Any]:
    """Return a model's version, with the OpenAPI schema of its input and output."""
    parameters = {
        name: {"x-order": order, **schema}
        for order, (name, schema) in enumerate(model.inputs.items())
    }
    takes: dict[str, Any] = {"type": "object", "title": "Input", "properties": parameters}
    if model.required:
        takes["required"] = list(model.required)
    return {
        "id": model.version,
        "created_at": CREATED,
        "cog_version": "0.14.1",
        "openapi_schema": {
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "paths": {"/predictions": {"post": {"operationId": "predict_predictions_post"}}},
            "components": {"schemas": {"Input": takes, "Output": dict(model.output)}},
        },
    }
