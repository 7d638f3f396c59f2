"""The request that creates a job."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from fleek import strict
from fleek.domain.access import Caller
from fleek.domain.errors import Unreadable
from fleek.domain.job import (
    DEFAULT_PRIORITY,
    MAX_SCHEDULE,
    MODEL_NAME,
    JobRequest,
    JobWebhook,
    ModelName,
    OnInputCancel,
)
from fleek.domain.money import read_usd
from fleek.domain.routing import RouteOrder
from fleek.schemas.events import ENDS, EventType

MAX_PROMPT = 10_000
MAX_METADATA_BYTES = 4096
MAX_TAGS = 16
MAX_MODELS = 10
PROVIDER_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,99}")
MAX_TAG = 64  # characters
PARAMETERS_FORM = "must be an object, or a string that contains a JSON object"

RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def read_prompt(value: str) -> str:
    """Return a prompt without the space around it.

    Raises:
        ValueError: It has no visible character, or too many.
    """
    trimmed = value.strip()
    if not any(unicodedata.category(char)[0] not in "ZC" for char in trimmed[:MAX_PROMPT]):
        raise ValueError("must contain at least one visible character")
    if len(trimmed) > MAX_PROMPT:
        raise ValueError(f"must have at most {MAX_PROMPT} characters")
    return trimmed


def _prompt(value: str) -> str:
    return value and read_prompt(value)


def _amount(value: str) -> str:
    read_usd(value)
    return value


def _model(value: str) -> str:
    if MODEL_NAME.fullmatch(value) is None:
        raise ValueError("must be owner/name, owner/name:version or an alias")
    return value


Name = Annotated[
    str,
    AfterValidator(_model),
    Field(json_schema_extra={"pattern": f"^{MODEL_NAME.pattern}$"}),
]


def _reference(value: str) -> str:
    provider, colon, name = value.partition(":")
    known = MODEL_NAME.fullmatch(value) or (
        colon and PROVIDER_NAME.fullmatch(provider) and MODEL_NAME.fullmatch(name)
    )
    if not known:
        raise ValueError("must be owner/name, a name of the catalogue, or PROVIDER:NAME")
    return value


ModelReference = Annotated[
    str,
    Field(max_length=500, json_schema_extra={"examples": ["flux-schnell", "openai:gpt-image-1"]}),
    AfterValidator(_reference),
]


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    if len(strict.dumps(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"must have at most {MAX_METADATA_BYTES} bytes as JSON")
    return value


def _tags(value: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(tag.strip() for tag in value))
    if not all(tag.isprintable() and 0 < len(tag) <= MAX_TAG for tag in distinct):
        raise ValueError(f"must have 1-{MAX_TAG} printable characters each")
    return distinct


Tags = Annotated[list[str], Field(max_length=MAX_TAGS), AfterValidator(_tags)]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]


def _parameters(value: object) -> object:
    if isinstance(value, str):
        try:
            value = strict.loads(value.encode())
        except (Unreadable, UnicodeEncodeError) as error:
            raise ValueError(PARAMETERS_FORM) from error
    if not isinstance(value, dict):
        raise ValueError(PARAMETERS_FORM)
    if "prompt" in value:
        raise ValueError("must not contain prompt, which is a field of the request")
    return value


def read_time(value: object) -> object:
    """Return an aware time in UTC from its form in RFC 3339; null stays null."""
    if value is None:
        return None
    if not isinstance(value, str) or RFC3339.fullmatch(value) is None:
        raise ValueError(
            "must be a time with a time zone, such as 2030-01-31T09:00:00Z (RFC 3339)"
        )
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("is not a valid time") from error


EXAMPLES: Final[list[JsonValue]] = [
    {"prompt": "A cat riding a bicycle"},
    {
        "prompt": "A lighthouse in a storm, oil on canvas",
        "model_name": "black-forest-labs/flux-schnell",
        "parameters": {"width": 1024, "height": 768, "seed": 7},
        "metadata": {"album": "sea"},
        "priority": 7,
        "deadline_seconds": 600,
    },
]


class JobCreate(BaseModel):
    """The request that creates a job. Unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": EXAMPLES},
    )

    prompt: Annotated[
        str,
        Field(
            max_length=4 * MAX_PROMPT,
            description="1-10,000 characters, trimmed. Required, except by models whose `parameters` have "
            "`x-prompt`, such as those that enlarge a picture.",
        ),
        AfterValidator(_prompt),
    ] = ""
    model_name: Name | None = Field(
        default=None,
        description="A name of the catalogue, or `owner/name` or `owner/name:version`; default: the "
        "provider's default model.",
    )
    model: Name | None = Field(default=None, description="The same as `model_name`.")
    parameters: Annotated[
        dict[str, Any], BeforeValidator(_parameters, json_schema_input_type=dict[str, Any] | str)
    ] = Field(
        default_factory=dict,
        description="Parameters of the model: an object, or a string that contains a JSON object.",
    )
    provider: str | None = Field(
        default=None,
        max_length=100,
        description="The provider to use; default: that of the model's route, or of the settings.",
    )
    models: list[ModelReference] = Field(
        default_factory=list,
        max_length=MAX_MODELS,
        description="In place of `model_name`: names in order of preference, each as `model_name`, or "
        "with its provider: `openai:gpt-image-1`. The job goes on at the next one when, and only when, "
        "it is certain not to be paid for at this one any more.",
    )
    route: Annotated[RouteOrder, Field(strict=False)] = Field(
        default=RouteOrder.LISTED,
        description="The order in which routes are tried: `listed`, `cheapest` by the price list, or "
        "`fastest` by the jobs of the last hour.",
    )
    strict_parameters: bool = Field(
        default=True,
        description="For a model of the catalogue: whether a parameter that its provider's model "
        "cannot express is refused; `false` leaves it out.",
    )
    metadata: Metadata = Field(
        default_factory=dict, description="Any object, up to 4 KiB, returned unchanged."
    )
    tags: Tags = Field(
        default_factory=list,
        description="Words to find the job by: up to 16, of up to 64 characters each.",
    )
    priority: int = Field(
        default=DEFAULT_PRIORITY, ge=0, le=9, description="0-9; jobs with 9 start first."
    )
    run_at: Annotated[
        datetime | None, BeforeValidator(read_time, json_schema_input_type=datetime | None)
    ] = Field(default=None, description="Earliest start, at most 365 days ahead (RFC 3339).")
    deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCHEDULE.total_seconds(),
        description="Maximum duration, from `run_at` or else from the submission.",
    )
    max_attempts: int | None = Field(
        default=None, ge=1, le=20, description="Maximum number of attempts, including the first."
    )

    max_cost: Annotated[str, AfterValidator(_amount)] | None = Field(
        default=None,
        description="The most that the job may cost with all of its attempts, in US dollars: a decimal "
        "number as a string, such as `0.25`. A request that is expected to cost more, or an unknown "
        "amount, is refused with 402 `max_cost_exceeded`, and a further attempt is not made.",
    )
    on_input_cancel: Annotated[OnInputCancel, Field(strict=False)] = Field(
        default=OnInputCancel.FAIL,
        description="What becomes of the job if one whose output it needs is cancelled: `fail` (with "
        "`input_failed`), or `cancel`.",
    )
    reuse_seconds: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCHEDULE.total_seconds(),
        description="Complete the job at once with the files of an equal one of yours (same model, prompt "
        "and parameters) that completed within this time, if there is one: nothing is paid for, "
        "and `reused_from` names it. Default: it always starts.",
    )
    webhook_url: str | None = Field(
        default=None,
        max_length=2048,
        description="Where webhooks about this job are sent: an `https://` address.",
    )
    webhook_events: list[Annotated[EventType, Field(strict=False)]] | None = Field(
        default=None,
        min_length=1,
        max_length=len(EventType),
        description="The events that `webhook_url` receives; default: those that end the job.",
    )

    @model_validator(mode="after")
    def _events_have_an_address(self) -> Self:
        if self.webhook_events is not None and self.webhook_url is None:
            raise ValueError("webhook_events has no effect without webhook_url")
        return self

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.models and (self.model_name or self.model):
            raise ValueError("models and model_name exclude each other; use only one of them")
        if self.model is not None and self.model_name not in {None, self.model}:
            raise ValueError("model and model_name differ; use only one of them")
        return self

    def to_request(self, caller: Caller) -> JobRequest:
        """Return the request for the engine."""
        model = self.model_name or self.model
        seconds = self.deadline_seconds
        return JobRequest(
            prompt=self.prompt,
            model=None if model is None else ModelName(model),
            parameters=self.parameters,
            strict_parameters=self.strict_parameters,
            models=tuple(self.models),
            route=self.route,
            provider=self.provider,
            metadata=self.metadata,
            priority=self.priority,
            run_at=self.run_at,
            deadline=None if seconds is None else timedelta(seconds=seconds),
            max_attempts=self.max_attempts,
            max_cost=None if self.max_cost is None else read_usd(self.max_cost),
            tags=tuple(self.tags),
            on_input_cancel=self.on_input_cancel,
            reuse=None if self.reuse_seconds is None else timedelta(seconds=self.reuse_seconds),
            webhook=self._webhook(),
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
        )

    def _webhook(self) -> JobWebhook | None:
        if self.webhook_url is None:
            return None
        return JobWebhook(self.webhook_url, tuple(self.webhook_events or ENDS))


class JobPatch(BaseModel):
    """What to change of a job; what is not named stays."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"favourite": True, "tags": ["sea", "storm"]}]},
    )

    favourite: bool = Field(default=False, description="Whether it is a favourite.")
    tags: Tags = Field(default_factory=list, description="All tags, in place of the former ones.")
    metadata: Metadata = Field(
        default_factory=dict, description="Any object, up to 4 KiB, in place of the former one."
    )

    def changes(self) -> dict[str, Any]:
        """Return the fields of a job that change."""
        named = {name: getattr(self, name) for name in self.model_fields_set}
        return named | ({"tags": tuple(self.tags)} if "tags" in named else {})
