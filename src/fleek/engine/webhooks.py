"""Webhooks as callers see them: endpoints and their secrets, tests, replays."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from uuid_utils.compat import uuid7

from fleek import strict
from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.errors import ConfigurationError, FieldError, InvalidInput, NotFound
from fleek.domain.webhooks import TEST_EVENT, Delivery, DeliveryId, Endpoint, EndpointId
from fleek.engine import signing
from fleek.engine.runtime import Runtime
from fleek.outbound.addresses import UnsafeAddress, parse
from fleek.store import delivery_log, endpoints

URL: Final = "/url"  # pointer


async def create_endpoint(
    rt: Runtime,
    *,
    tenant_id: str,
    url: str,
    events: Sequence[str],
    description: str,
    by: Actor = COMMAND_LINE,
) -> tuple[Endpoint, str]:
    """Store an endpoint; returns it with its secret. It receives what happens from now on.

    Raises:
        InvalidInput: Webhooks may not be sent to this URL.
        Conflict: The tenant has as many endpoints as it may.
    """
    check_url(rt, url, pointer=URL)
    endpoint = Endpoint(
        id=EndpointId(uuid7()),
        tenant_id=tenant_id,
        url=url,
        events=tuple(events),
        description=description,
        created_at=rt.now(),
    )
    secret = signing.new_secret()
    owner = endpoints.owner_of(tenant_id=tenant_id, endpoint_id=endpoint.id)
    sealed = rt.secret_box.seal(secret, owner=owner)
    line = _line(rt, Action.ENDPOINT_CREATED, endpoint.id, by=by, tenant_id=tenant_id)
    await endpoints.insert_endpoint(rt.db, endpoint, sealed, audit=line)
    return endpoint, secret


async def change_endpoint(
    rt: Runtime,
    endpoint_id: EndpointId,
    changes: Mapping[str, Any],
    *,
    tenant_id: str,
    by: Actor = COMMAND_LINE,
) -> Endpoint:
    """Change fields of an endpoint. What is pending goes to its new URL.

    Raises:
        NotFound: There is no such endpoint.
        InvalidInput: Webhooks may not be sent to its new URL.
    """
    if "url" in changes:
        check_url(rt, changes["url"], pointer=URL)
    line = _line(
        rt,
        Action.ENDPOINT_UPDATED,
        endpoint_id,
        by=by,
        tenant_id=tenant_id,
        changed=sorted(changes),  # not to what: an address may hold a token
    )
    return await endpoints.change_endpoint(
        rt.db, endpoint_id, tenant_id=tenant_id, changes=changes, audit=line
    )


async def delete_endpoint(
    rt: Runtime, endpoint_id: EndpointId, *, tenant_id: str, by: Actor = COMMAND_LINE
) -> None:
    """Delete an endpoint and its secrets. What is pending for it is given up.

    Raises:
        NotFound: There is no such endpoint.
    """
    line = _line(rt, Action.ENDPOINT_DELETED, endpoint_id, by=by, tenant_id=tenant_id)
    await endpoints.delete_endpoint(rt.db, endpoint_id, tenant_id=tenant_id, audit=line)


def _line(
    rt: Runtime,
    action: Action,
    target: EndpointId | DeliveryId | str,
    *,
    by: Actor,
    tenant_id: str,
    **detail: Any,
) -> AuditEntry:
    return entry(action, str(target), by=by, tenant_id=tenant_id, at=rt.now(), **detail)


async def rotate_secret(
    rt: Runtime, endpoint_id: EndpointId | None, *, tenant_id: str, by: Actor = COMMAND_LINE
) -> str:
    """Make a new secret for an endpoint (None: for the tenant) and return it.

    The previous one signs beside it for a day; one before that ends now.

    Raises:
        NotFound: There is no such endpoint.
    """
    if endpoint_id is not None:
        await endpoints.get_endpoint(rt.db, endpoint_id, tenant_id=tenant_id)
    secret = signing.new_secret()
    owner = endpoints.owner_of(tenant_id=tenant_id, endpoint_id=endpoint_id)
    sealed = rt.secret_box.seal(secret, owner=owner)
    line = _line(rt, Action.SECRET_ROTATED, endpoint_id or tenant_id, by=by, tenant_id=tenant_id)
    await endpoints.rotate(rt.db, owner, sealed, now=line.at, audit=line)
    return secret


async def send_test(rt: Runtime, endpoint_id: EndpointId, *, tenant_id: str) -> Delivery:
    """Have a test sent to an endpoint, once, in the way of all webhooks, though it be disabled.

    Raises:
        NotFound: There is no such endpoint.
        InvalidInput: Webhooks may not be sent to its URL any more.
    """
    endpoint = await endpoints.get_endpoint(rt.db, endpoint_id, tenant_id=tenant_id)
    check_url(rt, endpoint.url, pointer="")
    now = rt.now()
    event = {
        "type": TEST_EVENT,
        "timestamp": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "data": {"endpoint_id": str(endpoint.id)},
    }
    delivery = Delivery(
        id=DeliveryId(uuid7()),
        tenant_id=tenant_id,
        lane=endpoint.id,
        endpoint_id=endpoint.id,
        type=TEST_EVENT,
        body=strict.dumps(event),
        created_at=now,
        next_at=now,
    )
    await delivery_log.add(rt.db, delivery)
    rt.wakeups.notify("deliver")
    return delivery


async def replay(
    rt: Runtime, delivery_id: DeliveryId, *, tenant_id: str, by: Actor = COMMAND_LINE
) -> Delivery:
    """Have a delivery sent again, with the same id and bytes, and all of its retries.

    Raises:
        NotFound: There is no such delivery.
        Conflict: Its endpoint has been deleted, or is disabled.
    """
    line = _line(rt, Action.DELIVERY_REPLAYED, delivery_id, by=by, tenant_id=tenant_id)
    delivery = await delivery_log.replay(
        rt.db, delivery_id, tenant_id=tenant_id, now=line.at, audit=line
    )
    rt.wakeups.notify("deliver")
    return delivery


def check_url(rt: Runtime, url: str, *, pointer: str) -> None:
    """Check that webhooks may be sent to a URL, as far as it can be seen from the URL itself.

    Raises:
        InvalidInput: They may not; `pointer` names the field.
    """
    try:
        parsed = parse(url, rt.webhooks.policy)
    except UnsafeAddress as error:
        raise _unsafe(str(error), pointer) from error
    settings = rt.settings
    own = {
        _host(base) for base in (settings.public_base, settings.media_base, settings.local_base)
    }
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

    A previous secret that cannot be decrypted is left out.

    Raises:
        ConfigurationError: The latest one cannot be decrypted.
    """
    owner = endpoints.owner_of(tenant_id=tenant_id, endpoint_id=endpoint_id)
    stored = await endpoints.secrets(rt.db, owner, now=rt.now())
    if not stored and endpoint_id is None:
        sealed = rt.secret_box.seal(signing.new_secret(), owner=owner)
        await endpoints.first_secret(rt.db, owner, sealed, now=rt.now())
        stored = await endpoints.secrets(rt.db, owner, now=rt.now())
    if not stored:
        raise NotFound("there is no such endpoint")
    current, *previous = (partial(rt.secret_box.open, value, owner=owner) for value in stored)
    secrets = [current()]
    for open_previous in previous:
        with suppress(ConfigurationError):
            secrets.append(open_previous())
    return secrets
