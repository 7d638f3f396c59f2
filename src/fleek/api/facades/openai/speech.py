"""The route of speech. The answer is the file."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Body
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api import media
from fleek.api.deps import runtime
from fleek.api.facades.openai.errors import NO_RETRY, failure, refused
from fleek.api.facades.openai.images import PREFIX
from fleek.api.facades.openai.options import find_target, translate
from fleek.api.facades.openai.requests import Fields, accept
from fleek.api.facades.openai.waiting import ended
from fleek.api.facades.routes import FacadeRouter
from fleek.domain.access import Scope
from fleek.domain.job import Status

TAG: Final = "openai-speech"
OPTIONS: Final = ("instructions", "response_format", "speed", "voice")

router = FacadeRouter(PREFIX)


@router.route("POST", "/audio/speech", scope=Scope.JOBS_WRITE)
async def create(body: Annotated[dict[str, Any], Body()], request: Request) -> Response:
    """Say a text, and return the sound."""
    rt, fields = runtime(request), Fields(body)
    prompt, asked = fields.prompt("input"), fields.text("model")
    if asked is None:
        raise refused("model", "is required", code="missing_required_parameter")
    fields.text("stream_format", "audio")
    given = {**fields.rest(), "voice": _voice(fields.take("voice"))}
    target = await find_target(rt, asked)
    done = translate(target, given, options=OPTIONS)
    said = {"model": asked}
    accepted = await accept(request, prompt, target, done, said=said, tag=TAG)
    view = await ended(request, accepted)
    headers = {"X-Fleek-Job": str(view.job.id), **done.headers()}
    if view.job.status is not Status.COMPLETED:
        status, problem = failure(view.job)
        return JSONResponse(problem, status, headers=headers | NO_RETRY)
    response = await media.download(view.job.id, rt, request)
    response.headers.update(headers)
    return response


def _voice(value: Any) -> Any:
    """Return the name of a voice: a text, or an object with its id."""
    return value.get("id") if isinstance(value, Mapping) else value
