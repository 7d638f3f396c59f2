"""Authentication and authorization of requests."""

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi.requests import Request
from starlette.datastructures import Headers

from fleek.api import upload_addresses
from fleek.api.admin_refusals import AdminRefusals
from fleek.api.headers import headers_of
from fleek.api.peers import caller_address
from fleek.api.request_rates import RequestRates, bucket_of, refusal
from fleek.domain.access import ANONYMOUS, BY_ADDRESS, SIGNED, Caller, Required, Scope
from fleek.domain.api_keys import PREFIX, id_of
from fleek.domain.audit import Actor
from fleek.domain.errors import (
    AmbiguousCredentials,
    Forbidden,
    InsufficientScope,
    KeyInQuery,
    RateLimited,
    TenantDisabled,
    TooMany,
    Unauthorized,
)
from fleek.domain.job import DEFAULT_TENANT, JobId
from fleek.domain.request_rate import request_rate
from fleek.engine import media_links
from fleek.engine.access import caller_of, keys_required
from fleek.engine.runtime import Runtime
from fleek.engine.tenants import effective_limits, find_tenant
from fleek.settings import LOOPBACK
from fleek.store import jobs

SCHEMES: Final = frozenset({"bearer", "key", "token"})
"""Of ``Authorization``, in lower case; other schemes are those of a proxy."""

KEY_HEADERS: Final = frozenset({b"authorization", b"x-api-key"})
IN_QUERY: Final = frozenset(
    {"api_key", "api-key", "apikey", "key", "token", "access_token", "authorization", "x-api-key"}
)
FORWARDED: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-real-ip"})
"""Headers of a proxy, whose own address says nothing about the caller."""

LOCAL_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{0,5})?", re.IGNORECASE)
MONITOR: Final = Caller(DEFAULT_TENANT, None, frozenset({Scope.METRICS_READ}))

ACCESS_ERRORS: Final = (
    *(AmbiguousCredentials, Unauthorized, Forbidden, TenantDisabled, TooMany, RateLimited),
)

NO_KEY: Final = "this needs a valid API key, as Authorization: Bearer KEY or X-API-Key: KEY"
STALE_ADDRESS: Final = (
    "the address has expired or was changed, or its key is not valid any more: ask for a new one"
)
REFUSED_PER_MINUTE: Final = 20
WINDOW_SECONDS: Final = 60.0
MOST_PEERS: Final = 4096
UUID_LENGTH: Final = 36


class RefusedKeys:
    """Counts refused requests by peer, within a minute."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()  # begin, number

    def add(self, peer: str) -> None:
        """Count a refused request.

        Raises:
            TooMany: There were too many of this peer.
        """
        now = self._clock()
        begin, number = self._peers.pop(peer, (now, 0))
        if now - begin >= WINDOW_SECONDS:
            begin, number = now, 0
        while len(self._peers) >= MOST_PEERS:
            self._peers.popitem(last=False)
        self._peers[peer] = (begin, number + 1)
        if number >= REFUSED_PER_MINUTE:
            left = timedelta(seconds=begin + WINDOW_SECONDS - now)
            raise TooMany("too many requests without a valid API key", retry_after=left)


async def authorize(request: Request, scope: Required) -> None:
    """Find out who calls, for `caller`, and check the rate of requests and the scope.

    The body has not been read by then.

    Raises:
        AmbiguousCredentials: There are several keys.
        KeyInQuery: There is a key in the address.
        Unauthorized: There is no valid key, and callers need one.
        TooMany: The same, too often.
        RateLimited: There were too many requests lately.
        TenantDisabled: The tenant of the caller may do nothing.
        InsufficientScope: The caller may not do this.
    """
    state = request.app.state
    rt: Runtime = state.runtime
    address = caller_address(request.scope, state.proxies)
    found = await _caller(request, rt, scope)
    if found is None:
        _note_refusal(request, scope, None, Unauthorized.code)
        refused: RefusedKeys = state.refused_keys
        refused.add(address or "")
        raise Unauthorized(STALE_ADDRESS if scope == BY_ADDRESS else NO_KEY)
    request.scope["fleek.caller"] = found
    if found is not MONITOR:
        tenant = await find_tenant(rt, found.tenant_id)
        if (bucket := bucket_of(found, address)) is not None:
            await _check_rate(request, bucket, effective_limits(rt, tenant).rate_per_minute)
        if tenant is not None and not tenant.enabled:
            raise TenantDisabled("the tenant of this key is disabled: ask the operator")
    if not found.may(scope):
        _note_refusal(request, scope, found, InsufficientScope.code)
        raise InsufficientScope(f"this needs a key with the scope {scope}")


def _note_refusal(request: Request, scope: Required, who: Caller | None, code: str) -> None:
    """Count a refused request of an operators' route for the audit log."""
    if scope is not Scope.ADMIN:
        return
    refusals: AdminRefusals = request.app.state.admin_refusals
    key_id, tenant_id = (None, None) if who is None else (who.key_id, who.tenant_id)
    by = Actor(key_id, str(request.scope.get("fleek.request_id", "")))
    route = f"{request.method} {request.scope['route'].path}"
    refusals.add(by, tenant_id=tenant_id, route=route, code=code)


