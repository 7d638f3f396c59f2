"""The session of operators' commands that work over HTTP, or on the database of the service."""

from typing import Annotated, Any, Final

import typer

from fleek.cli.options import (
    SERVER,
    JsonOption,
    KeyOption,
    NoColorOption,
    QuietOption,
    Session,
    TimeoutOption,
)
from fleek.domain.errors import Forbidden, Unauthorized

DEFAULT_URL: Final = "http://127.0.0.1:8000"


class OperatorSession(Session):
    """A session in which `remote` tells whether the command works over HTTP."""

    def __init__(self, url: str, *, remote: bool, **options: Any) -> None:
        super().__init__(url, **options)
        self.remote = remote

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        if self.remote and isinstance(raised[1], Forbidden | Unauthorized):
            self.screen.warn("Where the service runs, the same command with --local needs no key.")


ServerOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="FLEEK_URL",
        metavar="TEXT",
        help="The server's address. Without it, and without --api-key: as with --local.",
        rich_help_panel=SERVER,
    ),
]
LocalOption = Annotated[
    bool,
    typer.Option(
        "--local",
        help="Work on the database of the service with its settings, where the service runs.",
        rich_help_panel=SERVER,
    ),
]


def operating(
    *,
    ctx: typer.Context,
    url: ServerOption = None,
    api_key: KeyOption = None,
    local: LocalOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    no_color: NoColorOption = False,
    timeout: TimeoutOption = None,
) -> OperatorSession:
    """Open the session of an operator's command: over HTTP if a server is named, else local.

    Raises:
        BadParameter: A server and `--local` are both named on the command line.
    """
    named = any(_is_typed(ctx, option) for option in ("url", "api_key"))
    if local and named:
        raise typer.BadParameter("not with --url or --api-key", param_hint="--local")
    return OperatorSession(
        url or DEFAULT_URL,
        remote=not local and (bool(url) or named),
        api_key=api_key,
        as_json=as_json,
        quiet=quiet,
        no_color=no_color,
        timeout=timeout,
    )


def _is_typed(ctx: typer.Context, option: str) -> bool:
    """Whether an option is on the command line, and not only in the environment."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
