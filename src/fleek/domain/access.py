"""Callers and their scopes."""

from enum import StrEnum
from typing import Final, Literal

from fleek.domain.job import DEFAULT_TENANT
from fleek.domain.values import dataclass


class Scope(StrEnum):
    """A permission of a key. Names are public and stable."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    MEDIA_READ = "media:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    USAGE_READ = "usage:read"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"  # includes all others


ANY_SCOPE: Final = "any"
"""In place of a scope: every caller may, but is known."""

BY_ADDRESS: Final = "address"
"""In place of a scope: who has the signed address of an upload may do what it names, without a key."""

Required = Scope | Literal["any", "address"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant and the key of a request."""

    tenant_id: str
    key_id: str | None  # None: without a key
    scopes: frozenset[Scope]

    @property
    def by_address(self) -> bool:
        """Whether a signed address stands for a key."""
        return self.key_id is None and self.scopes == SIGNED

    def may(self, scope: Required) -> bool:
        """Whether the scopes include this one."""
        if scope in {ANY_SCOPE, BY_ADDRESS}:  # the latter has been checked by then
            return True
        return scope in self.scopes or Scope.ADMIN in self.scopes


SIGNED: Final = frozenset({Scope.MEDIA_READ})
"""What a signed address permits, to whoever has it: to read what it names."""

ANONYMOUS: Final = Caller(DEFAULT_TENANT, None, frozenset(Scope) - {Scope.ADMIN})
"""The caller of a request without a key, if keys are not required."""
