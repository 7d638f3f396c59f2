"""Version 1: outgoing webhooks."""

import re
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Path, Query, Response
from fastapi.requests import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fleek.api.deps import (
    JOB_ID,
    NEXT_LINK,
    RuntimeDep,
    StrictInt,
    actor,
    caller,
    link,
    location_of,
)
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    NotFound,
    TooLarge,
    Unreadable,
    Unsupported,
)
from fleek.domain.job import JobId
from fleek.domain.webhooks import DeliveryId, DeliveryState, EndpointId
from fleek.engine import webhooks
from fleek.schemas.webhooks import (
    DeliveryDetail,
    DeliveryRead,
    EndpointCreate,
    EndpointCreated,
    EndpointPatch,
    EndpointRead,
    SecretRead,
)
from fleek.store import delivery_log, endpoints
from fleek.store.delivery_log import DeliveryFilter

MESSAGE_ID: Final = re.compile(r"msg_[0-9a-f]{32}")

router = strict_router("/api/v1/webhooks", tag="webhooks")


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str) or JOB_ID.fullmatch(value) is None:
        raise ValueError("must be a UUID in lower case, with hyphens")
    return UUID(value)


def _message_id(value: Any) -> UUID:
    if not isinstance(value, str) or MESSAGE_ID.fullmatch(value) is None:
        raise ValueError("must be msg_ and 32 hexadecimal digits in lower case")
    return UUID(hex=value.removeprefix("msg_"))


EndpointIdPath = Annotated[
    EndpointId,
    BeforeValidator(_uuid),
    Path(description="Id of the endpoint.", json_schema_extra={"pattern": f"^{JOB_ID.pattern}$"}),
]
DeliveryIdPath = Annotated[
    DeliveryId,
    BeforeValidator(_message_id, json_schema_input_type=str),
    Path(
        description="Id of the delivery: the `webhook-id` that its receiver sees.",
        json_schema_extra={"pattern": f"^{MESSAGE_ID.pattern}$"},
    ),
]

CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "headers": {
            **location_of("endpoint"),
        }
    }
}
ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "headers": {
            **location_of("delivery"),
        }
    }
}
LISTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            **NEXT_LINK,
        }
    }
}


@router.post(
    "/endpoints",
    scope=Scope.WEBHOOKS_WRITE,
    status_code=201,
    operation_id="create_endpoint",
    summary="Create an endpoint",
    response_description="The endpoint, with its secret.",
    responses=CREATED | problems(Unreadable, Conflict, TooLarge, Unsupported, DatabaseUnavailable),
)
async def create_endpoint(
    body: EndpointCreate, rt: RuntimeDep, request: Request, response: Response
) -> EndpointCreated:
    """Have the chosen events of all jobs sent to an address, from now on: 20 addresses at most.

    The secret is in this response only.
    """
    endpoint, secret = await webhooks.create_endpoint(
        rt,
        tenant_id=caller(request).tenant_id,
        url=body.url,
        events=body.events,
        description=body.description,
        by=actor(request),
    )
    response.headers["Location"] = link(rt, f"/api/v1/webhooks/endpoints/{endpoint.id}")
    return EndpointCreated.of(endpoint).model_copy(update={"secret": secret})


@router.get(
    "/endpoints",
    scope=Scope.WEBHOOKS_READ,
    operation_id="list_endpoints",
    summary="List endpoints",
    response_description="The endpoints, oldest first.",
    responses=problems(DatabaseUnavailable),
)
async def list_endpoints(rt: RuntimeDep, request: Request) -> list[EndpointRead]:
    """Return all endpoints, with what is wrong with them."""
    found = await endpoints.list_endpoints(rt.db, tenant_id=caller(request).tenant_id)
    return [EndpointRead.of(endpoint) for endpoint in found]


@router.get(
    "/endpoints/{endpoint_id}",
    scope=Scope.WEBHOOKS_READ,
    operation_id="get_endpoint",
    summary="Get an endpoint",
    response_description="The endpoint.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_endpoint(
    endpoint_id: EndpointIdPath, rt: RuntimeDep, request: Request
) -> EndpointRead:
    """Return an endpoint."""
    tenant_id = caller(request).tenant_id
    return EndpointRead.of(await endpoints.get_endpoint(rt.db, endpoint_id, tenant_id=tenant_id))


