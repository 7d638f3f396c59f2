"""The wire format of version 1, shared by the API and the client.

Source: the contract in ``docs/reference/api.md``.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fleek import strict
from fleek.domain.errors import Unreadable
from fleek.domain.job import Job, ModelName, Status
from fleek.domain.media import Media
from fleek.domain.request import DEFAULT_PRIORITY, JobRequest

MODEL_NAME: Final = re.compile(
    r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}(/[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}(:[a-zA-Z0-9._-]{1,128})?)?"
)
"""``owner/name``, ``owner/name:version``, or an alias without a slash."""

MAX_PROMPT = 10_000
MAX_METADATA_BYTES = 4096
MAX_SCHEDULE = timedelta(days=365)
PARAMETERS_FORM = "must be an object, or a string holding a JSON object"

RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _prompt(value: str) -> str:
    trimmed = value.strip()
    if not any(unicodedata.category(char)[0] not in "ZC" for char in trimmed[:MAX_PROMPT]):
        raise ValueError("must hold at least one visible character")
    if len(trimmed) > MAX_PROMPT:
        raise ValueError(f"must have at most {MAX_PROMPT} characters")
    return trimmed


def _model(value: str) -> str:
    if MODEL_NAME.fullmatch(value) is None:
        raise ValueError("must be owner/name, owner/name:version or an alias")
    return value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    if len(strict.dumps(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"must have at most {MAX_METADATA_BYTES} bytes as JSON")
    return value


def _parameters(value: object) -> object:
    if isinstance(value, str):
        try:
            value = strict.loads(value.encode())
        except (Unreadable, UnicodeEncodeError) as error:
            raise ValueError(PARAMETERS_FORM) from error
    if not isinstance(value, dict):
        raise ValueError(PARAMETERS_FORM)
    if "prompt" in value:
        raise ValueError("must not hold a prompt; it has a field of its own")
    return value


def _time(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str) or RFC3339.fullmatch(value) is None:
        raise ValueError("must be a time with its zone, like 2030-01-31T09:00:00Z (RFC 3339)")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("must be a time that exists") from error


class JobCreate(BaseModel):
    """What a caller may ask for. Unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    prompt: Annotated[
        str,
        Field(
            max_length=4 * MAX_PROMPT, description="What to make: 1-10,000 characters, trimmed."
        ),
        AfterValidator(_prompt),
    ]
    model_name: Annotated[str, AfterValidator(_model)] | None = Field(
        default=None,
        description="`owner/name` or `owner/name:version`; default: the provider's default model.",
    )
    model: Annotated[str, AfterValidator(_model)] | None = Field(
        default=None, description="The same as `model_name`."
    )
    parameters: Annotated[
        dict[str, Any], BeforeValidator(_parameters, json_schema_input_type=dict[str, Any] | str)
    ] = Field(
        default_factory=dict,
        description="The model's own parameters: an object, or a string holding a JSON object.",
    )
    provider: str | None = Field(
        default=None,
        max_length=100,
        description="Who makes it; default by the service's settings.",
    )
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata)] = Field(
        default_factory=dict, description="Your own object, up to 4 KiB, returned untouched."
    )
    priority: int = Field(default=DEFAULT_PRIORITY, ge=0, le=9, description="9 goes first.")
    run_at: Annotated[
        datetime | None, BeforeValidator(_time, json_schema_input_type=datetime | None)
    ] = Field(default=None, description="Not before this time, at most 365 days ahead (RFC 3339).")
    deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCHEDULE.total_seconds(),
        description="Longest it may take, from `run_at`, else from submission.",
    )
    max_attempts: int | None = Field(
        default=None, ge=1, le=20, description="Attempts in all, the first included."
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model is not None and self.model_name not in {None, self.model}:
            raise ValueError("model and model_name differ; give one of them")
        return self

    def to_request(self) -> JobRequest:
        """Return what the engine takes."""
        model = self.model_name or self.model
        seconds = self.deadline_seconds
        return JobRequest(
            prompt=self.prompt,
            model=None if model is None else ModelName(model),
            parameters=self.parameters,
            provider=self.provider,
            metadata=self.metadata,
            priority=self.priority,
            run_at=self.run_at,
            deadline=None if seconds is None else timedelta(seconds=seconds),
            max_attempts=self.max_attempts,
        )


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where callers find things: both without a slash at their end."""

    public: str  # "http://127.0.0.1:8000"; empty: relative
    media: str  # "http://127.0.0.1:8000/media"

    def file(self, media: Media) -> str:
        """Return the address of one stored file."""
        return f"{self.media}/{media_name(media)}"


def media_name(media: Media) -> str:
    """Return the public name of a file: ``{job}.{ext}``, then ``{job}-{index}.{ext}``."""
    suffix = "" if media.index == 0 else f"-{media.index}"
    return f"{media.job_id}{suffix}.{media.extension}"


class OutputRead(BaseModel):
    """One file of a completed job."""

    index: int
    url: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None

    @classmethod
    def from_media(cls, media: Media, addresses: Addresses) -> Self:
        """Present a stored file."""
        return cls(
            index=media.index,
            url=addresses.file(media),
            content_type=media.content_type,
            size_bytes=media.size_bytes,
            sha256=media.sha256,
            width=media.width,
            height=media.height,
            duration_seconds=media.duration_seconds,
        )


class JobLinks(BaseModel):
    """Where to go on from a job."""

    self: str
    cancel: str
    download: str


class JobRead(BaseModel):
    """A job as callers see it."""

    id: UUID
    prompt: str
    model_name: str
    provider: str
    parameters: dict[str, Any]
    status: Status
    progress: float | None = Field(description="0.0-1.0; null: the provider does not tell.")
    queue_position: int | None = Field(
        description="How many due jobs go first, from 0; null once started, in lists, and in "
        "the answer to a submit."
    )
    priority: int
    created_at: datetime
    updated_at: datetime
    run_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    purged_at: datetime | None
    retry_count: int
    max_attempts: int
    error_code: str | None
    error_message: str | None
    result_url: str | None
    file_size: int | None
    outputs: list[OutputRead]
    external_job_id: str | None
    metadata: dict[str, Any]
    links: JobLinks

    @classmethod
    def from_job(
        cls,
        job: Job,
        media: Sequence[Media],
        addresses: Addresses,
        *,
        queue_position: int | None = None,
    ) -> Self:
        """Present a job and its stored files."""
        outputs = [OutputRead.from_media(one, addresses) for one in media]
        shown = job.error if job.status is Status.FAILED else None
        here = f"{addresses.public}/api/v1/jobs/{job.id}"
        return cls(
            id=job.id,
            prompt=job.prompt,
            model_name=job.model,
            provider=job.provider,
            parameters=dict(job.input),
            status=job.status,
            progress=job.progress,
            queue_position=queue_position,
            priority=job.priority,
            created_at=job.created_at,
            updated_at=job.updated_at,
            run_at=job.run_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            purged_at=job.purged_at,
            retry_count=job.retries,
            max_attempts=job.max_attempts,
            error_code=shown and shown.code,
            error_message=shown and shown.message,
            result_url=outputs[0].url if outputs else None,
            file_size=outputs[0].size_bytes if outputs else None,
            outputs=outputs,
            external_job_id=job.prediction_id,
            metadata=dict(job.metadata),
            links=JobLinks(
                self=here,
                cancel=f"{here}/cancel",
                download=f"{addresses.public}/api/v1/download/{job.id}",
            ),
        )


class FlatJob(BaseModel):
    """A job as simple clients read it, with both spellings of each field."""

    job_id: UUID
    status: str = Field(description="`queued`, `processing`, `completed`, `failed`, `cancelled`.")
    result_url: str | None
    result: str | None
    error_message: str | None
    error: str | None
    retry_attempts: int

    @classmethod
    def from_job(cls, job: Job, media: Sequence[Media], addresses: Addresses) -> Self:
        """Present a job flat; `pending` is shown as `queued`."""
        url = addresses.file(media[0]) if media else None
        message = job.error.message if job.error and job.status is Status.FAILED else None
        return cls(
            job_id=job.id,
            status="queued" if job.status is Status.PENDING else job.status,
            result_url=url,
            result=url,
            error_message=message,
            error=message,
            retry_attempts=job.retries,
        )


class JobCancelled(BaseModel):
    """The answer to a cancel that won, or that had won before."""

    message: str
    job: JobRead


class ModelRead(BaseModel):
    """A model that can be asked for."""

    name: str
    provider: str
    description: str
    output: str | None = Field(description="What it makes: image, animation, audio, text.")
    default: bool = Field(description="Whether it is used when a request names none.")
    parameters: Mapping[str, Any] | None = Field(
        description="JSON schema (draft 2020-12) of `parameters`; null: not known now."
    )


class ProblemField(BaseModel):
    """What is wrong with one field."""

    location: Literal["body", "path", "query", "header"] = Field(
        default="body", description="The part of the request."
    )
    pointer: str = Field(description="JSON pointer into that part (RFC 6901).")
    code: str
    detail: str


class Problem(BaseModel):
    """An error. Source: RFC 9457, with `code`, `request_id` and `errors` added."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable, snake_case; what programs should look at.")
    request_id: str
    errors: list[ProblemField] = Field(default_factory=list)
