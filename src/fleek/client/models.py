"""What the client returns: the wire format of version 1.

Made by scripts/make_client_models.py from `fleek.schemas`; edit those.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from fleek.client.wire_model import WireModel
from fleek.domain.access import Scope
from fleek.domain.budgets import Period
from fleek.domain.job import Kind, Status
from fleek.domain.usage import GroupBy
from fleek.domain.webhooks import DeliveryState


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Schema(WireModel):
    """A schema whose validator is built when it is first used: most processes use few of them."""


class JobStage(StrEnum):
    """What happens to a job that has not ended."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    COLLECTING = "collecting"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Retrying(WireModel):
    """Why a job waits, and when it is tried again."""

    code: str
    """Stable, for programs."""
    reason: str
    next_at: datetime
    """Earliest time of the next try."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OutputRead(WireModel):
    """One file of a completed job."""

    SHOWN: ClassVar[tuple[str, ...]] = (
        "index",
        "content_type",
        "size_bytes",
        "width",
        "height",
        "url",
    )

    index: int
    url: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    thumbnails: dict[str, str] = field(default_factory=dict)
    """Addresses of small pictures, by the pixels of their longer side: `320`, `960`. They are made
    soon after the job has completed, or when one is asked for that is missing; empty: of this type
    there are none."""
    placeholder: str | None = None
    """A tiny picture as a `data:` URI of at most 300 characters; None until a thumbnail was made."""
    poster: str | None = None
    """Address of the first frame of a film, where it can be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RouteRead(WireModel):
    """A model of a provider."""

    provider: str
    model_name: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TriedRoute(RouteRead):
    """A model of a provider that a job has left."""

    code: str
    """Why: stable, for programs."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobRoute(RouteRead):
    """Where a job runs: `model_name` and `parameters` of the job are those of this model."""

    requested: list[str]
    """The names that the request asked for, in order."""
    requested_parameters: dict[str, Any] | None
    """The parameters as the request had them; None: as in `parameters`."""
    alternatives: list[RouteRead]
    """Where it may go on if this model is certain not to be paid for."""
    tried: list[TriedRoute]
    """Where it was tried before, the latest last."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobLinks(WireModel):
    """Addresses related to a job."""

    self: str
    cancel: str
    download: str
    retry: str = ""
    events: str = ""
    history: str = ""
    logs: str = ""
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobRead(WireModel):
    """A job."""

    SHOWN: ClassVar[tuple[str, ...]] = (
        "id",
        "status",
        "model_name",
        "prompt",
        "error_code",
        "error_message",
    )

    id: UUID
    prompt: str
    model_name: str
    provider: str
    parameters: dict[str, Any]
    status: Status
    progress: float | None
    """0.0-1.0; None: not reported by the provider."""
    queue_position: int | None
    """Number of due jobs before this one; None once started, in lists, and in the response to a
    submission."""
    priority: int
    created_at: datetime
    updated_at: datetime
    run_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    purged_at: datetime | None
    stage: JobStage | None = None
    """`queued`, `starting`, `running` or `collecting`; None once it has ended."""
    attempt: int = 0
    """The number of its latest attempt, of `max_attempts`; 0 before the first. One in which
    nothing was started does not count."""
    retry_count: int
    max_attempts: int
    retry_of: UUID | None = None
    """The job whose request this one repeats; None: of none."""
    error_code: str | None
    error_message: str | None
    retrying: Retrying | None = None
    """Why the last try failed and when the next one is: the next attempt, or, while processing,
    the next try to store a paid result. None without an error."""
    result_url: str | None
    file_size: int | None
    outputs: list[OutputRead]
    kind: Kind | None = None
    """By the type of the first file; None until it has completed."""
    seed: int | None = None
    """The `seed` of its parameters; None: not chosen by the caller."""
    seconds: float | None = None
    """From its first start to its end; None: not ended, or never started."""
    external_job_id: str | None
    max_cost: str | None = None
    """What it may cost with all of its attempts, in US dollars. None: anything."""
    estimate: str | None = None
    """What its latest attempt, or the next one, is expected to cost: a decimal number of US
    dollars, such as `0.003`. None: unknown."""
    cost: str | None = None
    """What its ended attempts have cost, in US dollars. None: unknown."""
    metadata: dict[str, Any]
    favourite: bool = False
    tags: list[str] = field(default_factory=list)
    route: JobRoute | None = None
    """Where it runs, and where else it may run or was tried."""
    reused_from: UUID | None = None
    """The job whose files it has: it was not started, and nothing was paid for."""
    batch_id: UUID | None = None
    """The batch that it is a member of."""
    batch_index: int | None = None
    """The number of that member, from 0, in the order of the batch."""
    links: JobLinks


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobCancelled(WireModel):
    """A cancelled or purged job."""

    message: str
    job: JobRead


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelRouteRead(WireModel):
    """A model of a provider that a name of the catalogue stands for."""

    provider: str
    model: str
    configured: bool
    """Whether the provider is configured here."""
    unverified: bool
    """Whether this name has not been compared with the provider's own list."""
    parameters: list[str]
    """The common parameters that it can express."""
    price: dict[str, str] | None
    """As `price` of a model."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelRead(WireModel):
    """A model of a provider, or of the catalogue."""

    SHOWN: ClassVar[tuple[str, ...]] = ("name", "provider", "output")

    name: str
    provider: str
    """Where it runs; of the catalogue: at first."""
    description: str
    output: str | None
    """Kind of media: image, animation, video, audio, text."""
    kind: str | None = None
    """The same as `output`."""
    default: bool
    """Whether it is used for requests without a model."""
    available: bool = True
    """Whether a provider that runs it is configured here."""
    aliases: list[str] = field(default_factory=list)
    """Other names of it."""
    price: dict[str, str] | None = None
    """USD by unit, where known: for each prediction, output, megapixel, second or token."""
    routes: list[ModelRouteRead] = field(default_factory=list)
    """Of a model of the catalogue: where it can run, in order of preference."""
    parameters: dict[str, Any] | None
    """JSON schema (draft 2020-12) of `parameters`; None: currently unknown. Its member `x-prompt`
    says that the model needs no prompt: `optional`, or `none` if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobEvent(JobRead):
    """The data of an event of a job: the job, and when it happened."""

    SHOWN: ClassVar[tuple[str, ...]] = (
        "id",
        "seq",
        "status",
        "model_name",
        "prompt",
        "error_code",
    )

    seq: int
    """Number of the event, rising; not all numbers are events."""
    at: datetime
    """When the event happened."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LogText(WireModel):
    """The data of an event `log`: what has come to the logs of a job."""

    attempt: int
    """Number of the attempt, from 1."""
    text: str
    """As the model has printed it, line breaks included."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProblemField(WireModel):
    """An invalid part of a request."""

    location: str = "body"
    """The part of the request."""
    pointer: str
    """JSON pointer into that part (RFC 6901)."""
    code: str
    detail: str
    suggestion: str | None = None
    """What was probably meant: a JSON pointer into the same part of the request; for an unknown
    path, the path of a route. None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EstimateRead(WireModel):
    """What a request will cost."""

    cost: str | None
    """Of one attempt. Decimal number of US dollars, such as `0.003`; None: unknown."""
    route: RouteRead | None
    """None: the provider is not configured."""
    queue_position: int | None
    """Number of due jobs before it, at most 1,000; None: it would be refused."""
    problems: list[ProblemField]
    """Why the request would be refused; empty: it would be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UsageRow(WireModel):
    """The attempts that have something in common."""

    name: str | None
    """The day, the model …; None: requests without a key."""
    attempts: int
    """Those that were paid for."""
    unknown: int
    """Those of them whose cost is not known."""
    cost: str
    """In US dollars."""
    reserved: str
    """For attempts that have not ended, in US dollars."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UsageRead(WireModel):
    """What was spent within some days."""

    first: str
    """The first day."""
    last: str
    """The last day."""
    group_by: GroupBy
    cost: str
    """In all, in US dollars."""
    rows: list[UsageRow]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BudgetRead(WireModel):
    """A budget, and what is spent in its current period, in US dollars."""

    tenant: str | None
    """None: the whole service."""
    key: str | None
    """None: all keys, and requests without one."""
    period: Period
    start: str | None
    """The current period, `2026-11-29` or `2026-11`; None for `total`."""
    limit: str
    spent: str
    reserved: str
    """For attempts that have not ended, as estimated."""
    left: str
    """What may still be reserved."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UploadRead(WireModel):
    """An uploaded file."""

    SHOWN: ClassVar[tuple[str, ...]] = ("reference", "content_type", "size_bytes", "expires_at")

    id: UUID
    reference: str
    """The value of a parameter that names it: `upload:ID`."""
    url: str
    """The address of this description."""
    content_type: str
    """As detected in the bytes."""
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration_seconds: float | None
    created_at: datetime
    expires_at: datetime
    """It is kept until then; uploading the same bytes again extends it."""


