"""API keys: who calls with one, and whether callers need one.

A key is read from the database at most twice a second and process, so a revocation takes effect within a
second. What is not there is remembered for as long.
"""

import hmac
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from fleek.domain.access import Caller, Scope
from fleek.domain.api_keys import ApiKey, KeyId, digest, id_of, new_key
from fleek.domain.audit import COMMAND_LINE, Action, Actor, AuditEntry, entry
from fleek.domain.errors import ConfigurationError, DatabaseUnavailable
from fleek.domain.job import DEFAULT_TENANT
from fleek.engine.loops import ShieldedTasks, run_logged
from fleek.settings import LOOPBACK, Settings
from fleek.store import api_keys, audit
from fleek.store.api_keys import USE_PRECISION, StoredKey

if TYPE_CHECKING:
    from fleek.engine.runtime import Runtime

FRESH_SECONDS: Final = 0.5
MOST_CACHED: Final = 4096
CONFIGURED: Final = "setting:"  # before the name of a key in the settings, in place of an id
NO_DIGEST: Final = bytes(32)  # of no key: compared with if a key is unknown

Value = TypeVar("Value")


class TimedCache(Generic[Value]):
    """Values for a limited time; of too many, the oldest are dropped."""

    def __init__(self, *, seconds: float, most: int = MOST_CACHED) -> None:
        self._seconds = seconds
        self._most = most
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, *, now: float) -> tuple[Value] | None:
        """Return a value, alone in a tuple; None: there is none that is fresh."""
        found = self._values.get(name)
        return None if found is None or now - found[0] >= self._seconds else (found[1],)

    def put(self, name: str, value: Value, *, now: float) -> None:
        """Store a value."""
        self._values.pop(name, None)
        if len(self._values) >= self._most:
            self._values.popitem(last=False)
        self._values[name] = (now, value)


class KeyCache:
    """What one process knows of keys."""

    def __init__(self) -> None:
        self.required = False  # once it is True, for good
        self.asked_at: float | None = None  # when the database was asked whether there are keys
        self.keys = TimedCache[StoredKey | None](seconds=FRESH_SECONDS)
        self.used = TimedCache[None](seconds=USE_PRECISION.total_seconds())
        self.media_secret: bytes | None = None  # see `fleek.engine.media_links`
        self.media_secret_after = float("-inf")  # when it may be read again
        self.tasks = ShieldedTasks()  # that store the use of keys


async def keys_required(rt: "Runtime") -> bool:
    """Whether callers need a key.

    They do if `API_KEYS` is set, if a key was ever created, also one that has expired or was revoked
    since, and on an address that is not loopback unless `ALLOW_ANONYMOUS` is set.

    Raises:
        DatabaseUnavailable: It is not known.
    """
    cache, now = rt.keys, rt.steady()
    if cache.required or (cache.asked_at is not None and now - cache.asked_at < FRESH_SECONDS):
        return cache.required
    try:
        required = are_configured(rt.settings) or await api_keys.exist(rt.db)
    except DatabaseUnavailable:
        if cache.asked_at is None:
            raise
        return cache.required  # as it was: nobody can create a key now
    cache.asked_at = now
    if required:  # else another request may know more by now
        cache.required = True
    return cache.required


def are_configured(settings: Settings) -> bool:
    """Whether the settings alone require keys."""
    exposed = settings.api_host not in LOOPBACK and not settings.allow_anonymous
    return exposed or bool(settings.configured_keys)


async def check_exposure(rt: "Runtime") -> None:
    """Refuse to serve others if none of them could have a key.

    Raises:
        ConfigurationError: The address is not loopback, and there are no keys.
    """
    settings = rt.settings
    closed = settings.api_host in LOOPBACK or settings.allow_anonymous or settings.configured_keys
    if not closed and not await api_keys.exist(rt.db):
        raise ConfigurationError(
            f"API_HOST={settings.api_host} is not a loopback address, so callers need keys: create "
            "one with fleek keys create, or set API_KEYS, or ALLOW_ANONYMOUS=true"
        )


