"""The queue in requests and responses."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from fleek.domain.job import MODEL_NAME
from fleek.schemas.base import Schema


class QueuePart(BaseModel):
    """A part of the queue; without a field, all of it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"provider": "placeholder"}, {}]},
    )

    provider: str | None = Field(
        default=None, min_length=1, max_length=100, description="Only jobs of this provider."
    )
    model: str | None = Field(
        default=None, pattern=f"^{MODEL_NAME.pattern}$", description="Only jobs of this model."
    )


class PauseRead(Schema):
    """A pause by an operator."""

    provider: str | None = Field(description="Null: every provider.")
    model: str | None = Field(description="Null: every model.")
    since: datetime


class QueueRead(Schema):
    """The queue of all tenants."""

    pending: int = Field(description="Due jobs that wait to be started.")
    processing: int
    paused: list[PauseRead]
