"""`fleek upload`: files that jobs take as inputs."""

from pathlib import Path
from typing import Annotated

import typer

from fleek.cli.options import Session, command, connected

app = typer.Typer()


@command(app, "upload", session=connected)
def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="The files.")],
    *,
    session: Session,
) -> None:
    """Upload files, and write for each the value of a parameter that names it: upload:ID."""
    for file in files:
        made = session.client.upload(file)
        if session.screen.as_json:
            session.screen.json_line(made.to_dict())
        else:
            session.screen.data(made.reference)
