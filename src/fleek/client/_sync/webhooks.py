"""Webhooks in the synchronous client: endpoints, and the log of deliveries."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from fleek.client import wire
from fleek.client._sync.paging import paged
from fleek.client.models import (
    DeliveryDetail,
    DeliveryRead,
    EndpointCreated,
    EndpointRead,
    SecretRead,
)
from fleek.domain.webhooks import DeliveryState

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection


class Webhooks:
    """The webhooks of the tenant. All methods raise errors of `fleek.client.errors`."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def endpoints(self) -> list[EndpointRead]:
        """Return all endpoints, oldest first."""
        answer = self._connection.ask("GET", wire.ENDPOINTS)
        return wire.parse_list(EndpointRead, answer.value)

    def create(
        self, url: str, *, events: Sequence[str] | None = None, description: str | None = None
    ) -> EndpointCreated:
        """Have events of all jobs sent to an address; None: those that end a job.

        The secret of the endpoint is in this result only.

        Raises:
            InvalidInput: Webhooks may not be sent there.
            Conflict: There are 20 endpoints already.
        """
        chosen = None if events is None else list(events)
        content = wire.body({"url": url, "events": chosen, "description": description})
        answer = self._connection.ask("POST", wire.ENDPOINTS, content=content, idempotent=False)
        return wire.parse(EndpointCreated, answer.value)

    def update(
        self,
        endpoint_id: UUID | str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> EndpointRead:
        """Change an endpoint; None: as it is. Enabling it forgets its failures."""
        chosen = None if events is None else list(events)
        fields = {"url": url, "events": chosen, "description": description, "enabled": enabled}
        answer = self._connection.ask(
            "PATCH", wire.endpoint_path(endpoint_id), content=wire.body(fields)
        )
        return wire.parse(EndpointRead, answer.value)

    def delete(self, endpoint_id: UUID | str) -> EndpointRead:
        """Delete an endpoint, and return it as it was."""
        answer = self._connection.ask("DELETE", wire.endpoint_path(endpoint_id))
        return wire.parse(EndpointRead, answer.value)

    def rotate(self, endpoint_id: UUID | str) -> str:
        """Make a new secret for an endpoint and return it; for a day the previous one signs, too."""
        path = wire.endpoint_path(endpoint_id, "rotate")
        answer = self._connection.ask("POST", path, idempotent=False)
        return wire.parse(SecretRead, answer.value).secret

    def secret(self) -> str:
        """Return the secret that signs webhooks that go to the `webhook_url` of a job."""
        answer = self._connection.ask("GET", "/api/v1/webhooks/secret")
        return wire.parse(SecretRead, answer.value).secret

    def test(self, endpoint_id: UUID | str) -> DeliveryRead:
        """Have a test sent to an endpoint, once; see `delivery` for what came of it."""
        path = wire.endpoint_path(endpoint_id, "test")
        answer = self._connection.ask("POST", path, idempotent=False)
        return wire.parse(DeliveryRead, answer.value)

    def deliveries(
        self,
        *,
        endpoint: UUID | str | None = None,
        job: UUID | str | None = None,
        state: DeliveryState | None = None,
        limit: int | None = None,
    ) -> Iterator[DeliveryRead]:
        """List at most `limit` deliveries, newest first; pages are requested when needed."""
        filters = {
            "endpoint": endpoint and str(endpoint),
            "job": job and str(job),
            "state": state and str(state),
        }
        return paged(self._connection, wire.DELIVERIES, DeliveryRead, filters, limit=limit)

    def delivery(self, delivery_id: str) -> DeliveryDetail:
        """Return a delivery with its body and the log of its attempts."""
        answer = self._connection.ask("GET", wire.delivery_path(delivery_id))
        return wire.parse(DeliveryDetail, answer.value)

    def replay(self, delivery_id: str) -> DeliveryRead:
        """Have a delivery sent again, with the same id and bytes.

        Raises:
            Conflict: Its endpoint has been deleted, or is disabled.
        """
        answer = self._connection.ask("POST", wire.delivery_path(delivery_id, "replay"))
        return wire.parse(DeliveryRead, answer.value)
