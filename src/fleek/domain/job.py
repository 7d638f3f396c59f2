"""A job, its states, and its request. Only `fleek.domain.transitions` changes it."""

import random
import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NewType
from uuid import UUID

from fleek.domain.inputs import MediaInput
from fleek.domain.routing import RouteOrder, Routing
from fleek.domain.values import dataclass

JobId = NewType("JobId", UUID)  # version 7: sorts by time
AttemptId = NewType("AttemptId", UUID)
WorkerId = NewType("WorkerId", UUID)
BatchId = NewType("BatchId", UUID)  # version 7: sorts by time
PredictionId = NewType("PredictionId", str)  # the provider's own
ModelName = NewType("ModelName", str)  # "owner/name", "owner/name:version"


class Status(StrEnum):
    """The public state of a job."""

    PENDING = "pending"  # waits for `run_at`, for a worker, or for the next attempt
    PROCESSING = "processing"  # see `Stage`
    COMPLETED = "completed"  # its files are stored; final
    FAILED = "failed"  # no attempt is left or can help; final unless collected again
    CANCELLED = "cancelled"  # by the caller; final


class Kind(StrEnum):
    """What a job has made, by the type of its first file."""

    IMAGE = "image"
    ANIMATION = "animation"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    OTHER = "other"

    @classmethod
    def of(cls, content_type: str) -> "Kind":
        """Return the kind of files of a type, such as ``image/png``."""
        if content_type == "image/gif":
            return cls.ANIMATION
        if content_type == "application/json":
            return cls.TEXT
        family = content_type.partition("/")[0]
        return cls(family) if family in {"image", "video", "audio", "text"} else cls.OTHER


class Stage(StrEnum):
    """The stage of a job in processing."""

    STARTING = "starting"  # a worker has written the intent and starts the prediction
    WAITING = "waiting"  # the prediction runs at the provider; no worker holds the job
    COLLECTING = "collecting"  # the prediction has succeeded; its outputs move to storage
    UNKNOWN = "unknown"  # a prediction may have been created; to be reconciled


class OnInputCancel(StrEnum):
    """What becomes of a job when one that it waits for, as its input, is cancelled."""

    FAIL = "fail"
    CANCEL = "cancel"


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

State = Status | Stage
"""A stage means "processing, in this stage"."""

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    Status.PENDING: frozenset({Stage.STARTING, Status.FAILED, Status.CANCELLED}),
    Stage.STARTING: frozenset(
        {Stage.WAITING, Stage.UNKNOWN, Status.PENDING, Status.FAILED, Status.CANCELLED}
    ),
    Stage.UNKNOWN: frozenset({Stage.WAITING, Status.PENDING, Status.FAILED, Status.CANCELLED}),
    Stage.WAITING: frozenset(
        {Stage.WAITING, Stage.COLLECTING, Status.PENDING, Status.FAILED, Status.CANCELLED}
    ),
    Stage.COLLECTING: frozenset(
        {Stage.COLLECTING, Status.COMPLETED, Status.PENDING, Status.FAILED, Status.CANCELLED}
    ),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset({Stage.COLLECTING}),  # a paid result is collected again
    Status.CANCELLED: frozenset(),
}


WAITING_FOR_INPUT: Final = "waiting_for_input"
"""The code of a pending job's error while it waits for another job to end."""


@dataclass(frozen=True, slots=True)
class JobError:
    """The reason why a job or its latest attempt failed."""

    code: str  # stable, snake_case
    message: str


