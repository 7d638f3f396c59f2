"""What jobs cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleek.cli.exit_codes import Exit, explain
from fleek.cli.options import Session, command, connected, job_request
from fleek.domain.errors import FleekError

if TYPE_CHECKING:
    from fleek.schemas.costs import EstimateRead

UNKNOWN = "unknown"
ANY_FILE = "https://example.com/file"  # nothing is uploaded or fetched for an estimate

app = typer.Typer()


@command(app, "estimate", request=job_request, session=connected)
def estimate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to make.")],
    *,
    request: dict[str, Any],
    session: Session,
) -> None:
    """Show what a job will cost, in US dollars, and make nothing.

    Written to stdout: the cost of one attempt, the provider and the model. What would keep the job from
    being accepted is written to stderr, and the exit code is 2 then.
    """
    raise typer.Exit(write_estimates(session, [prompt], request))


def write_estimates(session: Session, prompts: Sequence[str], request: Mapping[str, Any]) -> Exit:
    """Write what jobs with these prompts will cost; returns the exit code."""
    given = request["parameters"] or {}
    asked = {name: request[name] for name in ("model", "provider")}
    asked["parameters"] = {
        name: ANY_FILE if isinstance(value, Path) else value for name, value in given.items()
    }
    code = Exit.DONE
    for prompt in prompts:
        try:
            found = session.client.estimate(prompt, **asked)
        except FleekError as error:
            return explain(error)
        code = _write(session, found) or code
    return code


def _write(session: Session, found: "EstimateRead") -> Exit:
    screen = session.screen
    if screen.as_json:
        screen.json_line(found.model_dump(mode="json"))
    else:
        route = found.route
        place = ("", "") if route is None else (route.provider, route.model_name)
        screen.data(UNKNOWN if found.cost is None else found.cost, *place)
    for problem in found.problems:
        where = problem.pointer.removeprefix("/").replace("/", ".")
        screen.warn(f"fleek: {where}: {problem.detail}" if where else f"fleek: {problem.detail}")
    return Exit.USAGE if found.problems else Exit.DONE
