"""What the tools return: short, as a language model reads all of it."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field

from fleek.client.models import JobRead, ModelRead
from fleek.domain.job import TERMINAL


class FileView(BaseModel):
    """One file that a job has made."""

    url: str
    content_type: str
    size_bytes: int
    width: int | None
    height: int | None
    duration_seconds: float | None


class JobView(BaseModel):
    """A job."""

    id: UUID
    status: str = Field(description="pending, processing, completed, failed or cancelled")
    ended: bool = Field(description="Whether nothing will change any more.")
    prompt: str
    model: str
    provider: str
    parameters: dict[str, Any]
    progress: float | None = Field(description="0 to 1; null: not reported")
    queue_position: int | None
    created_at: datetime
    error: str | None = Field(description="Why it has failed, or what it waits for.")
    files: list[FileView] = Field(description="What it has made.")

    @classmethod
    def of(cls, job: JobRead) -> Self:
        """Present a job."""
        waits_for = None if job.retrying is None else job.retrying.reason
        return cls(
            id=job.id,
            status=job.status.value,
            ended=job.status in TERMINAL,
            prompt=job.prompt,
            model=job.model_name,
            provider=job.provider,
            parameters=job.parameters,
            progress=job.progress,
            queue_position=job.queue_position,
            created_at=job.created_at,
            error=job.error_message or job.error_code or waits_for,
            files=[FileView.model_validate(output.to_dict()) for output in job.outputs],
        )


class JobsView(BaseModel):
    """Several jobs."""

    jobs: list[JobView]


class ModelView(BaseModel):
    """A model."""

    name: str
    provider: str
    description: str
    makes: str | None
    default: bool
    parameters: dict[str, Any] | None = Field(
        default=None, description="JSON schema of its parameters; only if one model is asked for."
    )

    @classmethod
    def of(cls, model: ModelRead, *, with_parameters: bool) -> Self:
        """Present a model."""
        known = with_parameters and model.parameters is not None
        return cls(
            name=model.name,
            provider=model.provider,
            description=model.description,
            makes=model.output,
            default=model.default,
            parameters=dict(model.parameters or {}) if known else None,
        )


class ModelsView(BaseModel):
    """The models."""

    models: list[ModelView]


class UploadView(BaseModel):
    """An uploaded file."""

    reference: str = Field(description="The value of a parameter that takes the file.")
    content_type: str
    size_bytes: int
    expires_at: datetime
