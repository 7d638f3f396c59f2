"""Images and speech: the response to the request is the result."""

import json
import math
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.create import Order, Refused, create
from fleek.emulator.create_responses import Reply
from fleek.emulator.media import CONTENT_TYPES, file_name, render
from fleek.emulator.multipart import multipart
from fleek.emulator.openai.representation import NAME, PREFIX, failure, images
from fleek.emulator.plan import UnknownFault, markers
from fleek.emulator.predictions import Prediction, price_micros
from fleek.emulator.responses import answer, problem

EXTENSIONS: Final = {"png": "png", "jpeg": "jpg", "webp": "webp"}
IMAGE_FIELDS: Final = frozenset(
    [
        "prompt",
        "model",
        "n",
        "size",
        "quality",
        "background",
        "moderation",
        "output_format",
        "output_compression",
        "user",
    ]
)
"""What OpenAI accepts for its current models; the other servers accept anything."""

IMAGES: Final = frozenset({"image", "image[]"})
MODELS: Final = ("gpt-image-2.5-flare", "gpt-4o-mini-tts", "sora-2")


def routes() -> list[Route]:
    """Return the synchronous routes."""
    return [
        Route(f"{PREFIX}/images/generations", _images, methods=["POST"]),
        Route(f"{PREFIX}/images/edits", _images, methods=["POST"]),
        Route(f"{PREFIX}/audio/speech", _speech, methods=["POST"]),
        Route(f"{PREFIX}/models", _models, methods=["GET"]),
    ]


async def read_fields(request: Request) -> dict[str, Any]:
    """Return the fields of a JSON body or of a form; files as a hash of their bytes.

    Raises:
        Refused: It is neither.
    """
    content = await request.body()
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        parts = multipart(kind, content).items()
        return {name: _value(attributes, value) for name, (attributes, value) in parts}
    try:
        body = json.loads(content)
    except ValueError as error:
        raise Refused(problem(400, "We could not parse the JSON body of your request.")) from error
    if not isinstance(body, dict):
        raise Refused(problem(400, "The body is not an object."))
    return body


def _value(attributes: Mapping[str, str], content: bytes) -> str:
    return sha256(content).hexdigest() if "filename" in attributes else content.decode()


def order_of(
    fields: Mapping[str, Any], prompt: str, *, extension: str, model: str, n: Any = 1
) -> Order:
    """Return the order of a request whose prompt is the field `prompt`.

    Raises:
        Refused: There is no prompt, or it names an unknown fault.
    """
    text = fields.get(prompt)
    if not isinstance(text, str) or not text:
        raise Refused(problem(400, f"Missing required parameter: '{prompt}'."))
    try:
        marked = markers({prompt: text})
    except UnknownFault as error:
        raise Refused(problem(400, str(error))) from error
    parameters = {**fields, "prompt": text}
    target = json.dumps([model, parameters], sort_keys=True)
    return Order(
        dialect=NAME,
        model=model,
        parameters=parameters,
        request_hash=sha256(target.encode()).hexdigest(),
        markers=marked,
        shape="list",
        extension=extension,
        images=n,
    )


async def _images(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    try:
        fields = await read_fields(request)
        edits = request.url.path.endswith("/edits")
        urls = _check_images(account, fields, edits=edits)
        order = _image_order(fields)
    except Refused as refused:
        return refused.response
    return await create(request, order, partial(_with_images, account, urls=urls))


def _image_order(fields: Mapping[str, Any]) -> Order:
    extension = EXTENSIONS.get(fields.get("output_format") or "png")
    if extension is None:
        raise Refused(problem(400, "output_format must be png, jpeg or webp"))
    model, n = str(fields.get("model") or MODELS[0]), fields.get("n") or 1
    return order_of(fields, "prompt", extension=extension, model=model, n=n)


def _check_images(account: Account, fields: Mapping[str, Any], *, edits: bool) -> bool:
    """Return whether addresses are requested instead of the bytes."""
    server, form = account.plan.openai_server, fields.get("response_format")
    if edits and fields.keys().isdisjoint(IMAGES):
        raise Refused(problem(400, "Missing required parameter: 'image'."))
    accepted = IMAGE_FIELDS | (IMAGES | {"mask"} if edits else set())
    if server == "openai" and (unknown := sorted(fields.keys() - accepted)):
        raise Refused(problem(400, f"Unknown parameter: '{unknown[0]}'."))
    if server == "vllm" and form not in (None, "b64_json", "file"):
        raise Refused(problem(422, "Only 'b64_json' or 'file' response format is supported"))
    return server == "sglang" and form in (None, "url")


async def _with_images(account: Account, prediction: Prediction, *, urls: bool) -> Reply:
    await _end(account, prediction)
    if prediction.end != "succeeded":
        return Reply(*failure(prediction, account.plan))
    host = account.delivery or prediction.base
    return Reply(images(prediction, account.plan, host=host, urls=urls), 200)


async def _speech(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    try:
        order = _speech_order(account, await read_fields(request))
    except Refused as refused:
        return refused.response
    return await create(request, order, partial(_with_speech, account))


def _speech_order(account: Account, fields: Mapping[str, Any]) -> Order:
    if account.plan.openai_server == "openai" and not fields.get("voice"):
        raise Refused(problem(400, "Missing required parameter: 'voice'."))
    extension = str(fields.get("response_format") or "mp3")
    if extension not in ("mp3", "wav"):
        raise Refused(problem(400, "the emulator makes mp3 and wav"))
    return order_of(fields, "input", extension=extension, model=str(fields.get("model") or ""))


async def _with_speech(account: Account, prediction: Prediction) -> Reply:
    await _end(account, prediction)
    if prediction.end != "succeeded":
        return Reply(*failure(prediction, account.plan))
    content = render(file_name(prediction.id, 0), prediction.extension)
    price = price_micros(prediction, account.plan, prediction.ended_at)
    return Reply(
        content,
        200,
        headers={"x-litellm-response-cost": str(price / 1e6)},
        content_type=CONTENT_TYPES[prediction.extension],
    )


async def _end(account: Account, prediction: Prediction) -> None:
    await account.clock.wait(lambda: prediction.ended_at, until=math.inf)


async def _models(_: Request) -> ASGIApp:
    rows = [
        {"id": name, "object": "model", "created": 0, "owned_by": "emulator"} for name in MODELS
    ]
    return answer({"object": "list", "data": rows})
