"""`fleek mcp`: jobs as tools of programs that speak the Model Context Protocol."""

from pathlib import Path
from typing import Annotated

import typer

from fleek.cli.options import KeyOption, UrlOption
from fleek.domain.errors import ConfigurationError

app = typer.Typer()


AllowedHostOption = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="With --http: a host name that callers use. Several times."),
]
FolderOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="With stdio: a folder whose files may be uploaded by their path; default: the current "
        "one. Several times."
    ),
]


@app.command("mcp")
def mcp(
    *,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over streamable HTTP instead of stdio.")
    ] = False,
    host: Annotated[str, typer.Option(help="With --http: address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="With --http: port to listen on.")] = 8808,
    allowed_host: AllowedHostOption = None,
    folder: FolderOption = None,
    url: UrlOption = "http://127.0.0.1:8000",
    api_key: KeyOption = None,
) -> None:
    """Offer jobs as tools of MCP: submit, status, wait, list, cancel, models, upload.

    On stdio it uses your key. With --http, each caller sends its own: Authorization: Bearer KEY.
    """
    try:
        from fleek.mcp_server import transports  # noqa: PLC0415 - heavy
    except ModuleNotFoundError as error:
        if str(error.name).startswith("fleek"):
            raise
        message = f"`fleek mcp` needs the library {error.name}: pip install 'fleek[mcp]'"
        raise ConfigurationError(message) from error
    from fleek.telemetry import configure_logging  # noqa: PLC0415 - heavy

    configure_logging(level="WARNING", style=None)
    if http:
        transports.serve_http(url, host=host, port=port, allowed_hosts=allowed_host or [])
    else:
        folders = folder or [Path.cwd()]
        transports.serve_stdio(url, api_key=api_key, folders=folders)
