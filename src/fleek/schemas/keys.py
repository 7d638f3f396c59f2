"""API keys in requests and responses."""

from datetime import datetime
from typing import Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fleek.domain.access import ANONYMOUS, Caller, Scope
from fleek.domain.api_keys import NAME, ApiKey, ordered
from fleek.domain.tenant import TenantLimits
from fleek.schemas.base import Schema
from fleek.schemas.tenants import LimitsRead

DEFAULT_SCOPES = ordered(ANONYMOUS.scopes)
"""All but `admin`."""


FEATURES: Final = (
    "events",
    "history",
    "idempotency",
    "logs",
    "prefer_wait",
    "uploads",
    "webhooks",
)


class KeyCreate(BaseModel):
    """A key to be created."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {"name": "shop", "scopes": ["jobs:read", "jobs:write", "media:read"]},
            ]
        },
    )

    name: str = Field(pattern=f"^{NAME.pattern}$", description="What the key is for.")
    tenant: str | None = Field(
        default=None,
        pattern=f"^{NAME.pattern}$",
        description="Whose jobs it is for; a new tenant is created. Default: the caller's own.",
    )
    scopes: list[Scope] = Field(
        default_factory=lambda: list(DEFAULT_SCOPES),
        min_length=1,
        max_length=len(Scope),
        description="What it may do. Default: all but `admin`.",
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="When it becomes invalid; null: never."
    )


class KeyRead(Schema):
    """A key, without its secret."""

    id: str
    tenant: str
    name: str
    prefix: str = Field(description="The beginning of the key.")
    scopes: list[Scope]
    created_at: datetime
    created_by: str | None = Field(
        description="The id of the key that created it; null: the command line."
    )
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="Accurate to a minute.")

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Present a key."""
        return cls(**_fields(key))


class KeyCreated(KeyRead):
    """A new key, with its secret."""

    key: str = Field(description="The key itself. It is shown this once and stored nowhere.")

    @classmethod
    def with_secret(cls, key: ApiKey, secret: str) -> Self:
        """Present a new key."""
        return cls(key=secret, **_fields(key))


class CallerRead(Schema):
    """Who calls."""

    tenant: str
    key: str | None = Field(
        description="The id of the key, or `setting:` and its name; null: without a key."
    )
    scopes: list[Scope] = Field(description="What the caller may do.")
    limits: LimitsRead = Field(description="What the tenant may have; null: no limit.")
    features: dict[str, bool] = Field(
        default_factory=lambda: dict.fromkeys(FEATURES, True),
        description="What this release can do; a name that is missing: it cannot.",
    )

    @classmethod
    def of(cls, caller: Caller, limits: TenantLimits) -> Self:
        """Present a caller; `admin` includes all other scopes."""
        scopes = frozenset(scope for scope in Scope if caller.may(scope))
        return cls(
            tenant=caller.tenant_id,
            key=caller.key_id,
            scopes=list(ordered(scopes)),
            limits=LimitsRead.of(limits),
        )


def _fields(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "tenant": key.tenant_id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": ordered(key.scopes),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }
