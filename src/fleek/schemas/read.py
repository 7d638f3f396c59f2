"""Jobs, files, models and errors in responses."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from pydantic import Field, JsonValue
from pydantic_core import to_json

from fleek.domain.errors import ErrorLocation
from fleek.domain.job import Job, Kind, Stage, State, Status
from fleek.domain.media import SIZES, Media
from fleek.domain.money import usd_or_none
from fleek.domain.text import strip_unstorable
from fleek.domain.values import dataclass
from fleek.schemas.base import Schema
from fleek.sniff.thumbnails import thumbnail_sizes


def unsigned(_name: str) -> str:
    """Return the query of the address of a file that anyone may read."""
    return ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base addresses, without a trailing slash."""

    public: str  # "http://127.0.0.1:8000"; empty: relative
    media: str  # "http://127.0.0.1:8000/media"
    query: Callable[[str], str] = unsigned  # of the address of a file, by its public name

    def thumbnail(self, media: Media, size: int) -> str:
        """Return the address of a small picture of one stored file."""
        file = self.file(media)
        return f"{file}{'&' if '?' in file else '?'}size={size}"

    def file(self, media: Media) -> str:
        """Return the address of one stored file."""
        name = media_name(media)
        return f"{self.media}/{name}{self.query(name)}"


def media_name(media: Media) -> str:
    """Return the public name of a file: ``{job}.{ext}``, then ``{job}-{index}.{ext}``."""
    suffix = "" if media.index == 0 else f"-{media.index}"
    return f"{media.job_id}{suffix}.{media.extension}"


_ID: Final = "0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"


def example(addresses: Addresses) -> JsonValue:
    """Return an example of a completed job."""
    here = f"{addresses.public}/api/v1/jobs/{_ID}"
    file = f"{addresses.media}/{_ID}.png"
    return {
        "id": _ID,
        "prompt": "A cat riding a bicycle",
        "model_name": "black-forest-labs/flux-schnell",
        "provider": "placeholder",
        "parameters": {"width": 1024},
        "status": "completed",
        "progress": 1.0,
        "queue_position": None,
        "priority": 5,
        "created_at": "2026-11-21T09:00:00.000000Z",
        "updated_at": "2026-11-21T09:00:02.500000Z",
        "run_at": "2026-11-21T09:00:00.000000Z",
        "started_at": "2026-11-21T09:00:00.020000Z",
        "completed_at": "2026-11-21T09:00:02.500000Z",
        "purged_at": None,
        "stage": None,
        "attempt": 1,
        "retry_count": 0,
        "max_attempts": 4,
        "retry_of": None,
        "error_code": None,
        "error_message": None,
        "retrying": None,
        "result_url": file,
        "file_size": 1245760,
        "outputs": [
            {
                "index": 0,
                "url": file,
                "content_type": "image/png",
                "size_bytes": 1245760,
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "width": 1024,
                "height": 1024,
                "duration_seconds": None,
                "thumbnails": {
                    "320": f"{file}?size=320",
                    "960": f"{file}?size=960",
                },
                "placeholder": None,
                "poster": None,
            }
        ],
        "kind": "image",
        "seed": None,
        "seconds": 2.48,
        "external_job_id": "gm3qorzdhgbfurvjtvhg6dckhu",
        "max_cost": None,
        "estimate": "0.003",
        "cost": "0.003",
        "metadata": {},
        "favourite": False,
        "tags": ["sea"],
        "route": {
            "provider": "placeholder",
            "model_name": "black-forest-labs/flux-schnell",
            "requested": ["black-forest-labs/flux-schnell"],
            "requested_parameters": None,
            "alternatives": [],
            "tried": [],
        },
        "reused_from": None,
        "batch_id": None,
        "batch_index": None,
        "links": {
            "self": here,
            "cancel": f"{here}/cancel",
            "download": f"{addresses.public}/api/v1/download/{_ID}",
            "retry": f"{here}/retry",
            "events": f"{here}/events",
            "history": f"{here}/history",
            "logs": f"{here}/logs",
            "metadata": f"{here}/metadata",
        },
    }


