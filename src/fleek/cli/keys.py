"""`fleek keys`: create, list and revoke API keys."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fleek.cli.local_service import run_locally
from fleek.cli.options import age
from fleek.cli.screen import Screen
from fleek.domain.access import ANONYMOUS, Scope
from fleek.domain.job import DEFAULT_TENANT

if TYPE_CHECKING:
    from fleek.domain.api_keys import ApiKey
    from fleek.engine.runtime import Runtime

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True)
app.add_typer(keys, name="keys", help="API keys of the service.")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
SCOPES = ", ".join(Scope)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[
        str, typer.Option(help="Whose jobs it is for; a new tenant is created.")
    ] = DEFAULT_TENANT,
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"May be given several times: {SCOPES}. Default: all but admin."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="From now: 90d, 12h. Default: never.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it: it is shown this once and stored nowhere.

    As soon as there is a key, callers need one. Works on the database of the service with its settings:
    run it where the service runs.
    """
    scopes = _scopes(scope)
    lifetime = None if expires is None else age(expires, "--expires")
    for option, text in (("NAME", name), ("--tenant", tenant)):
        _check_name(text, option)
    screen = Screen(as_json=as_json)

    async def work(rt: "Runtime") -> None:
        from fleek.engine.access import create_key  # noqa: PLC0415 - heavy
        from fleek.schemas.keys import KeyCreated  # noqa: PLC0415 - heavy

        expires_at = None if lifetime is None else rt.now() + lifetime
        key, secret = await create_key(
            rt, name=name, tenant_id=tenant, scopes=scopes, expires_at=expires_at
        )
        if as_json:
            screen.json(KeyCreated.with_secret(key, secret).model_dump(mode="json"))
        else:
            screen.data(secret)

    run_locally(work)


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the keys, newest first, with those that were revoked.

    Each line: id, tenant, name, state, scopes.
    """
    screen = Screen(as_json=as_json)

    async def work(rt: "Runtime") -> None:
        from fleek.schemas.keys import KeyRead  # noqa: PLC0415 - heavy
        from fleek.store import api_keys  # noqa: PLC0415 - heavy

        found = await api_keys.list_keys(rt.db, tenant_id=tenant)
        if as_json:
            screen.json([KeyRead.of(key).model_dump(mode="json") for key in found])
            return
        for key in found:
            state = _state(key, now=rt.now())
            scopes = ",".join(scope for scope in Scope if scope in key.scopes)
            screen.data(key.id, key.tenant_id, key.name, state, scopes)

    run_locally(work)


@keys.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id, or the beginning of the key.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a key invalid for good, within a second on every process; its jobs go on."""
    screen = Screen(as_json=as_json)

    async def work(rt: "Runtime") -> None:
        from fleek.domain.api_keys import PREFIX, KeyId  # noqa: PLC0415 - not needed for help
        from fleek.engine.access import revoke_key  # noqa: PLC0415 - heavy
        from fleek.schemas.keys import KeyRead  # noqa: PLC0415 - heavy

        wanted = KeyId(key_id.removeprefix(PREFIX).partition("_")[0])
        key = await revoke_key(rt, wanted)
        if as_json:
            screen.json(KeyRead.of(key).model_dump(mode="json"))
        else:
            screen.data(f"revoked {key.prefix} ({key.name})")

    run_locally(work)


def _scopes(texts: list[str] | None) -> list[Scope]:
    if not texts:
        return [scope for scope in Scope if ANONYMOUS.may(scope)]
    unknown = sorted({*texts} - {*Scope})
    if unknown:
        raise typer.BadParameter(f"must be one of: {SCOPES}", param_hint="--scope")
    return [Scope(text) for text in texts]


def _check_name(text: str, option: str) -> None:
    from fleek.domain.api_keys import NAME  # noqa: PLC0415 - not needed for help

    if NAME.fullmatch(text) is None:
        raise typer.BadParameter(
            "must have 1 to 64 letters, digits, dots, hyphens and underscores", param_hint=option
        )


def _state(key: "ApiKey", *, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.is_valid(now) else "expired"
