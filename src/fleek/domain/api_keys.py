"""API keys: their form, and what is known of each.

``fleek_<id>_<secret><checksum>``: a key can be recognized in a log or a repository, and a mistyped one is
refused without a look at the database. Only its SHA-256 is stored.

Source of the form: https://github.blog/engineering/behind-githubs-new-authentication-token-formats/
"""

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, NewType
from zlib import crc32

from fleek.domain.access import Caller, Scope
from fleek.domain.values import dataclass

KeyId = NewType("KeyId", str)  # public: it is in lists, logs and jobs

PREFIX: Final = "fleek_"
BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 12
SECRET_LENGTH: Final = 43  # 256 bits
CHECKSUM_LENGTH: Final = 6
FORM: Final = re.compile(
    rf"{PREFIX}([a-z2-7]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH}}}([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The name of a key, or of a tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key, except the key itself."""

    id: KeyId
    tenant_id: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    created_by: str | None = None  # the key that made it; None: the command line
    expires_at: datetime | None = None  # None: never
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None  # accurate to a minute

    @property
    def prefix(self) -> str:
        """The beginning of the key, by which its owner recognizes it."""
        return f"{PREFIX}{self.id}"

    def is_valid(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(self.tenant_id, self.id, self.scopes)


def new_key() -> tuple[KeyId, str]:
    """Return the id of a new key, and the key itself."""
    key_id = _random(BASE32, ID_LENGTH)
    body = f"{PREFIX}{key_id}_{_random(BASE62, SECRET_LENGTH)}"
    return KeyId(key_id), body + _checksum(body)


def id_of(key: str) -> KeyId | None:
    """Return the id that a key names; None: it has not the form of a key."""
    found = FORM.fullmatch(key)
    if found is None or _checksum(key[:-CHECKSUM_LENGTH]) != found[2]:
        return None
    return KeyId(found[1])


def digest(key: str) -> bytes:
    """Return what is stored in place of a key."""
    return sha256(key.encode()).digest()


def ordered(scopes: frozenset[Scope]) -> Sequence[Scope]:
    """Return scopes in the order in which they are declared."""
    return [scope for scope in Scope if scope in scopes]


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _checksum(text: str) -> str:
    number, digits = crc32(text.encode()), ""
    for _ in range(CHECKSUM_LENGTH):  # 62 ** 6 is more than 2 ** 32
        number, digit = divmod(number, len(BASE62))
        digits = BASE62[digit] + digits
    return digits