async def caller_of(rt: "Runtime", key: str) -> Caller | None:
    """Return who calls with a key; None: it is unknown, revoked or expired.

    Raises:
        DatabaseUnavailable: It is not known.
    """
    given = digest(key)
    if (configured := _configured(rt.settings.configured_keys, given)) is not None:
        return configured
    key_id = id_of(key)
    if key_id is None:
        return None
    stored = await _stored(rt, key_id)
    matches = hmac.compare_digest(given, NO_DIGEST if stored is None else stored.digest)
    now = rt.now()
    if stored is None or not matches or not stored.key.is_valid(now):
        return None
    _note_use(rt, stored.key, now)
    return stored.key.caller


async def is_current(rt: "Runtime", caller: Caller) -> bool:
    """Whether a caller whose request goes on may keep it: the key is not revoked or expired.

    Without a key: whether callers still need none. The tenant is not looked at.

    Raises:
        DatabaseUnavailable: It is not known.
    """
    if caller.key_id is None:
        return not await keys_required(rt)
    if caller.key_id.startswith(CONFIGURED):
        return caller.key_id.removeprefix(CONFIGURED) in rt.settings.configured_keys
    stored = await _stored(rt, KeyId(caller.key_id))
    return stored is not None and stored.key.is_valid(rt.now())


def _configured(keys: Mapping[str, bytes], given: bytes) -> Caller | None:
    """Compare with each of the keys in the settings, so that time does not show which one it is."""
    names = [name for name, known in keys.items() if hmac.compare_digest(known, given)]
    return Caller(DEFAULT_TENANT, f"{CONFIGURED}{names[0]}", frozenset(Scope)) if names else None


async def _stored(rt: "Runtime", key_id: KeyId) -> StoredKey | None:
    began = rt.steady()
    cached = rt.keys.keys.get(key_id, now=began)
    if cached is not None:
        return cached[0]
    found = await api_keys.find(rt.db, key_id)
    rt.keys.keys.put(key_id, found, now=began)
    return found


def _note_use(rt: "Runtime", key: ApiKey, now: datetime) -> None:
    """Let the use of a key be stored, at most once a minute, beside the request."""
    recent = key.last_used_at is not None and now - key.last_used_at < USE_PRECISION
    if recent or rt.keys.used.get(key.id, now=rt.steady()) is not None:
        return
    rt.keys.used.put(key.id, None, now=rt.steady())
    note = partial(api_keys.note_use, rt.db, key.id, now=now)
    rt.keys.tasks.begin(run_logged(rt, "key_use", note))


async def create_key(
    rt: "Runtime",
    *,
    name: str,
    tenant_id: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None = None,
    by: Actor = COMMAND_LINE,
) -> tuple[ApiKey, str]:
    """Create a key; returns it, and what its owner has to keep: it is stored nowhere.

    Raises:
        Conflict: The tenant has as many keys as it may.
    """
    key_id, secret = new_key()
    key = ApiKey(
        id=key_id,
        tenant_id=tenant_id,
        name=name,
        scopes=frozenset(scopes),
        created_at=rt.now(),
        created_by=by.key_id,
        expires_at=expires_at,
    )
    detail = {"name": name, "scopes": sorted(key.scopes)}
    line = entry(
        Action.KEY_CREATED, key_id, by=by, tenant_id=tenant_id, at=key.created_at, **detail
    )
    await api_keys.insert_key(rt.db, key, digest(secret), audit=line)
    return key, secret


async def revoke_key(rt: "Runtime", key_id: KeyId, *, by: Actor = COMMAND_LINE) -> ApiKey:
    """Make a key invalid for good; one that was revoked before stays as it is.

    Raises:
        NotFound: There is none.
    """
    now = rt.now()

    def line(key: ApiKey) -> AuditEntry:
        return entry(
            Action.KEY_REVOKED, key.id, by=by, tenant_id=key.tenant_id, at=now, name=key.name
        )

    return await api_keys.revoke(rt.db, key_id, now=now, audit=line)


async def note_foreign_keys(
    rt: "Runtime", shown: Sequence[ApiKey], who: Caller, *, by: Actor
) -> None:
    """Write into the audit log that an operator reads the keys of other tenants, if there are any."""
    foreign = sorted({key.tenant_id for key in shown} - {who.tenant_id})
    lines = [
        entry(Action.KEYS_LISTED, tenant, by=by, tenant_id=tenant, at=rt.now())
        for tenant in foreign
    ]
    if lines:
        await audit.write(rt.db, *lines)
