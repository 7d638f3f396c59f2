"""The command that checks the health of a server, or of the worker on this machine."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.options import Session, command, connected
from fleek.cli.screen import Screen

app = typer.Typer()

STATUS: Final = {"healthy": "ok", "warning": "warning", "unhealthy": "error"}


@command(app, "health", session=connected)
def health(
    *,
    worker: Annotated[
        bool, typer.Option("--worker", help="Check the worker on this machine instead.")
    ] = False,
    session: Session,
) -> None:
    """Check whether a server accepts jobs; exit code 1 if not. Suitable for health checks."""
    healthy = _worker(session.screen) if worker else _server(session)
    raise typer.Exit(Exit.DONE if healthy else Exit.JOB_FAILED)


def _server(session: Session) -> bool:
    report = session.client.health()
    if session.screen.as_json:
        session.screen.json(report)
    elif not session.screen.quiet:
        _write(session.screen, report.get("checks", {}))
    return report.get("status") != "unhealthy"


def _write(screen: Screen, checks: Mapping[str, Mapping[str, Any]]) -> None:
    from fleek.cli.report import write  # noqa: PLC0415 - heavy
    from fleek.diagnosis import Finding  # noqa: PLC0415 - heavy

    write(
        screen,
        [
            Finding(
                part,
                STATUS.get(check["status"], "error"),  # type: ignore[arg-type]  # one of three
                check["message"],
                check.get("advice") or "",
            )
            for part, check in checks.items()
        ],
    )


def _worker(screen: Screen) -> bool:
    import asyncio  # noqa: PLC0415 - heavy

    from fleek.cli.report import write  # noqa: PLC0415 - heavy
    from fleek.doctor import examine_worker  # noqa: PLC0415 - heavy
    from fleek.environment import read  # noqa: PLC0415 - heavy
    from fleek.settings import Settings  # noqa: PLC0415 - heavy

    finding = asyncio.run(examine_worker(read(Settings)))
    if not screen.quiet:
        write(screen, [finding])
    return finding.status != "error"