class OutputRead(Schema):
    """One file of a completed job."""

    index: int
    url: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    thumbnails: dict[str, str] = Field(
        default_factory=dict,
        description="Addresses of small pictures, by the pixels of their longer side: `320`, `960`. "
        "They are made soon after the job has completed, or when one is asked for that is missing; "
        "empty: of this type there are none.",
    )
    placeholder: str | None = Field(
        default=None,
        description="A tiny picture as a `data:` URI of at most 300 characters; null until a thumbnail "
        "was made.",
    )
    poster: str | None = Field(
        default=None, description="Address of the first frame of a film, where it can be decoded."
    )

    @classmethod
    def from_media(cls, media: Media, addresses: Addresses) -> Self:
        """Present a stored file."""
        small = {
            str(size): addresses.thumbnail(media, size)
            for size in thumbnail_sizes(media.content_type) or (SIZES if media.placeholder else ())
        }
        return cls(
            index=media.index,
            url=addresses.file(media),
            content_type=media.content_type,
            size_bytes=media.size_bytes,
            sha256=media.sha256,
            width=media.width,
            height=media.height,
            duration_seconds=media.duration_seconds,
            thumbnails=small,
            placeholder=media.placeholder,
            poster=small.get("960") if media.content_type.startswith("video/") else None,
        )


class Retrying(Schema):
    """Why a job waits, and when it is tried again."""

    code: str = Field(description="Stable, for programs.")
    reason: str
    next_at: datetime = Field(description="Earliest time of the next try.")

    @classmethod
    def from_job(cls, job: Job) -> Self | None:
        """Present the wait after an error; None: the job does not wait after an error."""
        waits = job.status is Status.PENDING or job.stage is Stage.COLLECTING
        if job.error is None or not waits:
            return None
        reason = strip_unstorable(job.error.message)
        return cls(code=job.error.code, reason=reason, next_at=job.run_at)


class JobLinks(Schema):
    """Addresses related to a job."""

    self: str
    cancel: str
    download: str
    retry: str = ""
    events: str = ""
    history: str = ""
    logs: str = ""
    metadata: str = ""


def job_links(job_id: UUID, addresses: Addresses) -> dict[str, str]:
    """Return what `JobLinks` holds, in the order of its fields."""
    name = str(job_id)  # once, as it takes longer than all the rest here
    here = f"{addresses.public}/api/v1/jobs/{name}"
    return {
        "self": here,
        "cancel": f"{here}/cancel",
        "download": f"{addresses.public}/api/v1/download/{name}",
        "retry": f"{here}/retry",
        "events": f"{here}/events",
        "history": f"{here}/history",
        "logs": f"{here}/logs",
        "metadata": f"{here}/metadata",
    }


class JobStage(StrEnum):
    """What happens to a job that has not ended."""

    QUEUED = "queued"  # it waits for its first or its next attempt
    STARTING = "starting"  # its prediction is being created
    RUNNING = "running"  # at the provider
    COLLECTING = "collecting"  # its files are being stored


STAGES: Final[Mapping[State, JobStage]] = {
    Status.PENDING: JobStage.QUEUED,
    Stage.STARTING: JobStage.STARTING,
    Stage.UNKNOWN: JobStage.STARTING,
    Stage.WAITING: JobStage.RUNNING,
    Stage.COLLECTING: JobStage.COLLECTING,
}


def seed_of(parameters: Mapping[str, Any]) -> int | None:
    """Return the seed that a caller has chosen; None: none."""
    seed = parameters.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def seconds_of(job: Job) -> float | None:
    """Return how long a job took from its first start to its end; None: it has not, or not ended."""
    if job.started_at is None or job.completed_at is None:
        return None
    return round((job.completed_at - job.started_at).total_seconds(), 6)


class RouteRead(Schema):
    """A model of a provider."""

    provider: str
    model_name: str


class TriedRoute(RouteRead):
    """A model of a provider that a job has left."""

    code: str = Field(description="Why: stable, for programs.")
    reason: str


def _only_route(job: Job) -> dict[str, Any]:
    """Return what the `JobRoute` of a job without the catalogue holds, in the order of its fields."""
    return {
        "provider": job.provider,
        "model_name": job.model,
        "requested": [job.model],
        "requested_parameters": None,
        "alternatives": [],
        "tried": [],
    }


