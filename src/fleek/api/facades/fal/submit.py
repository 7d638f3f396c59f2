"""The request that submits a job."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.requests import Request

from fleek.api.deps import caller, runtime
from fleek.api.facades.fal.arguments import translate
from fleek.api.facades.fal.result import METADATA
from fleek.api.facades.models import find_model
from fleek.domain.errors import FieldError, InvalidInput, NotFound
from fleek.domain.job import DEFAULT_PRIORITY, MODEL_NAME, JobRequest, JobWebhook, ModelName
from fleek.domain.values import dataclass
from fleek.schemas.create import read_prompt
from fleek.schemas.events import ENDS

FORM: Final = "fal"
LOW: Final = 3  # of priorities, for requests that say so
NAMESPACES: Final = frozenset({"workflows", "comfy"})
IGNORED_HEADERS: Final = (
    "X-Fal-Request-Timeout",
    "X-Fal-Runner-Hint",
    "X-Fal-Object-Lifecycle-Preference",
)


@dataclass(frozen=True, slots=True)
class Submission:
    """The job that a request asks for, and what of the request has no effect."""

    wanted: JobRequest
    ignored: tuple[str, ...]


async def submission(
    request: Request, app: str, arguments: Mapping[str, Any], *, webhook: str | None = None
) -> Submission:
    """Return the job that a request asks for.

    Raises:
        NotFound: There is no such application.
        InvalidInput: The arguments are not acceptable.
    """
    rt, who = runtime(request), caller(request)
    name = ModelName(app)
    if app not in rt.catalogue.aliases and MODEL_NAME.fullmatch(app) is None:
        raise NotFound(f"Application '{app[:200]}' not found")
    provider, schema = await find_model(rt, name)
    given = dict(arguments)
    prompt = _prompt(given.pop("prompt", None))
    made = translate(given, schema, files=f"{rt.settings.public_base}/fal/files/")
    unused = [name for name in IGNORED_HEADERS if name in request.headers]
    wanted = JobRequest(
        prompt=prompt,
        model=name,
        provider=provider,
        parameters=made.parameters,
        metadata={METADATA: {"app": _short(app)}},
        priority=_priority(request.headers.get("x-fal-queue-priority")),
        max_attempts=1 if request.headers.get("x-fal-no-retry") in {"1", "true"} else None,
        webhook=None if webhook is None else JobWebhook(webhook, tuple(ENDS), form=FORM),
        tenant_id=who.tenant_id,
        key_id=who.key_id,
    )
    return Submission(wanted, (*made.ignored, *unused))


def _short(app: str) -> str:
    """Return the application without the path behind its name, as clients ask for requests."""
    parts = app.split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def _priority(value: str | None) -> int:
    return LOW if (value or "").strip().lower() == "low" else DEFAULT_PRIORITY


def _prompt(value: object) -> str:
    if value is None or value == "":
        return ""  # the model's schema decides, as in `/api/v1/generate`
    try:
        return read_prompt(value if isinstance(value, str) else "")
    except ValueError as error:
        raise refused("prompt", "value_error", str(error)) from error


def refused(name: str, kind: str, detail: str) -> InvalidInput:
    """Return the error of an argument."""
    return InvalidInput(f"{name}: {detail}", errors=[FieldError(f"/{name}", kind, detail)])
