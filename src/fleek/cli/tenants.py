"""`fleek tenants`: what each tenant may have, and whether it may do anything at all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.local_service import run_locally
from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from fleek.domain.tenant import Tenant
    from fleek.engine.runtime import Runtime

app = typer.Typer()
tenants = typer.Typer(no_args_is_help=True)
app.add_typer(tenants, name="tenants", help="Tenants of the service, and their limits.")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Name = Annotated[str, typer.Argument(metavar="TENANT", help="The id of the tenant.")]
DEFAULT = "default"


@tenants.command("list")
def list_tenants(*, as_json: AsJson = False) -> None:
    """List the tenants, with the limits that differ from the settings.

    Each line: id, state, limits. A key creates its tenant: fleek keys create --tenant.
    """
    screen = Screen(as_json=as_json)

    async def work(rt: "Runtime") -> None:
        from fleek.store import tenants  # noqa: PLC0415 - heavy

        found = page = await tenants.list_tenants(rt.db)
        while len(page) == tenants.PAGE:
            page = await tenants.list_tenants(rt.db, after=page[-1].id)
            found += page
        if as_json:
            screen.json([_document(tenant) for tenant in found])
        for tenant in () if as_json else found:
            screen.data(*_line(tenant))

    run_locally(work)


@tenants.command("set")
def set_limits(
    tenant: Name,
    max_live_jobs: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Most jobs that have not ended.")
    ] = None,
    max_running: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Most jobs that run at a time.")
    ] = None,
    max_uploaded_bytes: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Most bytes of all uploads that are kept.")
    ] = None,
    rate_per_minute: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Most requests per minute of each key; 0: no limit."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Give a tenant limits of its own, in place of those of the settings.

    "default" in place of a number: as the settings say. Takes effect within a second on every process.
    Works on the database of the service with its settings: run it where the service runs.
    """
    given = {
        "max_live_jobs": max_live_jobs,
        "max_running": max_running,
        "max_uploaded_bytes": max_uploaded_bytes,
        "rate_per_minute": rate_per_minute,
    }
    limits = {name: _number(text, name) for name, text in given.items() if text is not None}
    if not limits:
        raise typer.BadParameter(
            "name a limit: --max-live-jobs, --max-running, --max-uploaded-bytes, --rate-per-minute"
        )
    _change(tenant, Screen(as_json=as_json), limits=limits)


@tenants.command()
def disable(tenant: Name, *, as_json: AsJson = False) -> None:
    """Refuse the keys of a tenant and start none of its jobs, until "fleek tenants enable".

    Within a second on every process; its event streams end. Its jobs stay in the queue, and running
    predictions are collected.
    """
    _change(tenant, Screen(as_json=as_json), enabled=False)


@tenants.command()
def enable(tenant: Name, *, as_json: AsJson = False) -> None:
    """Accept the keys of a tenant again, and go on with its jobs."""
    _change(tenant, Screen(as_json=as_json), enabled=True)


def _change(
    tenant_id: str,
    screen: Screen,
    *,
    limits: Mapping[str, int | None] | None = None,
    enabled: bool | None = None,
) -> None:
    async def work(rt: "Runtime") -> None:
        from fleek.engine.tenants import change_tenant  # noqa: PLC0415 - heavy

        tenant = await change_tenant(rt, tenant_id, limits=limits, enabled=enabled)
        if screen.as_json:
            screen.json(_document(tenant))
        else:
            screen.data(*_line(tenant))

    run_locally(work)


def _number(text: str, name: str) -> int | None:
    from pydantic import ValidationError  # noqa: PLC0415 - heavy

    from fleek.schemas.tenants import LimitsPatch  # noqa: PLC0415 - heavy

    option = f"--{name.replace('_', '-')}"
    if text == DEFAULT:
        return None
    try:
        LimitsPatch(**{name: int(text)})
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"], param_hint=option) from None
    except ValueError:
        raise typer.BadParameter("must be a number, or default", param_hint=option) from None
    return int(text)


def _document(tenant: "Tenant") -> object:
    from fleek.schemas.tenants import TenantRead  # noqa: PLC0415 - heavy

    return TenantRead.of(tenant).model_dump(mode="json")


def _line(tenant: "Tenant") -> tuple[str, str, str]:
    from dataclasses import asdict  # noqa: PLC0415 - not needed for help

    own = {name: most for name, most in asdict(tenant.limits).items() if most is not None}
    limits = ",".join(f"{name}={most}" for name, most in own.items())
    return tenant.id, "enabled" if tenant.enabled else "disabled", limits or "-"
