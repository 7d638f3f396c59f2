"""The tables of parameters in the pages about other services' clients say what the code does with each."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from fleek.api.facades.fal import arguments, storage, submit
from fleek.api.facades.fal import facade as fal
from fleek.api.facades.headers import REQUEST_HEADERS
from fleek.api.facades.openai import facade as openai
from fleek.api.facades.openai import images, options, speech, videos
from fleek.api.facades.replicate import facade as replicate
from fleek.api.facades.replicate.create import PredictionCreate
from fleek.api.routing import known_query
from fleek.domain.errors import InvalidInput
from fleek.domain.job import ModelName

PAGES: Final = Path(__file__).parents[3] / "docs" / "how-to"
NAME: Final = re.compile(r"`([^`]+)`")
INTERNAL: Final = frozenset({"exp", "sig", "storage_type"})
"""Query parameters of addresses that clients are given, or add by themselves."""

NO_NAME: Final = ModelName("owner/name")


def documented(service: str) -> Mapping[str, set[str]]:
    """Return the parameters of a page's table by what becomes of them; a parameter may be in several."""
    text = (PAGES / f"coming-from-{service}.md").read_text()
    table = text.partition("## Every parameter")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 8
    found: dict[str, set[str]] = {}
    for names, fate in rows:
        for word in re.split(" or ", fate.strip()):
            found.setdefault(word, set()).update(NAME.findall(names))
    assert found.keys() <= {"translated", "ignored", "refused", "passed on"}
    return found


def queries(modules: Iterable[Any]) -> set[str]:
    """Return the query parameters that a facade's routes take."""
    routes = [route for module in modules for route in module.router.routes]
    return {name for route in routes for name in known_query(route.dependant)} - INTERNAL


def everything(table: Mapping[str, set[str]]) -> set[str]:
    """Return all parameters of a table."""
    return set().union(*table.values())


def test_fals_arguments_and_headers() -> None:
    """Those that are ignored are those that the code ignores, and every header has a row."""
    table = documented("fal")

    ignored = {*arguments.IGNORED, *submit.IGNORED_HEADERS, *storage.IGNORED_HEADERS}
    headers = {name.lower() for name in REQUEST_HEADERS if name.startswith("X-Fal")}
    shown = {name.partition(":")[0].lower() for name in everything(table)}
    assert table["ignored"] == ignored
    assert {name for name in shown if name.startswith("x-fal")} == headers
    assert queries(fal.ROUTES) <= table["translated"]


SAMPLES: Final[Mapping[str, tuple[Any, str]]] = {
    "num_images": (2, "num_outputs"),
    "image_size": ("square", "aspect_ratio"),
    "image_url": ("https://example.com/a.png", "image"),
    "image_urls": (["https://example.com/a.png"], "images"),
    "mask_url": ("https://example.com/a.png", "mask"),
}
"""fal's arguments that models call otherwise: a value of each, and such a name."""


def test_fals_arguments_become_what_a_model_calls_them() -> None:
    """Each of a row with `translated`, and none besides."""
    table = documented("fal")
    own = {name for name in table["translated"] if name.islower() and "-" not in name}

    for name, (value, theirs) in SAMPLES.items():
        made = arguments.translate({name: value}, {"properties": {theirs: {}}}, files="x")
        assert made.parameters.keys() == {theirs}, name
    for name in arguments.IGNORED:
        made = arguments.translate({name: True}, {"properties": {"seed": {}}}, files="x")
        assert (made.parameters, made.ignored) == ({}, [name])
    assert own == {"prompt", *SAMPLES, *queries(fal.ROUTES)}


def test_openais_parameters() -> None:
    """Options of the code are those that may be ignored; names are those that are translated."""
    table = documented("openai")
    known = {*images.OPTIONS, *speech.OPTIONS, *videos.OPTIONS}

    assert table["ignored"] - {"other headers"} == known
    assert everything(table) >= options.NAMES.keys()
    assert queries(openai.ROUTES) <= table["translated"]
    fields = {"model", "prompt", "input", "stream", "size", "image[]"}
    more = {"extra_body", "Idempotency-Key", "stream_format", "markup"}
    assert everything(table) == {
        *fields,
        *more,
        *known,
        *options.NAMES,
        *queries(openai.ROUTES),
    }


def test_openais_options_are_ignored_and_files_are_refused_by_a_model_without_them() -> None:
    """Which the table says of each."""
    bare = options.Target(NO_NAME, None, {}, {"seed": {}})

    for name in {*images.OPTIONS, *speech.OPTIONS, *videos.OPTIONS} - {"size", "response_format"}:
        done = options.translate(bare, {name: "1"}, options=[name])
        assert (done.parameters, done.ignored) == ({}, [name])
    for name in options.NEEDED:
        with pytest.raises(InvalidInput, match=name):
            options.translate(bare, {name: "upload:1"})
    assert options.translate(bare, {"size": "64x64"}).ignored == ["size"]
    with pytest.raises(InvalidInput, match="colour"):
        options.translate(bare, {"colour": "1"})


def test_replicates_fields_and_queries() -> None:
    """Those of the body, of which one has no effect, and those of lists."""
    table = documented("replicate")
    shown = {name.partition(".")[0] for name in everything(table)}

    assert PredictionCreate.model_fields.keys() <= shown
    assert queries(replicate.ROUTES) <= shown
    assert table["ignored"] == {"stream", "sort_by", "sort_direction"}
    headers = {"Prefer: wait", "wait=N", "Cancel-After", "Idempotency-Key"}
    assert shown - headers == PredictionCreate.model_fields.keys() | queries(replicate.ROUTES)