class BatchStatus(StrEnum):
    """How far a batch has come."""

    ACCEPTING = "accepting"
    PROCESSING = "processing"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchLinks(WireModel):
    """Addresses related to a batch."""

    self: str
    jobs: str
    events: str
    outputs: str
    cancel: str
    retry: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchRead(WireModel):
    """A batch."""

    SHOWN: ClassVar[tuple[str, ...]] = ("id", "status", "total", "accepted")

    id: UUID
    status: BatchStatus
    """`accepting`: not every member is a job yet, because the request goes on, or was interrupted
    and has to be repeated with its key; `processing`; `ended`: every job has ended."""
    total: int
    """Its members."""
    accepted: int
    """Members that are jobs."""
    counts: dict[Status, int]
    """How many members have each status. A job that was retried does not count: its retry does."""
    created_at: datetime
    cancelled_at: datetime | None
    """When it was cancelled before every member was a job: the others never will be."""
    links: BatchLinks


class EndpointEventType(StrEnum):
    """The type of an event that an endpoint can choose: of a job, or of another endpoint."""

    CREATED = "job.created"
    STARTED = "job.started"
    PROGRESS = "job.progress"
    RETRYING = "job.retrying"
    COLLECTING = "job.collecting"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    PURGED = "job.purged"
    UPDATED = "job.updated"
    ENDPOINT_DISABLED = "endpoint.disabled"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EndpointRead(WireModel):
    """An address that receives the events of all jobs of its tenant."""

    id: UUID
    url: str
    events: list[EndpointEventType]
    description: str
    enabled: bool
    disabled_reason: str | None
    """`gone`: it has answered 410; `failing`: for five days; None: not by the service."""
    failing_since: datetime | None
    """The first failure since the latest success; None: it works."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EndpointCreated(EndpointRead):
    """A new endpoint."""

    secret: str = ""
    """Signs its webhooks: `whsec_…`. It is not returned again."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SecretRead(WireModel):
    """A signing secret."""

    secret: str
    """`whsec_` and 32 bytes in Base64, as Standard Webhooks has it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeliveryRead(WireModel):
    """An event for one receiver."""

    id: str
    """What the receiver sees as `webhook-id`: `msg_…`."""
    type: str
    """The type of the event, or `webhook.test`."""
    endpoint_id: UUID | None
    """None: it goes to the `webhook_url` of the job."""
    receiver: str | None
    """Where it goes, without path and query; None: see the endpoint."""
    job_id: UUID | None
    """None: it is about no job."""
    state: DeliveryState
    attempts: int
    """How often it was sent, or could not be sent."""
    next_at: datetime | None
    """When it is sent next at the earliest; None: it has ended."""
    last_status: int | None
    """HTTP status of the latest response."""
    last_reason: str | None
    """What came of the latest attempt: see `attempts`."""
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeliveryAttemptRead(WireModel):
    """One attempt to deliver."""

    number: int
    at: datetime
    """When it ended."""
    seconds: float
    status: int | None
    """HTTP status of the response; None: there was none."""
    reason: str
    """`delivered`, `refused`, `redirected`, `gone`, `timed_out`, `unreachable`, `no_response`,
    `blocked`, `endpoint_disabled`, `endpoint_deleted` or `secret_unreadable`; what else is known
    follows after a colon."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeliveryDetail(DeliveryRead):
    """An event for one receiver, with its body and the latest 30 attempts."""

    body: str = ""
    """What is sent, to the byte."""
    log: list[DeliveryAttemptRead] = field(default_factory=list)
    """The attempts, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyRead(WireModel):
    """A key, without its secret."""

    SHOWN: ClassVar[tuple[str, ...]] = (
        "id",
        "tenant",
        "name",
        "scopes",
        "expires_at",
        "revoked_at",
    )

    id: str
    tenant: str
    name: str
    prefix: str
    """The beginning of the key."""
    scopes: list[Scope]
    created_at: datetime
    created_by: str | None
    """The id of the key that created it; None: the command line."""
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """Accurate to a minute."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyCreated(KeyRead):
    """A new key, with its secret."""

    SHOWN: ClassVar[tuple[str, ...]] = ("id", "tenant", "name", "scopes", "expires_at")

    key: str
    """The key itself. It is shown this once and stored nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PauseRead(WireModel):
    """A pause by an operator."""

    provider: str | None
    """None: every provider."""
    model: str | None
    """None: every model."""
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QueueRead(WireModel):
    """The queue of all tenants."""

    pending: int
    """Due jobs that wait to be started."""
    processing: int
    paused: list[PauseRead]
