"""Filters of jobs: as query parameters, in requests about many jobs, and within cursors."""

import base64
import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fleek import strict
from fleek.domain.errors import FieldError, InvalidInput, Unreadable
from fleek.domain.job import BatchId, JobFilter, JobId, Kind, ModelName, Status
from fleek.schemas.create import MAX_TAG, Name, read_time

CANONICAL_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WORD: Final = re.compile(r"\w+")
MAX_WORDS: Final = 8
MAX_QUERY: Final = 200  # characters


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _bool(value: object) -> object:
    """Take JSON's own form, and the same words in a query."""
    if isinstance(value, bool) or value is None:
        return value
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _query(value: str | None) -> str | None:
    if value is not None and not 0 < len(WORD.findall(value)) <= MAX_WORDS:
        raise ValueError(f"must have 1-{MAX_WORDS} words")
    return value


Query = Annotated[str | None, Field(max_length=MAX_QUERY), AfterValidator(_query)]
Statuses = Annotated[
    list[Status],
    BeforeValidator(_one_or_many, json_schema_input_type=list[Status]),
    Field(max_length=len(Status)),
]


def _batch(value: object) -> object:
    if value is None or isinstance(value, UUID):
        return value
    if not isinstance(value, str) or CANONICAL_ID.fullmatch(value) is None:
        raise ValueError("must be a UUID in lower case, with hyphens")
    return UUID(value)


Batch = Annotated[BatchId | None, BeforeValidator(_batch, json_schema_input_type=UUID | None)]
Time = Annotated[
    datetime | None, BeforeValidator(read_time, json_schema_input_type=datetime | None)
]
Bool = Annotated[bool | None, BeforeValidator(_bool, json_schema_input_type=bool | None)]


class JobFilterFields(BaseModel):
    """Which jobs. All conditions must hold; without any, it is all jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    status: Statuses = Field(
        default_factory=list, description="Jobs with this status; may be repeated."
    )
    model: Name | None = Field(default=None, description="Jobs of this model.")
    provider: str | None = Field(
        default=None, max_length=100, description="Jobs of this provider."
    )
    kind: Kind | None = Field(
        default=None, description="Completed jobs whose first file is of this kind."
    )
    tag: str | None = Field(default=None, max_length=MAX_TAG, description="Jobs with this tag.")
    q: Query = Field(default=None, description="Jobs whose prompt has all of these words.")
    favourite: Bool = Field(default=None, description="`true`: favourites; `false`: all others.")
    batch: Batch = Field(default=None, description="Jobs of this batch.")
    created_after: Time = Field(
        default=None, description="Jobs created at this time or later (RFC 3339)."
    )
    created_before: Time = Field(
        default=None, description="Jobs created before this time (RFC 3339)."
    )

    def to_filter(self) -> JobFilter:
        """Return the filter for the store."""
        return JobFilter(
            statuses=frozenset(self.status),
            model=None if self.model is None else ModelName(self.model),
            provider=self.provider,
            kind=self.kind,
            tag=self.tag,
            q=self.q,
            favourite=self.favourite,
            batch_id=self.batch,
            created_after=self.created_after,
            created_before=self.created_before,
        )


class JobOrderFields(JobFilterFields):
    """Which jobs, and in which order."""

    order: Literal["newest", "oldest"] = Field(default="newest", description="What comes first.")

    def to_filter(self) -> JobFilter:
        """Return the filter for the store."""
        return replace(super().to_filter(), oldest_first=self.order == "oldest")


def write_cursor(after: JobId, fields: JobOrderFields) -> str:
    """Return the cursor of the page that begins behind a job; it holds the filter."""
    names = set(JobOrderFields.model_fields)
    said = fields.model_dump(mode="json", include=names, exclude_defaults=True)
    data = strict.dumps({"after": after.hex, **said})
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[JobId, JobOrderFields]:
    """Return the last job of the previous page, and the filter.

    Raises:
        InvalidInput: The cursor is malformed.
    """
    try:
        value = strict.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        after = JobId(UUID(hex=value.pop("after")))
        fields = JobOrderFields.model_validate(value)
        genuine = write_cursor(after, fields) == cursor
    except (ValueError, LookupError, AttributeError, TypeError, Unreadable) as error:
        raise refused_cursor("must be copied from the Link header of a list") from error
    if not genuine:
        raise refused_cursor("must be copied from the Link header of a list")
    return after, fields


def refused_cursor(detail: str) -> InvalidInput:
    """Return the error for a cursor that cannot be used."""
    problem = FieldError("/cursor", "cursor", detail, location="query")
    return InvalidInput(f"cursor: {detail}", errors=[problem])
