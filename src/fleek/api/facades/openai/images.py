"""Routes of images: generate and edit. The answer is the result."""

import base64
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Body
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api.deps import addresses, caller, hub, runtime
from fleek.api.facades.forms import read_form
from fleek.api.facades.openai.errors import NO_RETRY, failure, refused
from fleek.api.facades.openai.options import find_target, translate
from fleek.api.facades.openai.requests import Fields, accept
from fleek.api.facades.openai.waiting import ended
from fleek.api.facades.outputs import address_of
from fleek.api.facades.routes import FacadeRouter
from fleek.api.sse import COMMENT, QUIET_SECONDS, EventStream, frame
from fleek.api.streams import Stream
from fleek.domain.access import Scope
from fleek.domain.job import Job, Status
from fleek.domain.media import Media
from fleek.engine.runtime import Runtime
from fleek.engine.uploads import accept_upload
from fleek.store import jobs

PREFIX: Final = "/openai/v1"
TAG: Final = "openai-image"
MAX_BYTES: Final = 128 * 1_048_576  # of all images in one answer

OPTIONS: Final = (
    *("background", "complexity", "frame_count", "frame_duration_ms", "input_fidelity"),
    *("moderation", "output_compression", "output_format", "partial_images", "quality"),
    *("safety_identifier", "style", "svg", "user"),
)
"""What a model may lack: it is ignored then, and a header says so."""

router = FacadeRouter(PREFIX)


@router.route("POST", "/images/generations", scope=Scope.JOBS_WRITE)
async def generate(body: Annotated[dict[str, Any], Body()], request: Request) -> Response:
    """Make images, and return them."""
    return await _made(request, Fields(body), {}, "image_generation")


@router.route("POST", "/images/edits", scope=Scope.JOBS_WRITE)
async def edit(request: Request) -> Response:
    """Make images from others, and return them."""
    take = partial(accept_upload, runtime(request), tenant_id=caller(request).tenant_id)
    names = frozenset({"image", "image[]", "mask", "markup"})
    form = await read_form(request, take, files=names)
    files: dict[str, list[str]] = {}
    for sent in form.files:
        files.setdefault(sent.name.removesuffix("[]"), []).append(sent.upload.reference)
    if "markup" in files:
        raise refused("markup", "is not supported", code="unsupported_parameter")
    if "image" not in files:
        raise refused("image", "is required", code="missing_required_parameter")
    if len(files.get("mask", ())) > 1:
        raise refused("mask", "may be given once")
    given = {name: each[0] if len(each) == 1 else each for name, each in files.items()}
    return await _made(request, Fields(dict(form.fields)), given, "image_edit")


async def _made(
    request: Request, fields: Fields, files: Mapping[str, Any], event: str
) -> Response:
    rt = runtime(request)
    prompt, asked = fields.prompt("prompt"), fields.text("model")
    form = fields.text("response_format", "url", "b64_json") or _usual_form(asked)
    stream = fields.flag("stream")
    target = await find_target(rt, asked or _default(rt))
    done = translate(target, {**files, **fields.rest()}, options=OPTIONS)
    said = {"model": asked}
    accepted = await accept(request, prompt, target, done, said=said, tag=TAG)
    headers = {"X-Fleek-Job": str(accepted.job.id), **done.headers()}
    if stream:
        response: Response = EventStream(request, partial(_streamed, request, accepted.job, event))
        response.headers.update(headers)
        return response
    view = await ended(request, accepted)
    if view.job.status is not Status.COMPLETED:
        status, problem = failure(view.job)
        return JSONResponse(problem, status, headers=headers | NO_RETRY)
    return JSONResponse(await _result(rt, view.job, view.media, form), headers=headers)


def _default(rt: Runtime) -> str:
    """Return the model of a request that names none."""
    return rt.settings.default_model or rt.providers[rt.settings.provider].default_model


def _usual_form(asked: str | None) -> str:
    """Return what callers of a model expect that do not say: DALL·E, the default at OpenAI, has addresses."""
    return "url" if asked is None or asked.startswith("dall-e") else "b64_json"


async def _result(rt: Runtime, job: Job, media: Sequence[Media], form: str) -> Mapping[str, Any]:
    here = addresses(rt)
    if form == "url":
        data = [{"url": address_of(file, here)} for file in media]
    else:
        _check_size(job, media)
        data = [{"b64_json": await _encoded(rt, file)} for file in media]
    return {"created": int(job.created_at.timestamp()), "data": data, **_described(media)}


def _described(media: Sequence[Media]) -> Mapping[str, str]:
    """Return what OpenAI says of images as a whole, as far as it is known."""
    first = next(iter(media), None)
    if first is None:
        return {}
    kind = first.content_type.partition("/")[2].partition(";")[0]
    sized = first.width is not None and first.height is not None
    return {
        "output_format": kind,
        **({"size": f"{first.width}x{first.height}"} if sized else {}),
    }


def _check_size(job: Job, media: Sequence[Media]) -> None:
    if sum(file.size_bytes for file in media) > MAX_BYTES:
        raise refused("response_format", f"must be url: the images of job {job.id} are too large")


async def _encoded(rt: Runtime, file: Media) -> str:
    parts = [part async for part in rt.storage.read(file.key)]
    return base64.b64encode(b"".join(parts)).decode()


async def _streamed(
    request: Request, job: Job, event: str, stream: Stream
) -> AsyncGenerator[bytes]:
    """Give an event for each image once the job has ended; comments until then."""
    rt = runtime(request)
    with hub(request).watch(job.id, stream.bell) as watch:
        yield COMMENT
        while not (watch.ended or stream.closed):
            await stream.bell.wait(seconds=QUIET_SECONDS)
            if not watch.ended:
                yield COMMENT
    view = await jobs.get(rt.db, job.id, tenant_id=job.tenant_id)
    if view.job.status is not Status.COMPLETED:
        if view.job.terminal:
            yield frame("error", json.dumps({"type": "error", **failure(view.job)[1]}).encode())
        return
    _check_size(job, view.media)
    for file in view.media:
        done = {
            "type": f"{event}.completed",
            "b64_json": await _encoded(rt, file),
            "created_at": int(view.job.created_at.timestamp()),
            "size": "auto",
            "quality": "auto",
            "background": "auto",
            **_described([file]),
            "usage": NO_USAGE,
        }
        yield frame(f"{event}.completed", json.dumps(done).encode())


NO_USAGE: Final[Mapping[str, Any]] = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
"""Tokens are not counted here; clients expect the field in an event."""
