"""Outgoing webhooks in requests and responses."""

from datetime import datetime
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fleek.domain.webhooks import Delivery, DeliveryAttempt, DeliveryState, Endpoint
from fleek.schemas.base import Schema
from fleek.schemas.events import ENDS, EndpointEventType

MAX_URL: Final = 2048  # characters
MAX_DESCRIPTION: Final = 500
EXAMPLES: Final[list[JsonValue]] = [
    {
        "url": "https://app.example.com/hooks/fleek",
        "events": ["job.completed", "job.failed", "job.cancelled"],
        "description": "the shop",
    }
]

Url = Annotated[
    str, Field(max_length=MAX_URL, description="Where webhooks are sent: an `https://` address.")
]
Events = Annotated[
    list[Annotated[EndpointEventType, Field(strict=False)]],
    Field(min_length=1, max_length=len(EndpointEventType)),
]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION)]


class EndpointCreate(BaseModel):
    """The request that creates an endpoint. Unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": EXAMPLES},
    )

    url: Url
    events: Events = Field(
        default=[EndpointEventType(kind) for kind in ENDS],
        description="The events that it receives; default: those that end a job.",
    )
    description: Description = Field(default="", description="Anything, for you.")


class EndpointPatch(BaseModel):
    """What to change of an endpoint; what is not named stays."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"enabled": True}]},
    )

    url: Url = ""
    events: Events = Field(default_factory=list, description="All events, in place of the former.")
    description: Description = Field(default="", description="Anything, for you.")
    enabled: bool = Field(
        default=True,
        description="`true`: its failures are forgotten; `false`: it receives nothing any more.",
    )

    def changes(self) -> dict[str, Any]:
        """Return the fields of an endpoint that change."""
        named = {name: getattr(self, name) for name in self.model_fields_set}
        return named | ({"events": tuple(self.events)} if "events" in named else {})


class EndpointRead(Schema):
    """An address that receives the events of all jobs of its tenant."""

    id: UUID
    url: str
    events: list[EndpointEventType]
    description: str
    enabled: bool
    disabled_reason: str | None = Field(
        description="`gone`: it has answered 410; `failing`: for five days; null: not by the service."
    )
    failing_since: datetime | None = Field(
        description="The first failure since the latest success; null: it works."
    )
    created_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Present an endpoint."""
        return cls(**_fields(cls, endpoint))


class EndpointCreated(EndpointRead):
    """A new endpoint."""

    secret: str = Field(
        default="", description="Signs its webhooks: `whsec_…`. It is not returned again."
    )


class SecretRead(Schema):
    """A signing secret."""

    secret: str = Field(
        description="`whsec_` and 32 bytes in Base64, as Standard Webhooks has it."
    )


class DeliveryRead(Schema):
    """An event for one receiver."""

    id: str = Field(description="What the receiver sees as `webhook-id`: `msg_…`.")
    type: str = Field(description="The type of the event, or `webhook.test`.")
    endpoint_id: UUID | None = Field(description="Null: it goes to the `webhook_url` of the job.")
    receiver: str | None = Field(
        description="Where it goes, without path and query; null: see the endpoint."
    )
    job_id: UUID | None = Field(description="Null: it is about no job.")
    state: DeliveryState
    attempts: int = Field(description="How often it was sent, or could not be sent.")
    next_at: datetime | None = Field(
        description="When it is sent next at the earliest; null: it has ended."
    )
    last_status: int | None = Field(description="HTTP status of the latest response.")
    last_reason: str | None = Field(description="What came of the latest attempt: see `attempts`.")
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """Present a delivery."""
        names = {name for name in DeliveryRead.model_fields if hasattr(delivery, name)}
        fields = {name: getattr(delivery, name) for name in names - {"id"}}
        return cls(id=delivery.message_id, receiver=_origin(delivery.url), **fields)


class DeliveryAttemptRead(Schema):
    """One attempt to deliver."""

    number: int
    at: datetime = Field(description="When it ended.")
    seconds: float
    status: int | None = Field(description="HTTP status of the response; null: there was none.")
    reason: str = Field(
        description="`delivered`, `refused`, `redirected`, `gone`, `timed_out`, `unreachable`, "
        "`no_response`, `blocked`, `endpoint_disabled`, `endpoint_deleted` or `secret_unreadable`; "
        "what else is known follows after a colon."
    )


class DeliveryDetail(DeliveryRead):
    """An event for one receiver, with its body and the latest 30 attempts."""

    body: str = Field(default="", description="What is sent, to the byte.")
    log: list[DeliveryAttemptRead] = Field(
        default_factory=list, description="The attempts, oldest first."
    )

    @classmethod
    def with_log(cls, delivery: Delivery, attempts: list[DeliveryAttempt]) -> Self:
        """Present a delivery with its attempts."""
        read = cls.of(delivery)
        read.body = delivery.body.decode()
        read.log = [
            DeliveryAttemptRead(**_fields(DeliveryAttemptRead, attempt)) for attempt in attempts
        ]
        return read


def _fields(model: type[BaseModel], value: object) -> dict[str, Any]:
    return {name: getattr(value, name) for name in model.model_fields if hasattr(value, name)}


def _origin(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
