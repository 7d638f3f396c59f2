"""The command that shows models and their parameters."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleek.cli.options import Session, command, connected
from fleek.cli.present import short
from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from fleek.client.models import ModelRead

app = typer.Typer()

LIMITS = (
    ("minimum", "from {}"),
    ("maximum", "to {}"),
    ("minLength", "of at least {} characters"),
    ("maxLength", "of at most {} characters"),
)


@command(app, "models", session=connected)
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this model's parameters.")
    ] = None,
    *,
    search: Annotated[
        str | None,
        typer.Option("--search", "-s", metavar="WORDS", help="In names and descriptions."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="What they make: image, animation, video, audio, text.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="A provider that runs them.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also models that no configured provider runs.")
    ] = False,
    session: Session,
) -> None:
    """List models, or show one model with its parameters."""
    screen = session.screen
    if name is None:
        only = None if everything else True
        shown = session.client.models(q=search, kind=kind, provider=provider, available=only)
    else:
        shown = [session.client.model(name)]
    if screen.as_json:
        documents = [model.to_dict() for model in shown]
        screen.json(documents if name is None else documents[0])
    elif name is None:
        _list(screen, shown)
    else:
        _show(screen, shown[0])


def _list(screen: Screen, shown: "Sequence[ModelRead]") -> None:
    rows = [
        (
            model.name,
            model.output or "",
            "default" if model.default else "",
            model.provider,
            model.description,
        )
        for model in shown
    ]
    _write(screen, ("NAME", "MAKES", "", "PROVIDER", "DESCRIPTION"), rows)


def _show(screen: Screen, model: "ModelRead") -> None:
    screen.data(f"{model.name} ({model.provider}): {model.description}")
    for route in model.routes:
        notes = [
            *(() if route.configured else ("not configured here",)),
            *(("unverified",) if route.unverified else ()),
        ]
        screen.data("runs at", route.provider, route.model, ", ".join(notes))
    if model.parameters is None:
        screen.note("Its parameters are not available now.")
        return
    properties = model.parameters.get("properties")
    if not isinstance(properties, Mapping):
        return
    rows = [
        (name, _kind(schema), _default(schema), str(schema.get("description", "")))
        for name, schema in properties.items()
        if isinstance(schema, Mapping)
    ]
    _write(screen, ("PARAMETER", "VALUE", "DEFAULT", "DESCRIPTION"), rows)


def _kind(schema: Mapping[str, Any]) -> str:
    """Describe the values that a schema allows."""
    if isinstance(choices := schema.get("enum"), list):
        return " | ".join(str(choice) for choice in choices)
    if isinstance(options := schema.get("anyOf"), list):
        return " or ".join(_kind(option) for option in options if isinstance(option, Mapping))
    kind = schema.get("type", "any")
    words = [" or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)]
    words += [word.format(schema[limit]) for limit, word in LIMITS if limit in schema]
    return " ".join(words)


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"]) if schema.get("default") is not None else ""


def _write(screen: Screen, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not screen.out.is_terminal:
        for row in rows:
            screen.data(*row)
        return
    from rich.table import Table  # noqa: PLC0415 - only for terminals
    from rich.text import Text  # noqa: PLC0415 - only for terminals

    grid = Table(*titles, box=None, pad_edge=False, header_style="dim")
    for row in rows:
        grid.add_row(*(Text(short(cell, 300)) for cell in row))
    screen.out.print(grid)