@router.patch(
    "/endpoints/{endpoint_id}",
    scope=Scope.WEBHOOKS_WRITE,
    operation_id="update_endpoint",
    summary="Change, enable or disable an endpoint",
    response_description="The endpoint.",
    responses=problems(NotFound, Unreadable, TooLarge, Unsupported, DatabaseUnavailable),
)
async def update_endpoint(
    endpoint_id: EndpointIdPath, body: EndpointPatch, rt: RuntimeDep, request: Request
) -> EndpointRead:
    """Change an endpoint. What is pending is sent to its new address.

    While it is disabled, nothing is added for it, and what becomes due is given up: it can be
    replayed later.
    """
    changed = await webhooks.change_endpoint(
        rt, endpoint_id, body.changes(), tenant_id=caller(request).tenant_id, by=actor(request)
    )
    return EndpointRead.of(changed)


@router.delete(
    "/endpoints/{endpoint_id}",
    scope=Scope.WEBHOOKS_WRITE,
    operation_id="delete_endpoint",
    summary="Delete an endpoint",
    response_description="The deleted endpoint.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def delete_endpoint(
    endpoint_id: EndpointIdPath, rt: RuntimeDep, request: Request
) -> EndpointRead:
    """Delete an endpoint and its secrets. What is pending for it is given up."""
    tenant_id = caller(request).tenant_id
    endpoint = await endpoints.get_endpoint(rt.db, endpoint_id, tenant_id=tenant_id)
    await webhooks.delete_endpoint(rt, endpoint_id, tenant_id=tenant_id, by=actor(request))
    return EndpointRead.of(endpoint)


@router.post(
    "/endpoints/{endpoint_id}/rotate",
    scope=Scope.WEBHOOKS_WRITE,
    operation_id="rotate_endpoint_secret",
    summary="Replace the secret of an endpoint",
    response_description="The new secret.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def rotate_endpoint_secret(
    endpoint_id: EndpointIdPath, rt: RuntimeDep, request: Request
) -> SecretRead:
    """Make a new secret. For 24 hours webhooks are signed with both, for receivers to change over.

    A further rotation ends the older of the two at once.
    """
    tenant_id = caller(request).tenant_id
    secret = await webhooks.rotate_secret(rt, endpoint_id, tenant_id=tenant_id, by=actor(request))
    return SecretRead(secret=secret)


@router.post(
    "/endpoints/{endpoint_id}/test",
    scope=Scope.WEBHOOKS_WRITE,
    status_code=202,
    operation_id="test_endpoint",
    summary="Test an endpoint",
    response_description="The delivery of the test.",
    responses=ACCEPTED | problems(NotFound, DatabaseUnavailable),
)
async def test_endpoint(
    endpoint_id: EndpointIdPath, rt: RuntimeDep, request: Request, response: Response
) -> DeliveryRead:
    """Send an event of the type `webhook.test` once, also to a disabled endpoint.

    It goes the way of all webhooks; poll `Location` for what came of it.
    """
    delivery = await webhooks.send_test(rt, endpoint_id, tenant_id=caller(request).tenant_id)
    response.headers["Location"] = link(rt, f"/api/v1/webhooks/deliveries/{delivery.message_id}")
    return DeliveryRead.of(delivery)


@router.get(
    "/secret",
    scope=Scope.WEBHOOKS_READ,
    operation_id="get_webhook_secret",
    summary="Get the secret of webhooks of jobs",
    response_description="The secret.",
    responses=problems(DatabaseUnavailable),
)
async def get_webhook_secret(rt: RuntimeDep, request: Request) -> SecretRead:
    """Return what signs webhooks that go to the `webhook_url` of a job."""
    secrets = await webhooks.signing_secrets(rt, tenant_id=caller(request).tenant_id)
    return SecretRead(secret=secrets[0])


@router.post(
    "/secret/rotate",
    scope=Scope.WEBHOOKS_WRITE,
    operation_id="rotate_webhook_secret",
    summary="Replace the secret of webhooks of jobs",
    response_description="The new secret.",
    responses=problems(DatabaseUnavailable),
)
async def rotate_webhook_secret(rt: RuntimeDep, request: Request) -> SecretRead:
    """Make a new secret. For 24 hours webhooks are signed with both, for receivers to change over.

    A further rotation ends the older of the two at once.
    """
    tenant_id = caller(request).tenant_id
    secret = await webhooks.rotate_secret(rt, None, tenant_id=tenant_id, by=actor(request))
    return SecretRead(secret=secret)


