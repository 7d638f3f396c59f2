"""Files: an `Output` as the provider returned it, a `Media` as it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from fleek.domain.job import AttemptId, Job, JobId
from fleek.domain.text import LongText

Key = NewType("Key", str)
"""A name in storage: ``media/…`` or ``metadata/…``, made from ids and checked parts only."""


class Part(StrEnum):
    """What an ended job leaves in storage; each may be purged before the other."""

    MEDIA = "media"  # its files
    METADATA = "metadata"  # the document beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file of a prediction, before it is a `Media`.

    ``uri`` is an address for the provider's `read`: a URL, a ``data:`` URI, or a name of the
    provider's own. ``text`` is set instead for a model that answers in words, and ``key`` for one
    whose bytes came with the answer and are in storage already; only the engine sets that. If none
    is set, the bytes came with the answer and are to be asked for again. What is a `LongText` goes
    to storage, or is made a plain text, before an output is written down.
    """

    uri: str | LongText | None = None
    text: str | LongText | None = None
    key: Key | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored with the attempt."""
        if self.key is not None:
            return {"key": self.key}
        return {"uri": self.uri} if self.text is None else {"text": self.text}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Output":
        """Read what `to_json` wrote."""
        return cls(uri=stored.get("uri"), text=stored.get("text"), key=stored.get("key"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One stored file of a completed job. The type is sniffed from the bytes, never believed."""

    job_id: JobId
    attempt_id: AttemptId
    index: int  # position among the job's outputs, from 0
    key: Key
    sha256: str  # lower-case hex of the whole file
    size_bytes: int
    content_type: str
    width: int | None = None  # pixels; images and video
    height: int | None = None
    duration_seconds: float | None = None  # audio, video and animations

    @property
    def extension(self) -> str:
        """The ending of the stored file, without the dot."""
        return self.key.rsplit(".", 1)[-1]


def media_key(
    job_id: JobId, attempt_id: AttemptId, index: int, *, sha256: str, extension: str
) -> Key:
    """Return where a file is kept; no two attempts ever share a name."""
    return Key(f"media/{job_id}/{attempt_id}/{index}-{sha256[:16]}.{extension}")


def public_name(key: Key) -> str:
    """Return the name that people see: ``{job}.{ext}``, then ``{job}-{index}.{ext}``."""
    above, _, file = key.rpartition("/")
    number, dash, _ = file.partition("-")
    if not dash or not above.startswith("media/"):
        return file
    suffix = "" if number == "0" else f"-{number}"
    return f"{above.split('/')[1]}{suffix}.{file.rpartition('.')[2]}"


def metadata_key(job_id: JobId) -> Key:
    """Return where a job's metadata document is kept."""
    return Key(f"metadata/{job_id}.json")


def media_folder(job_id: JobId) -> str:
    """Return what the keys of all files of a job begin with, and no other job's."""
    return f"media/{job_id}/"


def purged(job: Job, part: Part) -> bool:
    """Whether this part of a job is purged, so that no link may point to it."""
    return (job.purged_at if part is Part.MEDIA else job.metadata_purged_at) is not None


def owner(key: str) -> tuple[Part, JobId] | None:
    """Return the part and the job that a file belongs to; None: no job has such keys."""
    part, _, rest = key.partition("/")
    named = rest.partition("/")[0] if part == Part.MEDIA else rest.removesuffix(".json")
    try:
        job_id = JobId(UUID(named))
        known_part = Part(part)
    except ValueError:
        return None
    owned = key.startswith(media_folder(job_id)) or key == metadata_key(job_id)
    return (known_part, job_id) if owned else None
