"""Outgoing webhooks: who receives which events, and when a delivery is tried again."""

import random
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from fleek.domain.job import JobId
from fleek.domain.values import dataclass

EndpointId = NewType("EndpointId", UUID)
DeliveryId = NewType("DeliveryId", UUID)  # version 7: sorts by time

DELAYS: Final = (
    *(timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10)),
    *(timedelta(minutes=30), timedelta(hours=1), timedelta(hours=3), timedelta(hours=6)),
    *(timedelta(hours=12), timedelta(hours=24), timedelta(hours=24)),
)
"""Between the attempts of one delivery: three days in all."""
JITTER: Final = 0.2  # of a delay, in either direction
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)
FAILING_FOR: Final = timedelta(days=5)  # until an endpoint is disabled
QUIET: Final = timedelta(days=2)  # without a failure, after which the next one is the first again
ROTATION: Final = timedelta(hours=24)  # how long the previous secret still signs
MAX_ENDPOINTS: Final = 20  # of a tenant
TEST_EVENT: Final = "webhook.test"
DISABLED_EVENT: Final = "endpoint.disabled"
"""For the other endpoints of the tenant that have chosen it."""

LANES: Final = UUID("6f0d0c32-6c1c-4f0a-9a55-7c9e1a6f2d10")  # the namespace of lanes of URLs


class DeliveryState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"  # waits for its next attempt, or is being sent
    DELIVERED = "delivered"  # answered with 2xx
    FAILED = "failed"  # given up; it can be replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a tenant's webhooks go."""

    id: EndpointId
    tenant_id: str
    url: str
    events: tuple[str, ...]  # the types that it receives
    description: str = ""
    enabled: bool = True
    disabled_reason: str | None = None  # None: by the tenant, or not at all
    failing_since: datetime | None = None  # the first failure since the latest success
    last_failure_at: datetime | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one receiver. Its id and its body never change."""

    id: DeliveryId
    tenant_id: str
    lane: UUID  # deliveries to one receiver; see `lane_of`
    endpoint_id: EndpointId | None = None  # None: to the job's own URL
    url: str | None = None  # of the job; an endpoint's is read at each attempt
    job_id: JobId | None = None  # None: it is about no job
    seq: int = 0  # the job's version with this event
    type: str
    body: bytes
    form: str | None = None  # see `fleek.domain.job.JobWebhook`
    created_at: datetime
    state: DeliveryState = DeliveryState.PENDING
    failures: int = 0  # since it was created or replayed
    attempts: int = 0  # all of them
    next_at: datetime | None = None  # of the next attempt, or the end of the lease of one
    last_status: int | None = None
    last_reason: str | None = None
    ended_at: datetime | None = None

    @property
    def message_id(self) -> str:
        """The id that the receiver sees, the same at each attempt."""
        return f"msg_{self.id.hex}"

    @property
    def is_test(self) -> bool:
        """Whether a caller asked for it to try an endpoint: it is sent once."""
        return self.type == TEST_EVENT


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryAttempt:
    """One attempt to deliver, as it is kept in the delivery log."""

    delivery_id: DeliveryId
    number: int  # from 1
    at: datetime
    seconds: float
    status: int | None  # of the response; None: there was none
    reason: str  # a code, and after a colon what is known besides


def lane_of(url: str, *, tenant_id: str) -> UUID:
    """Return the lane of deliveries to a job's own URL: one for each tenant and host."""
    parts = urlsplit(url)
    return uuid5(LANES, f"{tenant_id}\n{parts.scheme}://{parts.netloc.lower()}")


def retry_delay(failures: int, *, retry_after: timedelta | None = None) -> timedelta | None:
    """Draw the time until the next attempt after so many failures; None: there is none."""
    if failures > len(DELAYS):
        return None
    delay = DELAYS[failures - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret
    return delay if retry_after is None else max(delay, min(retry_after, LONGEST_RETRY_AFTER))
