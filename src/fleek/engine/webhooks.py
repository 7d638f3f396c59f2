"""Webhooks as callers see them: where they may go, their secrets, tests and replays."""

from urllib.parse import urlsplit

from fleek.domain.errors import FieldError, InvalidInput
from fleek.domain.webhooks import EndpointId
from fleek.engine import signing
from fleek.engine.runtime import Runtime
from fleek.outbound.addresses import UnsafeAddress, parse
from fleek.store import endpoints


def check_url(rt: Runtime, url: str, *, pointer: str) -> None:
    """Check that webhooks may be sent to a URL, as far as it can be seen from the URL itself.

    Raises:
        InvalidInput: They may not; `pointer` names the field.
    """
    try:
        parsed = parse(url, rt.webhooks.policy)
    except UnsafeAddress as error:
        raise _unsafe(str(error), pointer) from error
    own = {_host(rt.settings.public_base), _host(rt.settings.media_base)}
    if (parsed.raw_host, parsed.port) in own:
        raise _unsafe("the address is that of this service itself", pointer)


def _host(base: str) -> tuple[str | None, int]:
    parts = urlsplit(base)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _unsafe(detail: str, pointer: str) -> InvalidInput:
    field = FieldError(pointer, "unsafe_url", detail)
    return InvalidInput(detail, code="unsafe_url", errors=[field])


async def signing_secrets(
    rt: Runtime, *, tenant_id: str, endpoint_id: EndpointId | None = None
) -> list[str]:
    """Return the secrets that sign now, the latest first; a tenant's is made when it is needed.

    Raises:
        ConfigurationError: One cannot be decrypted.
    """
    owner = endpoints.owner_of(tenant_id=tenant_id, endpoint_id=endpoint_id)
    stored = await endpoints.secrets(rt.db, owner, now=rt.now())
    if not stored and endpoint_id is None:
        sealed = rt.secret_box.seal(signing.new_secret(), owner=owner)
        await endpoints.first_secret(rt.db, owner, sealed, now=rt.now())
        stored = await endpoints.secrets(rt.db, owner, now=rt.now())
    return [rt.secret_box.open(value, owner=owner) for value in stored]
