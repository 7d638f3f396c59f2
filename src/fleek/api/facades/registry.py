"""Facades that are imported by the first request to one of their paths.

Most installations serve none, or one; together they have as many routes as the API.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from fastapi.responses import Response

from fleek.api.errors import ErrorForm, Refusal, present
from fleek.api.route_modules import load_module
from fleek.domain.errors import ResourcesExhausted

FACADES: Final[Mapping[str, Sequence[str]]] = {
    "replicate": ["replicate"],
    "fal": ["fal", "fal-queue"],
    "openai": ["openai"],
}
"""The first parts of the paths of each facade."""


def modules() -> dict[str, list[str]]:
    """Return the module of each facade by how its paths begin."""
    return {f"/{part}": [_module(name)] for name, parts in FACADES.items() for part in parts}


def error_forms() -> dict[str, ErrorForm]:
    """Return how errors are presented, by the first part of the path."""
    return {part: partial(_present, name) for name, parts in FACADES.items() for part in parts}


def _module(name: str) -> str:
    return f"fleek.api.facades.{name}.facade"


def _present(name: str, refusal: Refusal) -> Response:
    try:
        facade = load_module(_module(name))
    except ResourcesExhausted:  # its form is in there
        return present(refusal)
    response: Response = facade.present_error(refusal)
    return response
