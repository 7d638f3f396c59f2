"""What jobs cost, and what may be spent."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleek.cli.exit_codes import Exit, explain
from fleek.cli.job_options import job_request
from fleek.cli.local_service import run_locally
from fleek.cli.options import Session, command, connected
from fleek.cli.screen import Screen
from fleek.domain.errors import FleekError

if TYPE_CHECKING:
    from fleek.client.models import BudgetRead, EstimateRead
    from fleek.engine.runtime import Runtime
    from fleek.schemas import costs as schemas
    from fleek.schemas.costs import BudgetChange

UNKNOWN = "unknown"
NONE = "none"  # in place of a limit
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
        screen.json_line(found.to_dict())
    else:
        route = found.route
        place = ("", "") if route is None else (route.provider, route.model_name)
        screen.data(UNKNOWN if found.cost is None else found.cost, *place)
    for problem in found.problems:
        where = problem.pointer.removeprefix("/").replace("/", ".")
        screen.warn(f"fleek: {where}: {problem.detail}" if where else f"fleek: {problem.detail}")
    return Exit.USAGE if found.problems else Exit.DONE


TenantOption = Annotated[
    str | None,
    typer.Option("--tenant", help="Of another tenant, or * for all; needs an operator's key."),
]


@command(app, "usage", session=connected)
def usage(
    *,
    group_by: Annotated[
        str, typer.Option("--by", help="What to add up by: day, model, provider, key or tenant.")
    ] = "day",
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="From this day on; default: this month."),
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="Up to this day; default: today.")
    ] = None,
    tenant: TenantOption = None,
    session: Session,
) -> None:
    """Show what was spent, in US dollars.

    Each line: the day, model …; attempts that were paid for; those of them whose cost is unknown; the
    cost; what is reserved for running ones.
    """
    days = {
        name: _day(text, option)
        for name, text, option in (
            ("first", first, "--from"),
            ("last", last, "--to"),
        )
    }
    found = session.client.usage(group_by, tenant=tenant, **days)
    if session.screen.as_json:
        session.screen.json(found.to_dict())
        return
    for row in found.rows:
        session.screen.data(row.name or "-", row.attempts, row.unknown, row.cost, row.reserved)
    session.screen.note(f"{found.cost} USD from {found.first} to {found.last}")


def _day(text: str | None, option: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("must be a day, like 2026-11-29", param_hint=option) from None


budgets = typer.Typer(no_args_is_help=True)
app.add_typer(budgets, name="budgets", help="What may be spent.")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@command(budgets, "list", session=connected)
def list_budgets(*, tenant: TenantOption = None, session: Session) -> None:
    """List the budgets of the tenant and its keys, with what is spent now, in US dollars.

    Each line: tenant, key, period, limit, spent, reserved, left.
    """
    found = session.client.budgets(tenant)
    if session.screen.as_json:
        session.screen.json([budget.to_dict() for budget in found])
        return
    for budget in found:
        session.screen.data(*_line(budget))


@budgets.command("set")
def set_budget(
    limit: Annotated[
        str, typer.Argument(metavar="LIMIT", help="Most in each period, in US dollars; or none.")
    ],
    *,
    period: Annotated[str, typer.Option(help="day, month or total; days are those of UTC.")],
    tenant: Annotated[
        str | None, typer.Option(help="Of this tenant; default: of the whole service.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Of the key with this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Limit what may be spent; "none" removes a budget.

    What was spent in the current period already counts. A job without room in a budget is refused; a
    further attempt of an accepted one waits. Works on the database of the service with its settings: run
    it where the service runs.
    """
    given = {
        "tenant": tenant,
        "key": key,
        "period": period,
        "limit": None if limit == NONE else limit,
    }
    run_locally(partial(_set_budget, _budget_change(given), Screen(as_json=as_json)))


def _budget_change(given: Mapping[str, str | None]) -> "BudgetChange":
    """Read a change of a budget.

    Raises:
        BadParameter: An argument is invalid.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - heavy

    from fleek.schemas.costs import BudgetChange  # noqa: PLC0415 - heavy

    try:
        return BudgetChange.model_validate(given)
    except ValidationError as error:
        (first, *_) = error.errors()
        place = str(first["loc"][0])
        hint = "LIMIT" if place == "limit" else f"--{place}"
        reason = first["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(reason, param_hint=hint) from None


async def _set_budget(change: "BudgetChange", screen: Screen, rt: "Runtime") -> None:
    from fleek.engine.budgets import change_budget  # noqa: PLC0415 - heavy
    from fleek.schemas.costs import BudgetRead  # noqa: PLC0415 - heavy

    changed = await change_budget(
        rt,
        tenant_id=change.tenant,
        key_id=change.key,
        period=change.period,
        limit=change.micros,
    )
    budget = None if changed is None else BudgetRead.of(changed)
    if screen.as_json:
        screen.json(budget and budget.model_dump(mode="json"))
    elif budget is not None:
        screen.data(*_line(budget))


def _line(budget: "BudgetRead | schemas.BudgetRead") -> tuple[str, ...]:
    amounts = (budget.limit, budget.spent, budget.reserved, budget.left)
    return (budget.tenant or "-", budget.key or "-", budget.period.value, *amounts)