class JobRoute(RouteRead):
    """Where a job runs: `model_name` and `parameters` of the job are those of this model."""

    requested: list[str] = Field(description="The names that the request asked for, in order.")
    requested_parameters: dict[str, Any] | None = Field(
        description="The parameters as the request had them; null: as in `parameters`."
    )
    alternatives: list[RouteRead] = Field(
        description="Where it may go on if this model is certain not to be paid for."
    )
    tried: list[TriedRoute] = Field(description="Where it was tried before, the latest last.")

    @classmethod
    def from_job(cls, job: Job) -> Self:
        """Present the routes of a job; without the catalogue, it has one."""
        routing = job.routing
        here = {"provider": job.provider, "model_name": job.model}
        if routing is None:
            return cls(**_only_route(job))
        read = [
            RouteRead(provider=route.provider, model_name=route.model) for route in routing.routes
        ]
        closed = {tried.route for tried in routing.tried if tried.closed} | {routing.current}
        return cls(
            **here,
            requested=list(routing.request.models),
            requested_parameters=dict(routing.request.parameters),
            alternatives=[route for index, route in enumerate(read) if index not in closed],
            tried=[
                TriedRoute(
                    **read[tried.route].model_dump(),
                    code=tried.code,
                    reason=strip_unstorable(tried.message),
                )
                for tried in routing.tried
            ],
        )


class JobRead(Schema):
    """A job."""

    id: UUID
    prompt: str
    model_name: str
    provider: str
    parameters: dict[str, Any]
    status: Status
    progress: float | None = Field(description="0.0-1.0; null: not reported by the provider.")
    queue_position: int | None = Field(
        description="Number of due jobs before this one; null once started, in lists, and in "
        "the response to a submission."
    )
    priority: int
    created_at: datetime
    updated_at: datetime
    run_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    purged_at: datetime | None
    stage: JobStage | None = Field(
        default=None,
        description="`queued`, `starting`, `running` or `collecting`; null once it has ended.",
    )
    attempt: int = Field(
        default=0,
        description="The number of its latest attempt, of `max_attempts`; 0 before the first. One in "
        "which nothing was started does not count.",
    )
    retry_count: int
    max_attempts: int
    retry_of: UUID | None = Field(
        default=None, description="The job whose request this one repeats; null: of none."
    )
    error_code: str | None
    error_message: str | None
    retrying: Retrying | None = Field(
        default=None,
        description="Why the last try failed and when the next one is: the next attempt, or, "
        "while processing, the next try to store a paid result. Null without an error.",
    )
    result_url: str | None
    file_size: int | None
    outputs: list[OutputRead]
    kind: Kind | None = Field(
        default=None,
        description="By the type of the first file; null until it has completed.",
    )
    seed: int | None = Field(
        default=None, description="The `seed` of its parameters; null: not chosen by the caller."
    )
    seconds: float | None = Field(
        default=None,
        description="From its first start to its end; null: not ended, or never started.",
    )
    external_job_id: str | None
    max_cost: str | None = Field(
        default=None,
        description="What it may cost with all of its attempts, in US dollars. Null: anything.",
    )
    estimate: str | None = Field(
        default=None,
        description="What its latest attempt, or the next one, is expected to cost: a decimal number of "
        "US dollars, such as `0.003`. Null: unknown.",
    )
    cost: str | None = Field(
        default=None,
        description="What its ended attempts have cost, in US dollars. Null: unknown.",
    )
    metadata: dict[str, Any]
    favourite: bool = False
    tags: list[str] = Field(default_factory=list)
    route: JobRoute | None = Field(
        default=None, description="Where it runs, and where else it may run or was tried."
    )
    reused_from: UUID | None = Field(
        default=None,
        description="The job whose files it has: it was not started, and nothing was paid for.",
    )
    batch_id: UUID | None = Field(default=None, description="The batch that it is a member of.")
    batch_index: int | None = Field(
        default=None, description="The number of that member, from 0, in the order of the batch."
    )
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
        return cls(**job_document(job, media, addresses, queue_position=queue_position))


