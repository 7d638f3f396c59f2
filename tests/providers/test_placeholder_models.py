"""Parameters and names of the placeholder's models."""

from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from fleek.domain.errors import NotFound
from fleek.domain.job import MODEL_NAME, ModelName
from fleek.providers.base import Schema
from fleek.providers.placeholder import models

DIFFUSION = {
    "width": 1024,
    "height": 768,
    "num_outputs": 4,
    "aspect_ratio": "16:9",
    "output_format": "jpg",
    "output_quality": 80,
    "negative_prompt": "blurry, dogs",
    "guidance_scale": 7.5,
    "guidance": 3.5,
    "num_inference_steps": 28,
    "scheduler": "K_EULER",
    "seed": 4_294_967_295,
    "go_fast": True,
    "prompt_strength": 0.8,
    "megapixels": "1",
    "lora_scale": 0.6,
    "style": "photographic",
    "disable_safety_checker": False,
}


def schema_of(kind: str) -> Schema:
    """Return the schema of one of the placeholder's own models, or of "picture"."""
    name = "fleek/placeholder" if kind == "picture" else f"fleek/placeholder-{kind}"
    return models.schema(ModelName(name))


def accepts(kind: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether the model accepts these parameters."""
    return Draft202012Validator(dict(schema_of(kind))).is_valid(dict(parameters))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("picture", {}),
        ("picture", DIFFUSION),
        ("picture", {"width": 16, "height": 4096}),
        ("picture", {"width": 64.0}),
        ("animation", {"width": 768, "height": 16, "frames": 60, "fps": 30}),
        ("audio", {"duration": 30, "tempo": 200}),
        ("text", {"verses": 20, "seed": 0}),
    ],
)
def test_common_parameters_are_accepted(kind: str, parameters: Mapping[str, Any]) -> None:
    """A client written for a real model works unchanged."""
    assert accepts(kind, parameters)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("picture", {"colour": "red"}),
        ("picture", {"prompt": "A cat"}),
        ("picture", {"width": 15}),
        ("picture", {"height": 4097}),
        ("picture", {"width": "64"}),
        ("picture", {"width": 64.5}),
        ("picture", {"width": None}),
        ("picture", {"width": True}),
        ("picture", {"num_outputs": 0}),
        ("picture", {"num_outputs": 5}),
        ("picture", {"output_format": "gif"}),
        ("picture", {"output_quality": 101}),
        ("picture", {"seed": -1}),
        ("picture", {"seed": 2**32}),
        ("picture", {"guidance_scale": 51}),
        ("picture", {"num_inference_steps": 0}),
        ("picture", {"aspect_ratio": "7:5"}),
        ("picture", {"negative_prompt": "x" * 5001}),
        ("animation", {"frames": 61}),
        ("animation", {"width": 769}),
        ("animation", {"num_outputs": 2}),
        ("audio", {"duration": 31}),
        ("audio", {"output_format": "mp3"}),
        ("text", {"verses": 0}),
    ],
)
def test_unknown_and_out_of_range_parameters_are_refused(
    kind: str, parameters: Mapping[str, Any]
) -> None:
    """Mistakes are reported at submission."""
    assert not accepts(kind, parameters)


@pytest.mark.parametrize("kind", ["picture", "animation", "audio", "text"])
def test_every_parameter_has_a_description_and_a_valid_default(kind: str) -> None:
    """The schema is the model's documentation."""
    properties = schema_of(kind)["properties"]
    defaults = {key: one["default"] for key, one in properties.items() if "default" in one}

    assert schema_of(kind)["additionalProperties"] is False
    assert all(one["description"] and one["title"] for one in properties.values())
    assert defaults
    assert accepts(kind, defaults)


@pytest.mark.parametrize(
    "name",
    [
        "black-forest-labs/flux-schnell",
        "stability-ai/sdxl:39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b",
        "sdxl",
        "fleek/placeholder",
        "fleek/placeholder:2",
        "fleek/unknown",
    ],
)
def test_unknown_models_have_the_schema_of_pictures(name: str) -> None:
    """A service without an account can be tried with the names of real models."""
    assert models.schema(ModelName(name)) == schema_of("picture")


def test_a_version_of_a_placeholder_model_is_accepted() -> None:
    """Users pin versions."""
    assert models.schema(ModelName("fleek/placeholder-audio:1")) == schema_of("audio")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/",
        "/a",
        "a//b",
        "a/../b",
        "a/b/c:1",
        "a/b/c/d/e/f/g/h/i",
        "a/b:",
        "a:1",
        "-a/b",
        "a/b\n",
        "a" * 101,
        "é/b",
    ],
)
def test_a_malformed_name_is_refused(name: str) -> None:
    """The API and the provider use the same pattern."""
    assert MODEL_NAME.fullmatch(name) is None

    with pytest.raises(NotFound):
        models.schema(ModelName(name))


def test_every_kind_of_media_is_offered() -> None:
    """Each can be tried without an account."""
    offered = {model.name: model.output for model in models.CATALOGUE}

    assert offered == {
        "fleek/placeholder": "image",
        "fleek/placeholder-animation": "animation",
        "fleek/placeholder-audio": "audio",
        "fleek/placeholder-text": "text",
    }
    assert all(model.description and model.schema for model in models.CATALOGUE)