@dataclass(frozen=True, slots=True)
class JobWebhook:
    """Where a job's own webhooks go, whatever endpoints its tenant has."""

    url: str
    events: tuple[str, ...]  # their types
    form: str | None = None  # a name from `fleek.registry.WEBHOOK_FORMS`; None: our own


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request to generate media, from its acceptance to its end."""

    id: JobId
    tenant_id: str
    provider: str  # a name from `fleek.registry.PROVIDERS`
    model: ModelName
    prompt: str
    input: Mapping[str, Any]  # the model's parameters, without the prompt
    metadata: Mapping[str, Any]  # from the caller, returned unchanged
    priority: int  # 0-9; 9 starts first
    max_attempts: int  # maximum of counted attempts
    run_at: datetime  # earliest start; later for each new attempt
    deadline: datetime  # time at which it fails unless it has ended
    created_at: datetime
    updated_at: datetime
    status: Status = Status.PENDING
    stage: Stage | None = None  # set while processing
    attempt: int = 0  # counted intents; given back if no prediction was created
    retries: int = 0  # failed attempts that were followed by another
    deferrals: int = 0  # attempts given back
    crashes: int = 0  # intents whose worker crashed
    collects: int = 0
    """Failures in a row to collect the latest prediction's outputs, or, while pending, to fetch its
    inputs."""
    worker_id: WorkerId | None = None  # the worker that holds it, while starting or collecting
    attempt_id: AttemptId | None = None  # the latest attempt
    prediction_id: PredictionId | None = None  # of the latest attempt, once bound
    progress: float | None = None  # 0.0-1.0, from the provider; None: not reported
    error: JobError | None = None
    """The reason why the job or its latest attempt failed, or why it waits, for its inputs or while
    collecting; None for a completed job."""
    started_at: datetime | None = None  # the first claim
    completed_at: datetime | None = None  # time of its terminal status
    kind: Kind | None = None  # of its first file, once it has completed
    deadline_after: timedelta | None = None
    """The deadline, counted from the requested `run_at`; None: not stored by an earlier release."""
    favourite: bool = False  # the caller's own, as are its tags
    tags: tuple[str, ...] = ()
    inputs: tuple[MediaInput, ...] = ()  # among its parameters
    on_input_cancel: OnInputCancel = OnInputCancel.FAIL
    routing: Routing | None = None
    """Where else it may run; `provider`, `model`, `input` and `inputs` are those of its current route."""
    retry_of: JobId | None = None  # the job whose request it repeats
    reused_from: JobId | None = None  # the job whose files it has, so that it was never started
    content: bytes | None = None
    """SHA-256 of what its result depends on; None: unknown, or of an earlier release."""
    batch_id: BatchId | None = None  # the batch that it is a member of
    batch_index: int | None = None  # the number of that member, from 0
    key_id: str | None = None  # the API key that created it; None: without a key
    traceparent: str | None = None  # the trace context of the request that created it
    webhook: JobWebhook | None = None
    max_cost: int | None = None  # that its attempts may cost, in 10^-6 USD; None: any
    estimate: int | None = None
    """Expected cost of its latest attempt, or of the next one, in 10^-6 USD; None: unknown."""
    charged: int = 0  # the number of the latest attempt that something was reserved for
    charged_on: str | None = None  # the day of that, in UTC
    cost: int | None = 0  # of its ended attempts, in 10^-6 USD; None: unknown
    purged_at: datetime | None = None  # when its files were purged
    metadata_purged_at: datetime | None = None  # when its metadata document was purged
    purging: bool = False  # whether some of what was purged may still be in storage
    search_since: datetime | None = None
    """Set by a restore: a prediction that the provider has created since then may be of this job, and is
    searched for before another one is created; None: there is no such prediction."""
    version: int = 1  # rises with each change; the seq of its latest event

    @property
    def state(self) -> State:
        """The stage while processing, else the status."""
        return self.status if self.stage is None else self.stage

    @property
    def waits_for_input(self) -> bool:
        """Whether it waits for another job, whose output it needs, to end."""
        waits = self.error is not None and self.error.code == WAITING_FOR_INPUT
        return waits and self.status is Status.PENDING

    @property
    def terminal(self) -> bool:
        """Whether it has ended; only a failed job may be collected again."""
        return self.status in TERMINAL

    @property
    def ordinal(self) -> int:
        """The number of its latest attempt, from 1, including those given back."""
        return self.attempt + self.deferrals


@dataclass(frozen=True, slots=True)
class Change:
    """A job after one step, with the new event of its history.

    ``job.version`` is still the one that was read: the store compares and increments it.
    """

    job: Job
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before attempt n + 1: exponential backoff with full jitter."""

    base: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    ceiling: timedelta = timedelta(seconds=60)

    def delay(self, n: int, *, floor: timedelta | None = None, least: float = 0.0) -> timedelta:
        """Return a random wait after the n-th failure (from 1), not below `floor`.

        `least` is the minimum as a share of the ceiling, 0-1.
        """
        steps = min(max(n, 1) - 1, 64)  # the ceiling is reached long before that
        limit = min(self.ceiling.total_seconds(), self.base.total_seconds() * self.factor**steps)
        wait = timedelta(seconds=random.uniform(least * limit, limit))  # noqa: S311 - jitter, not a secret
        return wait if floor is None else max(wait, floor)


DEFAULT_TENANT: Final = "default"
DEFAULT_PRIORITY: Final = 5
MAX_SCHEDULE: Final = timedelta(days=365)
"""Maximum time from now to a requested `run_at`."""

MODEL_NAME: Final = re.compile(
    r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}(/[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}"
    r"(:[a-zA-Z0-9._-]{1,128}|(/[a-zA-Z0-9][a-zA-Z0-9._-]{0,30}){1,6})?)?"
)
"""``owner/name``, ``owner/name:version``, ``owner/name/path``, or an alias without a slash; at most 393
characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A request to generate media; None means the default of the settings."""

    prompt: str  # 1-10,000 characters, trimmed; empty: none, for models that need none
    model: ModelName | None = None  # of a provider, or of the catalogue
    models: tuple[str, ...] = ()  # in its place: several, in order of preference
    parameters: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    route: RouteOrder = RouteOrder.LISTED
    strict_parameters: bool = True  # refuse what a route of the catalogue cannot express
    metadata: Mapping[str, Any] = field(default_factory=dict)
    priority: int = DEFAULT_PRIORITY  # 0-9; 9 starts first
    run_at: datetime | None = None  # None: at once
    deadline: timedelta | None = None  # counted from `run_at`, else from submission
    max_attempts: int | None = None
    webhook: JobWebhook | None = None
    tags: tuple[str, ...] = ()
    on_input_cancel: OnInputCancel = OnInputCancel.FAIL
    max_cost: int | None = None  # in 10^-6 USD; None: any
    reuse: timedelta | None = None  # files of an equal job may be its own that completed within it
    tenant_id: str = DEFAULT_TENANT
    key_id: str | None = None  # the API key of the caller


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a caller asks for: all conditions hold; None and empty are no condition."""

    statuses: frozenset[Status] = frozenset()
    model: ModelName | None = None
    provider: str | None = None
    kind: Kind | None = None
    tag: str | None = None
    q: str | None = None  # words that the prompt has, all of them
    favourite: bool | None = None
    batch_id: BatchId | None = None
    created_after: datetime | None = None  # inclusive
    created_before: datetime | None = None  # exclusive
    oldest_first: bool = False