class DeliveryListQuery(BaseModel):
    """Query parameters of the list of deliveries."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: Annotated[
        EndpointId | None, BeforeValidator(_uuid, json_schema_input_type=UUID | None)
    ] = Field(default=None, description="Deliveries to this endpoint.")
    job: Annotated[JobId | None, BeforeValidator(_uuid, json_schema_input_type=UUID | None)] = (
        Field(default=None, description="Deliveries about this job.")
    )
    state: DeliveryState | None = Field(default=None, description="Deliveries in this state.")
    limit: Annotated[int, StrictInt] = Field(
        default=50, ge=1, le=100, description="Maximum number of deliveries."
    )
    cursor: Annotated[
        DeliveryId | None, BeforeValidator(_message_id, json_schema_input_type=str | None)
    ] = Field(
        default=None, description="Start of the page, from the `Link` header of the previous one."
    )

    def to_filter(self) -> DeliveryFilter:
        """Return the filter for the store."""
        return DeliveryFilter(endpoint_id=self.endpoint, job_id=self.job, state=self.state)

    def following(self, after: DeliveryId) -> str:
        """Return the query of the page behind a delivery."""
        asked = self.model_dump(mode="json", exclude_none=True, exclude={"cursor"})
        return urlencode(asked | {"cursor": f"msg_{after.hex}"})


@router.get(
    "/deliveries",
    scope=Scope.WEBHOOKS_READ,
    operation_id="list_deliveries",
    summary="List deliveries",
    response_description="The deliveries.",
    responses=LISTED | problems(DatabaseUnavailable),
)
async def list_deliveries(
    rt: RuntimeDep,
    request: Request,
    response: Response,
    query: Annotated[DeliveryListQuery, Query()],
) -> list[DeliveryRead]:
    """Return deliveries, newest first. For long lists follow `Link`.

    A page looks at a limited number of deliveries. With filters it may hold fewer than `limit`
    although more follow: the list has ended when there is no `Link`.
    """
    page = await delivery_log.page(
        rt.db,
        query.to_filter(),
        tenant_id=caller(request).tenant_id,
        limit=query.limit,
        after=query.cursor,
    )
    if page.after is not None:
        address = link(rt, f"/api/v1/webhooks/deliveries?{query.following(page.after)}")
        response.headers["Link"] = f'<{address}>; rel="next"'
    return [DeliveryRead.of(delivery) for delivery in page.deliveries]


@router.get(
    "/deliveries/{delivery_id}",
    scope=Scope.WEBHOOKS_READ,
    operation_id="get_delivery",
    summary="Get a delivery",
    response_description="The delivery.",
    responses=problems(NotFound, DatabaseUnavailable),
)
async def get_delivery(
    delivery_id: DeliveryIdPath, rt: RuntimeDep, request: Request
) -> DeliveryDetail:
    """Return a delivery with its body and its attempts."""
    tenant_id = caller(request).tenant_id
    delivery = await delivery_log.get(rt.db, delivery_id, tenant_id=tenant_id)
    return DeliveryDetail.with_log(delivery, await delivery_log.attempts(rt.db, delivery.id))


@router.post(
    "/deliveries/{delivery_id}/replay",
    scope=Scope.WEBHOOKS_WRITE,
    status_code=202,
    operation_id="replay_delivery",
    summary="Replay a delivery",
    response_description="The delivery.",
    responses=ACCEPTED | problems(NotFound, Conflict, DatabaseUnavailable),
)
async def replay_delivery(
    delivery_id: DeliveryIdPath, rt: RuntimeDep, request: Request, response: Response
) -> DeliveryRead:
    """Send a delivery again, whatever its state: with the same id and bytes, and all its retries."""
    delivery = await webhooks.replay(
        rt, delivery_id, tenant_id=caller(request).tenant_id, by=actor(request)
    )
    response.headers["Location"] = link(rt, f"/api/v1/webhooks/deliveries/{delivery.message_id}")
    return DeliveryRead.of(delivery)
