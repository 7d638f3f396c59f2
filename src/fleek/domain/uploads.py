"""Uploads: files of a tenant that its jobs may refer to as inputs."""

from datetime import datetime
from typing import NewType
from uuid import UUID

from fleek.domain.media import Key
from fleek.domain.values import dataclass

UploadId = NewType("UploadId", UUID)  # version 7: sorts by time


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that a caller has uploaded.

    The same bytes of one tenant are one upload, unless their ids were reserved before they were sent.
    """

    id: UploadId
    tenant_id: str
    key: Key
    sha256: str  # lower-case hex of the whole file
    size_bytes: int
    content_type: str  # as detected
    width: int | None = None  # pixels; images and video
    height: int | None = None
    duration_seconds: float | None = None  # audio, video and animations
    created_at: datetime
    expires_at: datetime  # kept until then at least
    stored: bool = False  # whether the file is in storage; its row is written first

    @property
    def reference(self) -> str:
        """The value of a parameter that names it."""
        return f"upload:{self.id}"


def upload_key(upload_id: UploadId, extension: str) -> Key:
    """Return the key of an upload's file."""
    return Key(f"uploads/{upload_id}.{extension}")