def job_document(
    job: Job,
    media: Sequence[Media],
    addresses: Addresses,
    *,
    queue_position: int | None = None,
) -> dict[str, Any]:
    """Return what a `JobRead` holds, in the order of its fields."""
    outputs = [OutputRead.from_media(file, addresses) for file in media]
    shown = job.error if job.status is Status.FAILED else None
    return {
        "id": job.id,
        "prompt": job.prompt,
        "model_name": job.model,
        "provider": job.provider,
        "parameters": dict(job.input),
        "status": job.status.value,  # as the writer of JSON asks a member for its class first
        "progress": job.progress,
        "queue_position": queue_position,
        "priority": job.priority,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "run_at": job.run_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "purged_at": job.purged_at,
        "stage": None if job.terminal else STAGES[job.state].value,
        "attempt": job.attempt,
        "retry_count": job.retries,
        "max_attempts": job.max_attempts,
        "retry_of": job.retry_of,
        "error_code": shown and shown.code,
        "error_message": shown and strip_unstorable(shown.message),
        "retrying": Retrying.from_job(job),
        "result_url": outputs[0].url if outputs else None,
        "file_size": outputs[0].size_bytes if outputs else None,
        "outputs": outputs,
        "kind": job.kind,
        "seed": seed_of(job.input),
        "seconds": seconds_of(job),
        "external_job_id": job.prediction_id,
        "max_cost": usd_or_none(job.max_cost),
        "estimate": usd_or_none(job.estimate),
        "cost": usd_or_none(job.cost),
        "metadata": dict(job.metadata),
        "favourite": job.favourite,
        "tags": list(job.tags),
        "route": JobRoute.from_job(job) if job.routing else _only_route(job),
        "reused_from": job.reused_from,
        "batch_id": job.batch_id,
        "batch_index": job.batch_index,
        "links": job_links(job.id, addresses),
    }


def job_json(
    job: Job,
    media: Sequence[Media],
    addresses: Addresses,
    *,
    queue_position: int | None = None,
) -> bytes:
    """Return the JSON of a `JobRead`, without making one: that takes as long as all the rest."""
    document = job_document(job, media, addresses, queue_position=queue_position)
    return to_json(document, inf_nan_mode="null")


class FlatJob(Schema):
    """A job in the flat form, with both names of each field."""

    job_id: UUID
    status: str = Field(description="`queued`, `processing`, `completed`, `failed`, `cancelled`.")
    result_url: str | None
    result: str | None
    error_message: str | None
    error: str | None
    retry_attempts: int

    @classmethod
    def from_job(cls, job: Job, media: Sequence[Media], addresses: Addresses) -> Self:
        """Present a job; `pending` is called `queued`."""
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


class JobCancelled(Schema):
    """A cancelled or purged job."""

    message: str
    job: JobRead


class ModelRouteRead(Schema):
    """A model of a provider that a name of the catalogue stands for."""

    provider: str
    model: str
    configured: bool = Field(description="Whether the provider is configured here.")
    unverified: bool = Field(
        description="Whether this name has not been compared with the provider's own list."
    )
    parameters: list[str] = Field(description="The common parameters that it can express.")
    price: Mapping[str, str] | None = Field(description="As `price` of a model.")


class ModelRead(Schema):
    """A model of a provider, or of the catalogue."""

    name: str
    provider: str = Field(description="Where it runs; of the catalogue: at first.")
    description: str
    output: str | None = Field(description="Kind of media: image, animation, video, audio, text.")
    kind: str | None = Field(default=None, description="The same as `output`.")
    default: bool = Field(description="Whether it is used for requests without a model.")
    available: bool = Field(
        default=True, description="Whether a provider that runs it is configured here."
    )
    aliases: list[str] = Field(default_factory=list, description="Other names of it.")
    price: Mapping[str, str] | None = Field(
        default=None,
        description="USD by unit, where known: for each prediction, output, megapixel, second or token.",
    )
    routes: list[ModelRouteRead] = Field(
        default_factory=list,
        description="Of a model of the catalogue: where it can run, in order of preference.",
    )
    parameters: Mapping[str, Any] | None = Field(
        description="JSON schema (draft 2020-12) of `parameters`; null: currently unknown. Its member "
        "`x-prompt` says that the model needs no prompt: `optional`, or `none` if it has none."
    )


class ProblemField(Schema):
    """An invalid part of a request."""

    location: ErrorLocation = Field(default="body", description="The part of the request.")
    pointer: str = Field(description="JSON pointer into that part (RFC 6901).")
    code: str
    detail: str
    suggestion: str | None = Field(
        default=None,
        description="What was probably meant: a JSON pointer into the same part of the request; "
        "for an unknown path, the path of a route. Null: unknown.",
    )


class Problem(Schema):
    """An error. Source: RFC 9457, with `code`, `request_id` and `errors` added."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable code for programs, in snake_case.")
    request_id: str
    errors: list[ProblemField] = Field(default_factory=list)
