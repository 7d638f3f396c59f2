"""Tenants: whose jobs they are, and what each may have."""

from dataclasses import fields
from datetime import datetime
from typing import Self

from fleek.domain.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What a tenant may have; None: no limit of its own."""

    max_live_jobs: int | None = None  # jobs that have not ended
    max_running: int | None = None  # jobs that run
    max_uploaded_bytes: int | None = None  # of all uploads that are kept
    rate_per_minute: int | None = None  # requests of each of its keys; 0: any number

    def over(self, defaults: Self) -> Self:
        """Return these limits, with those of `defaults` where there is none."""
        if self == NO_LIMITS:  # as most tenants; a request asks twice
            return defaults
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(
            **{
                name: getattr(defaults, name) if value is None else value
                for name, value in own.items()
            }
        )


NO_LIMITS = TenantLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant."""

    id: str
    created_at: datetime
    disabled_at: datetime | None = None  # since when its keys are refused; None: they are not
    limits: TenantLimits = NO_LIMITS  # that differ from the settings

    @property
    def enabled(self) -> bool:
        """Whether its keys are accepted and its jobs are started."""
        return self.disabled_at is None
