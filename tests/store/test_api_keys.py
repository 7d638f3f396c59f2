"""API keys: stored as a digest, limited in number, revoked permanently."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from fleek.domain.access import Scope
from fleek.domain.api_keys import ApiKey, KeyId, digest, id_of, new_key
from fleek.domain.errors import Conflict, NotFound
from fleek.store import api_keys
from fleek.store.database import Database
from samples import NOON, SECOND

MINUTE = timedelta(minutes=1)


def a_key(**fields: object) -> tuple[ApiKey, str]:
    """Return a new key and its secret."""
    key_id, secret = new_key()
    key = ApiKey(
        id=key_id,
        tenant_id="acme",
        name="shop",
        scopes=frozenset({Scope.JOBS_READ, Scope.MEDIA_READ}),
        created_at=NOON,
    )
    return replace(key, **fields), secret  # type: ignore[arg-type]


async def stored(db: Database, **fields: object) -> ApiKey:
    """Store a new key."""
    key, secret = a_key(**fields)
    await api_keys.insert_key(db, key, digest(secret))
    return key


async def test_a_key_is_found_by_its_id(db: Database) -> None:
    """It is returned with the digest and without the secret."""
    key, secret = a_key(expires_at=NOON + MINUTE, created_by="other")

    await api_keys.insert_key(db, key, digest(secret))

    assert await api_keys.find(db, key.id) == (key, digest(secret))
    assert await api_keys.find(db, KeyId("a" * 12)) is None


async def test_the_secret_is_stored_nowhere(db: Database) -> None:
    """A reader of the database cannot use the API with it."""
    key, secret = a_key()
    await api_keys.insert_key(db, key, digest(secret))

    async with db.read() as tx:
        (row,) = (await tx.execute(text("SELECT * FROM api_keys"))).all()

    assert secret.rpartition("_")[2] not in repr(row)


async def test_the_existence_of_any_key_is_stored(db: Database) -> None:
    """Revoked keys count: access does not become anonymous again by itself."""
    before = await api_keys.exist(db)
    key = await stored(db)
    await api_keys.revoke(db, key.id, now=NOON)

    assert not before
    assert await api_keys.exist(db)


async def test_a_tenant_is_created_with_its_first_key(db: Database) -> None:
    """The default tenant exists from the start."""
    for tenant_id in ("acme", "acme", "default"):
        await stored(db, tenant_id=tenant_id)

    async with db.read() as tx:
        tenants = list(await tx.scalars(text("SELECT id FROM tenants ORDER BY id")))

    assert tenants == ["acme", "default"]


async def test_keys_are_listed_newest_first(db: Database) -> None:
    """Those of one tenant, or of all."""
    old = await stored(db)
    new = await stored(db, created_at=NOON + SECOND)
    other = await stored(db, tenant_id="other", created_at=NOON + MINUTE)

    assert await api_keys.list_keys(db) == [other, new, old]
    assert await api_keys.list_keys(db, tenant_id="acme") == [new, old]


async def test_a_key_is_revoked_once(db: Database) -> None:
    """The time of the first revocation stays."""
    key = await stored(db)

    revoked = await api_keys.revoke(db, key.id, now=NOON)
    again = await api_keys.revoke(db, key.id, now=NOON + MINUTE)

    assert revoked == again == replace(key, revoked_at=NOON)
    assert not revoked.is_valid(NOON)
    assert await api_keys.list_keys(db) == [revoked]


async def test_an_unknown_key_cannot_be_revoked(db: Database) -> None:
    """A typing error must not look like a revocation."""
    with pytest.raises(NotFound):
        await api_keys.revoke(db, KeyId("a" * 12), now=NOON)


async def test_the_use_of_a_key_is_stored_once_a_minute(db: Database) -> None:
    """Several processes together store it once, too."""
    key = await stored(db)

    for after in (SECOND, MINUTE, MINUTE + SECOND):
        await api_keys.note_use(db, key.id, now=NOON + after)

    (found,) = await api_keys.list_keys(db)
    assert found.last_used_at == NOON + MINUTE + SECOND


async def test_the_number_of_keys_per_tenant_is_limited(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revoked keys and those of other tenants do not count."""
    monkeypatch.setattr(api_keys, "MOST_KEYS", 2)
    first = await stored(db)
    await stored(db)
    await stored(db, tenant_id="other")

    with pytest.raises(Conflict):
        await stored(db)
    await api_keys.revoke(db, first.id, now=NOON)
    await stored(db)


def test_the_checksum_of_a_key_is_verified() -> None:
    """A mistyped key causes no query."""
    key_id, secret = new_key()
    swapped = secret[:-1] + ("a" if secret[-1] != "a" else "b")

    assert secret.startswith(f"fleek_{key_id}_")
    assert len(secret) == 6 + 12 + 1 + 43 + 6
    assert id_of(secret) == key_id
    assert [id_of(text) for text in (swapped, secret[:-1], f"{secret} ", "")] == [None] * 4


def test_a_key_expires_at_its_time() -> None:
    """It is refused from that moment on."""
    key, _ = a_key(expires_at=NOON)

    assert key.is_valid(NOON - SECOND)
    assert not key.is_valid(NOON)
