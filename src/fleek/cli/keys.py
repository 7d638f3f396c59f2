"""`fleek keys`: create, list and revoke API keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleek.cli.local_service import run_locally
from fleek.cli.operator_session import OperatorSession, operating
from fleek.cli.options import age, command
from fleek.domain.access import ANONYMOUS, Scope
from fleek.domain.job import DEFAULT_TENANT
from fleek.system_clock import wall_time

if TYPE_CHECKING:
    from fleek.client.models import KeyCreated, KeyRead
    from fleek.engine.runtime import Runtime

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True)
app.add_typer(keys, name="keys", help="API keys of the service.")

SCOPES = ", ".join(Scope)


TenantOption = Annotated[
    str | None,
    typer.Option(
        help="Whose jobs it is for; a new tenant is created. Default: default, or over HTTP that of "
        "your key."
    ),
]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(help=f"May be given several times: {SCOPES}. Default: all but admin."),
]
ExpiresOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="From now: 90d, 12h. Default: never.")
]


@command(keys, "create", session=operating)
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    *,
    tenant: TenantOption = None,
    scope: ScopeOption = None,
    expires: ExpiresOption = None,
    session: OperatorSession,
) -> None:
    """Create a key and print it: it is shown this once and stored nowhere.

    As soon as there is a key, callers need one. Works over HTTP if --url or FLEEK_URL names a server, with an
    operator's key; else on the database of the service with its settings: so the first key is made, where
    the service runs.
    """
    scopes = _scopes(scope)
    lifetime = None if expires is None else age(expires, "--expires")
    for option, text in (("NAME", name), ("--tenant", tenant)):
        if text is not None:
            _check_name(text, option)
    made: KeyCreated
    if session.remote:
        made = session.client.keys.create(
            name,
            tenant=tenant,
            scopes=scopes,
            expires_at=None if lifetime is None else wall_time() + lifetime,
        )
    else:
        made = run_locally(
            partial(_create, name=name, tenant=tenant, scopes=scopes, lifetime=lifetime)
        )
    if session.screen.as_json:
        session.screen.json(made.to_dict())
    else:
        session.screen.data(made.key)


@command(keys, "list", session=operating)
def list_keys(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
    session: OperatorSession,
) -> None:
    """List the keys, newest first, with those that were revoked.

    Each line: id, tenant, name, state, scopes.
    """
    found: list[KeyRead]
    if session.remote:
        found = session.client.keys.list(tenant=tenant)
    else:
        found = run_locally(partial(_list, tenant=tenant))
    if session.screen.as_json:
        session.screen.json([key.to_dict() for key in found])
        return
    now = wall_time()
    for key in found:
        scopes = ",".join(key.scopes)
        session.screen.data(key.id, key.tenant, key.name, _state(key, now=now), scopes)


@command(keys, "revoke", session=operating)
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id, or the beginning of the key.")
    ],
    *,
    session: OperatorSession,
) -> None:
    """Make a key invalid for good, within a second on every process; its jobs go on."""
    key: KeyRead
    if session.remote:
        key = session.client.keys.revoke(key_id)
    else:
        key = run_locally(partial(_revoke, text=key_id))
    if session.screen.as_json:
        session.screen.json(key.to_dict())
    else:
        session.screen.data(f"revoked {key.prefix} ({key.name})")


async def _create(
    rt: "Runtime",
    *,
    name: str,
    tenant: str | None,
    scopes: Sequence[Scope],
    lifetime: timedelta | None,
) -> "KeyCreated":
    from fleek.client.models import KeyCreated  # noqa: PLC0415 - not needed for help
    from fleek.engine.access import create_key  # noqa: PLC0415 - heavy
    from fleek.schemas import keys as schemas  # noqa: PLC0415 - heavy

    key, secret = await create_key(
        rt,
        name=name,
        tenant_id=tenant or DEFAULT_TENANT,
        scopes=scopes,
        expires_at=None if lifetime is None else rt.now() + lifetime,
    )
    return KeyCreated.from_json(_document(schemas.KeyCreated.with_secret(key, secret)))


async def _list(rt: "Runtime", *, tenant: str | None) -> "list[KeyRead]":
    from fleek.client.models import KeyRead  # noqa: PLC0415 - not needed for help
    from fleek.schemas import keys as schemas  # noqa: PLC0415 - heavy
    from fleek.store import api_keys  # noqa: PLC0415 - heavy

    found = await api_keys.list_keys(rt.db, tenant_id=tenant)
    return [KeyRead.from_json(_document(schemas.KeyRead.of(key))) for key in found]


async def _revoke(rt: "Runtime", *, text: str) -> "KeyRead":
    from fleek.client.models import KeyRead  # noqa: PLC0415 - not needed for help
    from fleek.domain.api_keys import PREFIX, KeyId  # noqa: PLC0415 - not needed for help
    from fleek.engine.access import revoke_key  # noqa: PLC0415 - heavy
    from fleek.schemas import keys as schemas  # noqa: PLC0415 - heavy

    wanted = KeyId(text.removeprefix(PREFIX).partition("_")[0])
    return KeyRead.from_json(_document(schemas.KeyRead.of(await revoke_key(rt, wanted))))


def _document(value: Any) -> Any:
    return value.model_dump(mode="json")


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


def _state(key: "KeyRead", *, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.expires_at is None or now < key.expires_at else "expired"