async def _check_rate(request: Request, bucket: str, per_minute: int | None) -> None:
    """Count the request, and let its response say how many more there may be."""
    if not per_minute:
        return
    rates: RequestRates = request.app.state.request_rates
    quota = await rates.take(bucket, request_rate(per_minute))
    request.scope["fleek.quota"] = quota
    if quota.wait is not None:
        raise refusal(quota)


async def _caller(request: Request, rt: Runtime, scope: Required) -> Caller | None:
    if scope is Scope.METRICS_READ and is_local(request):
        return MONITOR
    if not await keys_required(rt):
        keyless = KEY_HEADERS.isdisjoint(headers_of(request.scope))
        if keyless or not await _shows_first_key(request, rt):
            return ANONYMOUS
    await media_links.prepare(rt)
    _check_query(request)
    signed = await _by_address(request, rt, scope)
    if signed is not None or scope == BY_ADDRESS:
        return signed
    key = presented_key(request.headers)
    if key is None:
        return None
    token = rt.settings.metrics_token
    if token is not None and hmac.compare_digest(token.get_secret_value().encode(), key.encode()):
        return MONITOR
    return await caller_of(rt, key)


async def _shows_first_key(request: Request, rt: Runtime) -> bool:
    """Whether the caller has a key that is newer than what this process knows: keys are required then.

    Else a caller with the very first key would count as one without a key for half a second, and its job
    could become that of another tenant.
    """
    with suppress(AmbiguousCredentials):
        key = presented_key(request.headers)
        if key is not None and id_of(key) is not None and await caller_of(rt, key) is not None:
            rt.keys.required = True
    return rt.keys.required


async def _by_address(request: Request, rt: Runtime, scope: Required) -> Caller | None:
    if scope == BY_ADDRESS:
        return await upload_addresses.caller_of(request, rt)
    return await _signed(request, rt) if scope is Scope.MEDIA_READ else None


async def _signed(request: Request, rt: Runtime) -> Caller | None:
    """Return the caller of a signed address: it may read files of one tenant, and names one of them.

    Raises:
        NotFound: The job of the file has been removed.
    """
    given = request.query_params
    name, expiry, signature = request.path_params.get("name"), given.get("exp"), given.get("sig")
    if name is None or expiry is None or signature is None:
        return None
    if not media_links.is_valid(rt.keys.media_secret, name, expiry, signature, now=rt.now()):
        return None
    job = await jobs.get_any_tenant(rt.db, JobId(UUID(name[:UUID_LENGTH])))
    return Caller(job.tenant_id, None, SIGNED)


def is_local(request: Request) -> bool:
    """Whether the caller is on this machine, and not a proxy that speaks for others."""
    return (
        request.client is not None
        and request.client.host in LOOPBACK
        and LOCAL_HOST.fullmatch(request.headers.get("host", "")) is not None
        and not any(name in request.headers for name in FORWARDED)
    )


def presented_key(headers: Headers) -> str | None:
    """Return the key that a request shows; None: it shows none.

    Raises:
        AmbiguousCredentials: It shows several.
    """
    if KEY_HEADERS.isdisjoint(name for name, _ in headers.raw):
        return None
    given = headers.getlist("authorization"), headers.getlist("x-api-key")
    if any(len(values) > 1 for values in given):
        raise AmbiguousCredentials("the same header must not be given twice")
    keys = {value.strip() for value in given[1]}
    for value in given[0]:
        scheme, _, credentials = value.strip().partition(" ")
        if scheme.lower() in SCHEMES:
            keys.add(_secret(scheme, credentials.strip()))
    if len(keys) > 1:
        raise AmbiguousCredentials("Authorization and X-API-Key must not contain different keys")
    return keys.pop() if keys else None


def _secret(scheme: str, credentials: str) -> str:
    """Return the key without the id that fal's clients put before it: ``Key id:K``."""
    return credentials.rpartition(":")[2] if scheme.lower() == "key" else credentials


def _check_query(request: Request) -> None:
    """Refuse a key in the address, valid or not.

    Raises:
        KeyInQuery: There is one.
    """
    query = request.scope["query_string"]
    if not query:
        return
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.lower() in IN_QUERY or value.startswith(PREFIX):
            raise KeyInQuery(
                "an address is no place for a key, as logs keep it: send it in a header, and revoke "
                "this one"
            )
