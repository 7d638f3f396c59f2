"""The request that creates a prediction, and the job that it asks for."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal

from fastapi.requests import Request
from pydantic import BaseModel, ConfigDict, Field

from fleek.api.deps import caller, runtime
from fleek.api.facades.models import find_model, offered, several_outputs
from fleek.api.facades.replicate.prediction import (
    EVENTS,
    METADATA,
    PREFIX,
    VERSION,
    version_id,
)
from fleek.domain.errors import FieldError, InvalidInput
from fleek.domain.inputs import texts_of, with_values
from fleek.domain.job import MODEL_NAME, JobRequest, JobWebhook, ModelName
from fleek.engine.runtime import Runtime
from fleek.schemas.create import read_prompt

FORM: Final = "replicate"
CANCEL_AFTER: Final = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")
SHORTEST: Final = timedelta(seconds=5)
ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

EventName = Literal["start", "output", "logs", "completed"]


class PredictionCreate(BaseModel):
    """The body of a request that creates a prediction. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    input: dict[str, Any]
    version: str | None = None
    webhook: str | None = Field(default=None, max_length=2048)
    webhook_events_filter: list[EventName] | None = Field(default=None, min_length=1)
    webhook_completed: str | None = Field(default=None, max_length=2048)  # the former way
    stream: bool | None = None  # every prediction has `urls.stream`


async def wanted_job(
    request: Request, body: PredictionCreate, *, model: str | None = None
) -> JobRequest:
    """Return the job that a request asks for. `model`: from the path, in place of a version.

    Raises:
        InvalidInput: Its fields are not acceptable, or there is no such version.
    """
    rt, who = runtime(request), caller(request)
    name = await _model(rt, body, model)
    provider, schema = await find_model(rt, name)
    parameters = dict(body.input)
    prompt = _prompt(parameters.pop("prompt", None))
    noted = {} if schema is None else {"output": several_outputs(schema)}
    if rt.catalogue.resolve(name) != name:
        noted["model"] = name
    return JobRequest(
        prompt=prompt,
        model=name,
        provider=provider,
        parameters=_with_uploads(rt, parameters),
        metadata={METADATA: noted} if noted else {},
        deadline=_deadline(request.headers.get("cancel-after")),
        webhook=_webhook(body),
        tenant_id=who.tenant_id,
        key_id=who.key_id,
    )


async def _model(rt: Runtime, body: PredictionCreate, model: str | None) -> ModelName:
    """Return the model that is meant: by a path, or a version alone or behind the model's name."""
    if model is not None and body.version is not None:
        raise refused("version", "the model in the path needs none")
    named = model or body.version
    if named is None:
        raise refused("version", "is required")
    if VERSION.fullmatch(named):
        known = [each.name for _, each in await offered(rt)]
        return next((name for name in known if version_id(name) == named), ModelName(named))
    if named in rt.catalogue.aliases:
        return ModelName(named)
    if MODEL_NAME.fullmatch(named) is None:
        raise refused("version", "must be a version, owner/name or owner/name:version")
    name, _, version = named.partition(":")
    return ModelName(name if version == version_id(name) else named)


def _prompt(value: object) -> str:
    if value is None or value == "":
        return ""  # the model's schema decides, as in `/api/v1/generate`
    try:
        return read_prompt(value if isinstance(value, str) else "")
    except ValueError as error:
        raise refused("input/prompt", str(error)) from error


def _with_uploads(rt: Runtime, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters with references to uploads in the place of their addresses."""
    ours = re.compile(
        rf"{re.escape(rt.settings.public_base)}(?:{PREFIX}|/replicate)/files/({ID})", re.IGNORECASE
    )
    found = {
        pointer: f"upload:{match[1]}"
        for pointer, text in texts_of(parameters).items()
        if (match := ours.fullmatch(text)) is not None
    }
    return with_values(parameters, found) if found else parameters


def _deadline(value: str | None) -> timedelta | None:
    """Return the time of ``Cancel-After``: such as 90s, 1m30s or 1h."""
    if value is None:
        return None
    found = CANCEL_AFTER.fullmatch(value.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    wanted = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if wanted < SHORTEST:
        raise refused("Cancel-After", "must be a time such as 90s, 1m30s or 1h, and at least 5s")
    return wanted


def _webhook(body: PredictionCreate) -> JobWebhook | None:
    if body.webhook is None:
        if body.webhook_completed is None:
            return None
        return JobWebhook(body.webhook_completed, _kinds(["completed"]), form=FORM)
    events: list[EventName] = body.webhook_events_filter or ["output", "completed"]
    return JobWebhook(body.webhook, _kinds(events), form=FORM)


def _kinds(events: list[EventName]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind for event in events for kind in EVENTS[event]))


def refused(name: str, detail: str) -> InvalidInput:
    """Return the error of a field."""
    return InvalidInput(f"{name}: {detail}", errors=[FieldError(f"/{name}", "invalid", detail)])
