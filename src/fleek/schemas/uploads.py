"""Uploads in responses."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import Field

from fleek.domain.uploads import Upload
from fleek.schemas.base import Schema


class UploadRead(Schema):
    """An uploaded file."""

    id: UUID
    reference: str = Field(description="The value of a parameter that names it: `upload:ID`.")
    url: str = Field(description="The address of this description.")
    content_type: str = Field(description="As detected in the bytes.")
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration_seconds: float | None
    created_at: datetime
    expires_at: datetime = Field(
        description="It is kept until then; uploading the same bytes again extends it."
    )

    @classmethod
    def of(cls, upload: Upload, *, public: str) -> Self:
        """Present an upload. `public`: the base address of the service."""
        return cls(
            id=upload.id,
            reference=upload.reference,
            url=f"{public}/api/v1/uploads/{upload.id}",
            content_type=upload.content_type,
            size_bytes=upload.size_bytes,
            sha256=upload.sha256,
            width=upload.width,
            height=upload.height,
            duration_seconds=upload.duration_seconds,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
        )
