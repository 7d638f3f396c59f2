"""The placeholder's models: names, JSON schemas of their parameters, and kinds of output."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from jsonschema_rs import Draft202012Validator

from fleek.domain.errors import InputUnusable, NotFound, ProviderRejected
from fleek.domain.job import MODEL_NAME, ModelName
from fleek.domain.values import dataclass
from fleek.providers.base import InputFile, Model, Schema
from fleek.providers.placeholder.prediction import MAX_OUTPUTS, MAX_SEED
from fleek.providers.placeholder.spec import OutputSpec

ASPECT_RATIOS: Final = (
    "1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3",
    "5:4", "4:5", "2:1", "1:2", "21:9", "9:21",
)  # fmt: skip

STYLES: Final = (
    "dusk", "aurora", "planet", "glass", "tiles", "flow", "bloom", "papercut", "mesh",
)  # fmt: skip
"""The styles of pictures, painted by `fleek.providers.placeholder.art`."""


def _integer(low: int, high: int, description: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": low,
        "maximum": high,
        "description": description,
        **more,
    }


def _number(low: float, high: float, description: str, **more: Any) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, "description": description, **more}


def _word(description: str, *, longest: int = 100) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest, "description": description}


def _choice(choices: tuple[str, ...], description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "enum": list(choices), "description": description, **more}


def _flag(description: str, *, default: bool = False) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": description}


def _schema(title: str, properties: Mapping[str, Mapping[str, Any]]) -> Schema:
    named = {
        key: {"title": key.replace("_", " ").capitalize(), **value}
        for key, value in properties.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": named,
        "additionalProperties": False,
    }


_SEED: Final = _integer(
    0, MAX_SEED, "The same prompt, parameters and seed give the same result. Default: drawn."
)
_CAPTION: Final = _flag("Whether the prompt is written on the picture.", default=True)
_VARIES: Final = "Varies the picture."

_DIFFUSION: Final[Mapping[str, Mapping[str, Any]]] = {
    "negative_prompt": _word("What other models leave out. " + _VARIES, longest=5000),
    "guidance_scale": _number(0, 50, "How closely other models keep to the prompt. " + _VARIES),
    "guidance": _number(0, 50, "The same, as some models call it. " + _VARIES),
    "num_inference_steps": _integer(1, 500, "How many steps other models take. " + _VARIES),
    "steps": _integer(1, 500, "The same, as some models call it. " + _VARIES),
    "scheduler": _word("How other models step. " + _VARIES),
    "image": _word(
        "A picture to start from; it shows through. Other words: varies.", longest=2048
    ),
    "mask": _word("White: painted; black: the picture stays.", longest=2048),
    "prompt_strength": _number(0, 1, "How far that picture is painted over; default 0.5."),
    "strength": _number(0, 1, "The same, as some models call it."),
    "lora_weights": _word("Fine-tuned weights of other models. " + _VARIES, longest=500),
    "lora_scale": _number(-10, 10, "How much those weights count. " + _VARIES),
    "extra_lora": _word("More such weights. " + _VARIES, longest=500),
    "extra_lora_scale": _number(-10, 10, "How much those count. " + _VARIES),
    "refine": _word("How other models refine. " + _VARIES),
    "refine_steps": _integer(1, 500, "How many steps they refine. " + _VARIES),
    "high_noise_frac": _number(0, 1, "Where they begin to refine. " + _VARIES),
    "prompt_upsampling": _flag("Whether other models rewrite the prompt. " + _VARIES),
    "safety_tolerance": _integer(1, 6, "How much other models let pass. " + _VARIES),
    "apply_watermark": _flag("Whether other models mark the picture. " + _VARIES),
    "raw": _flag("Whether other models process less. " + _VARIES),
    "go_fast": _flag("Whether other models hurry. " + _VARIES),
    "disable_safety_checker": _flag("Accepted; there is nothing to check."),
}


def picture(styles: tuple[str, ...]) -> Schema:
    """Return the schema of a model that makes pictures in the given styles."""
    return _schema(
        "Picture",
        {
            "width": _integer(16, 4096, "Pixels; default 1024, or by aspect_ratio."),
            "height": _integer(16, 4096, "Pixels; default 1024, or by aspect_ratio."),
            "aspect_ratio": _choice(
                (*ASPECT_RATIOS, "custom"),
                "Shape of the picture where width or height is missing.",
                default="1:1",
            ),
            "megapixels": _choice(
                ("0.25", "1", "2", "4"), "Size of the picture for aspect_ratio.", default="1"
            ),
            "num_outputs": _integer(
                1, MAX_OUTPUTS, "How many pictures, each with the next seed.", default=1
            ),
            "output_format": _choice(
                ("png", "jpeg", "jpg", "webp"), "File format.", default="png"
            ),
            "output_quality": _integer(0, 100, "Of jpeg and webp, 100 is best.", default=90),
            "seed": _SEED,
            "style": _word(f"One of {', '.join(styles)}; any other word varies the picture."),
            "caption": _CAPTION,
            **_DIFFUSION,
        },
    )


ANIMATION: Final = _schema(
    "Animation",
    {
        "width": _integer(16, 768, "Pixels.", default=512),
        "height": _integer(16, 768, "Pixels.", default=288),
        "frames": _integer(2, 60, "How many frames until it starts over.", default=24),
        "fps": _integer(1, 30, "Frames per second.", default=12),
        "output_format": _choice(("webp", "gif"), "File format.", default="webp"),
        "seed": _SEED,
        "caption": _CAPTION,
    },
)

AUDIO: Final = _schema(
    "Audio",
    {
        "duration": _number(1, 30, "Seconds.", default=6),
        "tempo": _integer(40, 200, "Beats per minute.", default=100),
        "output_format": _choice(("wav",), "File format.", default="wav"),
        "seed": _SEED,
    },
)

TEXT: Final = _schema(
    "Text",
    {
        "verses": _integer(1, 20, "How many verses of four lines.", default=3),
        "output_format": _choice(("txt",), "File format.", default="txt"),
        "seed": _SEED,
    },
)


PICTURE: Final = ModelName("fleek/placeholder")


@dataclass(frozen=True, slots=True)
class _Kind:
    model: Model
    validator: Draft202012Validator
    maker: str  # the module that makes it; loaded, with Pillow, on first use


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
            picture(STYLES),
            "fleek.providers.placeholder.picture",
        ),
        _kind(
            "fleek/placeholder-animation",
            "animation",
            "A sea in motion that starts over without a seam, as WebP or GIF.",
            ANIMATION,
            "fleek.providers.placeholder.animation",
        ),
        _kind(
            "fleek/placeholder-audio",
            "audio",
            "A short melody of plucked strings, as WAV.",
            AUDIO,
            "fleek.providers.placeholder.sound",
        ),
        _kind(
            "fleek/placeholder-text",
            "text",
            "A few verses about the prompt, as plain text in UTF-8.",
            TEXT,
            "fleek.providers.placeholder.text",
        ),
    )
}

CATALOGUE: Final = tuple(kind.model for kind in _KINDS.values())


def schema(model: ModelName) -> Schema:
    """Return the schema of a model's parameters.

    Raises:
        NotFound: The name is malformed.
    """
    return _named(model).model.schema or {}


def check_file(file: InputFile) -> None:
    """Make sure that a media input is a picture that can be painted over; blocks.

    Raises:
        InputUnusable: It is none.
    """
    from fleek.providers.placeholder.over import is_readable  # noqa: PLC0415 - loads Pillow

    if not is_readable(file.path):
        message = f"the placeholder takes pictures only, and this file is {file.content_type}"
        raise InputUnusable(message, code="input_unsupported")


def check(model: ModelName, given: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return the number of outputs and the seed that the parameters request; None: no seed.

    Raises:
        ProviderRejected: The model's name or the parameters are not valid.
    """
    try:
        kind = _named(model)
    except NotFound as error:
        raise ProviderRejected(str(error)) from error
    for problem in kind.validator.iter_errors(dict(given)):
        place = "/".join(map(str, problem.instance_path)) or "parameters"
        raise ProviderRejected(f"{place}: is not valid for {kind.model.name}")
    seed = given.get("seed")
    return int(given.get("num_outputs", 1)), None if seed is None else int(seed)


def make(spec: OutputSpec) -> bytes:
    """Return the file of one output; blocks for up to a few seconds."""
    made: bytes = import_module(_named(spec.model).maker).make(spec)
    return made


def _named(model: ModelName) -> _Kind:
    if MODEL_NAME.fullmatch(model) is None:
        raise NotFound(f"no such model: {model[:100]!r}; it must be owner/name[:version]")
    return _KINDS.get(model.partition(":")[0], _KINDS[PICTURE])
