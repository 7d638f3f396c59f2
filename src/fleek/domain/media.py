"""Files: an `Output` as the provider returned it, a `Media` as it is stored."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NewType
from uuid import UUID

from fleek.domain.job import AttemptId, Job, JobId
from fleek.domain.text import LongText
from fleek.domain.values import dataclass

Key = NewType("Key", str)
"""A name in storage: ``media/…``, ``metadata/…`` or ``uploads/…``, made only from ids and validated parts."""

SIZES: Final = (320, 960)  # of small pictures: pixels of the longer side, at most
THUMBNAIL: Final = ".small-"  # in keys


class Part(StrEnum):
    """A part of an ended job in storage; each can be purged separately."""

    MEDIA = "media"  # its files
    METADATA = "metadata"  # the document beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file of a prediction, before it is stored as a `Media`.

    ``uri`` is an address for the provider's `read`: a URL, a ``data:`` URI, or a name defined by
    the provider. ``text`` is set instead for a textual output, and ``key`` (only by the engine) for
    an inline output that is already in storage. If none is set, the output was inline and has to be
    requested again. A `LongText` is moved to storage, or converted to a plain string, before an
    output is written to the database.
    """

    uri: str | LongText | None = None
    text: str | LongText | None = None
    key: Key | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form stored with the attempt."""
        if self.key is not None:
            return {"key": self.key}
        return {"uri": self.uri} if self.text is None else {"text": self.text}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Output":
        """Return the output from the form of `to_json`."""
        return cls(uri=stored.get("uri"), text=stored.get("text"), key=stored.get("key"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One stored file of a completed job. Its type is detected from its bytes."""

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
    placeholder: str | None = None  # a tiny picture, as a data: URI; once a thumbnail was made

    @property
    def extension(self) -> str:
        """The extension of the stored file, without the dot."""
        return self.key.rsplit(".", 1)[-1]


def media_key(
    job_id: JobId, attempt_id: AttemptId, index: int, *, sha256: str, extension: str
) -> Key:
    """Return the key of a file, unique to its attempt.

    Releases before 0.3.0 had a folder for each attempt, which a disk must write as well.
    """
    return Key(f"media/{job_id}/{index}-{sha256[:16]}-{attempt_id}.{extension}")


def public_name(key: Key) -> str:
    """Return a file's public name: ``{job}.{ext}`` for the first, then ``{job}-{index}.{ext}``."""
    above, _, file = key.rpartition("/")
    number, dash, _ = file.partition("-")
    if not dash or not above.startswith("media/"):
        return file
    suffix = "" if number == "0" else f"-{number}"
    return f"{above.split('/')[1]}{suffix}.{file.rpartition('.')[2]}"


def thumbnail_key(key: Key, size: int) -> Key:
    """Return the key of a small picture of a file, beside it."""
    return Key(f"{key}{THUMBNAIL}{size}.webp")


def original_key(key: str) -> str:
    """Return the key of the file that a small picture shows; of any other file its own."""
    original, found, rest = key.rpartition(THUMBNAIL)
    return original if found and rest in {f"{size}.webp" for size in SIZES} else key


def metadata_key(job_id: JobId) -> Key:
    """Return the key of a job's metadata document."""
    return Key(f"metadata/{job_id}.json")


def media_folder(job_id: JobId) -> str:
    """Return the common prefix of the keys of a job's files."""
    return f"media/{job_id}/"


def purged(job: Job, part: Part) -> bool:
    """Whether a part of a job is purged, so that no link may refer to it."""
    return (job.purged_at if part is Part.MEDIA else job.metadata_purged_at) is not None


def owner(key: str) -> tuple[Part, JobId] | None:
    """Return the part and the job of a file; None: it is not the key of a job."""
    part, _, rest = key.partition("/")
    named = rest.partition("/")[0] if part == Part.MEDIA else rest.removesuffix(".json")
    try:
        job_id = JobId(UUID(named))
        known_part = Part(part)
    except ValueError:
        return None
    owned = key.startswith(media_folder(job_id)) or key == metadata_key(job_id)
    return (known_part, job_id) if owned else None
