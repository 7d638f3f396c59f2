"""The audit log: who did what that an operator may have to account for."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from fleek.domain.values import dataclass


class Action(StrEnum):
    """What was done. Names are public and stable."""

    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    KEYS_LISTED = "keys.listed"
    ADMIN_REFUSED = "admin.refused"
    QUEUE_PAUSED = "queue.paused"
    QUEUE_RESUMED = "queue.resumed"
    JOB_PURGED = "job.purged"
    JOBS_PURGED = "jobs.purged"
    ENDPOINT_CREATED = "endpoint.created"
    ENDPOINT_UPDATED = "endpoint.updated"
    ENDPOINT_DELETED = "endpoint.deleted"
    ENDPOINT_DISABLED = "endpoint.disabled"
    SECRET_ROTATED = "secret.rotated"  # noqa: S105 - a name
    DELIVERY_REPLAYED = "delivery.replayed"
    TENANT_LIMITED = "tenant.limited"
    TENANT_DISABLED = "tenant.disabled"
    TENANT_ENABLED = "tenant.enabled"
    BUDGET_SET = "budget.set"
    BUDGET_REMOVED = "budget.removed"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a caller of the API, or whoever runs a command where the service runs."""

    key_id: str | None = None
    request_id: str | None = None

    @property
    def name(self) -> str:
        """The id of the key, or how one acts without a key."""
        return self.key_id or ("command line" if self.request_id is None else "anonymous")


COMMAND_LINE: Final = Actor()
SERVICE: Final = Actor("service")
"""The service itself: no key has this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the audit log."""

    at: datetime
    actor: str
    request_id: str | None
    tenant_id: str
    action: Action
    target: str  # the id or the name of what was acted on
    detail: Mapping[str, Any] = field(default_factory=dict)


def entry(
    action: Action, target: str, *, by: Actor, tenant_id: str, at: datetime, **detail: Any
) -> AuditEntry:
    """Return the line of an action."""
    return AuditEntry(
        at=at,
        actor=by.name,
        request_id=by.request_id,
        tenant_id=tenant_id,
        action=action,
        target=target,
        detail=detail,
    )
