"""Tenants in requests and responses."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field

from fleek.domain.tenant import Tenant, TenantLimits
from fleek.schemas.base import Schema

MOST: Final = 1_000_000_000
LARGEST: Final = 2**53  # bytes
FASTEST: Final = 1_000_000

LIVE: Final = "Most jobs that have not ended."
RUNNING: Final = "Most jobs that run at a time."
UPLOADED: Final = "Most bytes of all uploads that are kept."
RATE: Final = "Most requests per minute of each key; 0: no limit."


class LimitsRead(Schema):
    """What a tenant may have."""

    max_live_jobs: int | None = Field(description=LIVE)
    max_running: int | None = Field(description=RUNNING)
    max_uploaded_bytes: int | None = Field(default=None, description=UPLOADED)
    rate_per_minute: int | None = Field(description=RATE)

    @classmethod
    def of(cls, limits: TenantLimits) -> Self:
        """Present limits."""
        return cls(
            max_live_jobs=limits.max_live_jobs,
            max_running=limits.max_running,
            max_uploaded_bytes=limits.max_uploaded_bytes,
            rate_per_minute=limits.rate_per_minute,
        )


class TenantRead(Schema):
    """A tenant, for operators."""

    id: str
    created_at: datetime
    disabled_at: datetime | None = Field(description="Null: it is not disabled.")
    limits: LimitsRead = Field(description="Its own limits; null: as the settings say.")

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        """Present a tenant."""
        return cls(
            id=tenant.id,
            created_at=tenant.created_at,
            disabled_at=tenant.disabled_at,
            limits=LimitsRead.of(tenant.limits),
        )


class LimitsPatch(BaseModel):
    """Limits that are to change; what is not named stays, and null is as the settings say."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    max_live_jobs: int | None = Field(default=None, ge=1, le=MOST, description=LIVE)
    max_running: int | None = Field(default=None, ge=1, le=MOST, description=RUNNING)
    max_uploaded_bytes: int | None = Field(default=None, ge=1024, le=LARGEST, description=UPLOADED)
    rate_per_minute: int | None = Field(default=None, ge=0, le=FASTEST, description=RATE)


class TenantPatch(BaseModel):
    """What to change of a tenant; what is not named stays."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [{"limits": {"max_live_jobs": 500, "max_running": 20}}, {"disabled": True}]
        },
    )

    disabled: bool = Field(
        default=False, description="Whether its keys are refused and none of its jobs is started."
    )
    limits: LimitsPatch = Field(default_factory=LimitsPatch, description="Its own limits.")

    @property
    def enabled(self) -> bool | None:
        """Whether it is to be enabled; None: that stays."""
        return not self.disabled if "disabled" in self.model_fields_set else None

    def changed_limits(self) -> Mapping[str, int | None]:
        """Return the limits that were named."""
        return self.limits.model_dump(exclude_unset=True)
