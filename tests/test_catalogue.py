"""The catalogue: the built-in one, the operator's file, and what is said of their mistakes."""

import tomllib
from pathlib import Path
from typing import Final

import pytest

from fleek.catalogue import read_catalogue
from fleek.domain.catalogue import VOCABULARY, CatalogueRoute, translate
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import Kind, ModelName
from fleek.emulator.replicate.models import BY_NAME
from fleek.providers.base import needs_prompt

FAMILIES: Final = (
    *("flux", "sdxl", "sd-3.5", "ideogram", "recraft", "imagen", "nano-banana", "gpt-image"),
    *("kling", "veo", "wan", "seedance", "hailuo", "minimax", "kokoro", "elevenlabs"),
)
OWN: Final = """
[portrait]
kind = "image"
description = "Ours."
aliases = ["headshot"]
[[portrait.routes]]
provider = "replicate"
model = "our-company/portrait"
parameters = { width = "size.width", image = "images[]", output_format = "format" }
values = { output_format = { jpeg = "jpg" } }
fixed = { "lora.scale" = 0.8 }
"""
NO_PROMPT_BUT_A_TEMPLATE: Final = """["headshot"]
prompt = "optional"
[[portrait.routes]]
templates = { text = "{prompt}" }"""
ROUTE: Final = CatalogueRoute(
    provider="fal",
    model=ModelName("a/b"),
    parameters={
        "width": "size.width",
        "image": "images[]",
        "output_format": "format",
        "seed": "seed",
    },
    templates={"duration": "{duration_seconds}s", "text": "{prompt}"},
    values={"output_format": {"jpeg": "jpg"}},
    fixed={"lora.scale": 0.8},
)


def test_the_built_in_catalogue_has_the_families_that_people_use() -> None:
    """Under names without a slash, so that none hides one of a provider."""
    catalogue = read_catalogue()

    assert [
        name for name in FAMILIES if not any(name in model for model in catalogue.models)
    ] == []
    assert [name for name in (*catalogue.models, *catalogue.aliases) if "/" in name] == []
    assert {model.kind for model in catalogue.models.values()} == {"image", "video", "audio"}
    assert all(model.description for model in catalogue.models.values())


def test_routes_that_count_as_verified_are_those_that_we_know() -> None:
    """OpenAI's, and those of Replicate whose schema we have."""
    known = [
        (route.provider, route)
        for model in read_catalogue().models.values()
        for route in model.routes
        if route.verified
    ]

    assert {provider for provider, _ in known} == {"openai", "replicate"}
    for provider, route in known:
        if provider == "replicate":
            assert set(route.parameters.values()) <= set(BY_NAME[route.model].inputs)


def test_the_operators_models_are_added(tmp_path: Path) -> None:
    """Or take the place of those with the same name."""
    own = tmp_path / "models.toml"
    own.write_text(OWN + OWN.replace("portrait", "sdxl").replace("headshot", "xl"))

    catalogue = read_catalogue(own, ["face=headshot", "hero=a/b"])

    portrait = catalogue.get("face")
    assert portrait is not None
    assert (portrait.name, portrait.kind, portrait.aliases) == (
        "portrait",
        Kind.IMAGE,
        ("headshot",),
    )
    assert "x-prompt" not in portrait.parameters
    assert portrait.routes[0].fixed == {"lora.scale": 0.8}
    assert [route.model for route in catalogue.models["sdxl"].routes] == ["our-company/sdxl"]
    assert "flux-schnell" in catalogue.models
    assert (catalogue.get("hero"), catalogue.resolve("hero")) == (None, "a/b")


@pytest.mark.parametrize("prompt", ["none", "optional"])
def test_an_entry_says_that_its_model_needs_no_prompt(tmp_path: Path, prompt: str) -> None:
    """Forms, MCP and the SDK read it where they read the parameters, as of any other model."""
    own = tmp_path / "models.toml"
    own.write_text(OWN.replace("kind =", f'prompt = "{prompt}"\nkind =', 1))

    parameters = read_catalogue(own).models["portrait"].parameters

    assert parameters["x-prompt"] == prompt
    assert not needs_prompt(parameters)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[portrait]", "[portrait"), "is not TOML"),
        (("[portrait]", '["por trait"]'), "'por trait' cannot be the name of a model"),
        (('kind = "image"', 'kind = "statue"'), "portrait.kind: Input should be 'image',"),
        (("description =", "summary ="), "portrait.summary: Extra inputs"),
        (("provider =", "providr ="), "portrait.routes.0.provider: Field required"),
        (('"replicate"', '"nobody"'), "portrait: unknown provider nobody; choose one of: "),
        (("width =", "breadth ="), "portrait.routes.0: breadth is not a common parameter"),
        (("kind =", 'prompt = "no"\nkind ='), "portrait.prompt: Input should be 'none' or 'opt"),
        (
            ('["headshot"]\n[[portrait.routes]]', NO_PROMPT_BUT_A_TEMPLATE),
            "portrait: a template inserts {prompt}",
        ),
        (('["headshot"]', '["sdxl"]'), "sdxl, an alias of portrait, is one of sdxl, too"),
        (('["headshot"]', '["flux-pro"]'), "is one of flux-1.1-pro, too"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_mistakes_are_named_with_their_place(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    """A typo would otherwise lead to another model, which costs money."""
    own = tmp_path / "models.toml"
    own.write_text(OWN.replace(*change, 1))

    with pytest.raises(ConfigurationError, match=r"MODELS_FILE") as raised:
        read_catalogue(own)

    assert said in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(ConfigurationError, match=r"MODELS_FILE=.*nowhere.toml: cannot be read"):
        read_catalogue(tmp_path / "nowhere.toml")


def test_an_alias_comes_before_a_built_in_name_and_hides_no_own_model(tmp_path: Path) -> None:
    """So a name that other services use can mean another model here; a file is changed instead."""
    own = tmp_path / "models.toml"
    own.write_text(OWN)
    name = next(iter(tomllib.loads(OWN)))

    assert read_catalogue(None, ["sdxl=a/b"]).resolve("sdxl") == "a/b"
    with pytest.raises(ConfigurationError, match=f"{name} is the name of a model in"):
        read_catalogue(own, [f"{name}=a/b"])


def test_parameters_are_translated() -> None:
    """Common ones to their names, values and forms; others stay."""
    given = {
        "width": 64,
        "image": "upload:1",
        "output_format": "jpeg",
        "duration_seconds": 8.0,
        "go_fast": True,
    }

    translated, missing = translate(ROUTE, given, prompt="A cat")

    assert missing == ()
    assert translated == {
        "size": {"width": 64},
        "images": ["upload:1"],
        "format": "jpg",
        "duration": "8s",
        "text": "A cat",
        "go_fast": True,
        "lora": {"scale": 0.8},
    }


def test_what_cannot_be_expressed_is_named() -> None:
    """In the order of the request."""
    given = dict.fromkeys(VOCABULARY, 1)

    _, missing = translate(ROUTE, given)

    assert missing == (
        *("height", "aspect_ratio", "num_outputs", "negative_prompt", "mask", "strength"),
        "voice",
    )
