"""`fleek audit`: who did what that an operator may have to account for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleek.cli.exit_codes import Exit
from fleek.cli.local_service import run_locally
from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime
    from fleek.store.audit import Numbered

app = typer.Typer()
audit = typer.Typer(no_args_is_help=True)
app.add_typer(audit, name="audit", help="The audit log of the service.")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@audit.command("list")
def list_lines(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number.")] = 50,
    tenant: Annotated[str | None, typer.Option(help="Only lines of this tenant.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the latest lines, newest first.

    Each line: number, time, actor, tenant, action, target. The actor is the id of a key, "anonymous" or
    "command line". Works on the database of the service with its settings: run it where the service runs.
    """
    screen = Screen(as_json=as_json)

    async def work(rt: "Runtime") -> None:
        from fleek.store.audit import latest  # noqa: PLC0415 - heavy

        found = await latest(rt.db, limit=limit, tenant_id=tenant)
        if as_json:
            screen.json([_document(line) for line in found])
            return
        for number, entry in found:
            at = entry.at.isoformat(timespec="seconds")
            fields = (at, entry.actor, entry.tenant_id, entry.action, entry.target)
            screen.data(number, *fields)

    run_locally(work)


@audit.command()
def verify() -> None:
    """Check that no line was changed, removed or inserted afterwards; exit code 1 if one was."""
    screen = Screen()

    async def work(rt: "Runtime") -> None:
        from fleek.store.audit import verify  # noqa: PLC0415 - heavy

        lines, broken = await verify(rt.db)
        if broken is not None:
            screen.warn(f"line {broken} is not the one that was written, or is missing")
            raise typer.Exit(Exit.JOB_FAILED)
        screen.data(f"{lines} lines are as they were written")

    run_locally(work)


def _document(line: "Numbered") -> dict[str, Any]:
    number, entry = line
    return {
        "number": number,
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "request_id": entry.request_id,
        "tenant": entry.tenant_id,
        "action": str(entry.action),
        "target": entry.target,
        "detail": dict(entry.detail),
    }
