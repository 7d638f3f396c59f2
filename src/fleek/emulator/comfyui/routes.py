"""The routes: a queue, a history, and files of both directions."""

import json
import re
import uuid
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from fleek.emulator.account import Account, Upload
from fleek.emulator.comfyui.progress import send_progress
from fleek.emulator.comfyui.representation import NAME, PREFIX, queue_row, refusal
from fleek.emulator.create import Order, Refused, create
from fleek.emulator.create_responses import Reply
from fleek.emulator.files import deliver_output
from fleek.emulator.multipart import multipart
from fleek.emulator.plan import UnknownFault, markers
from fleek.emulator.predictions import Prediction
from fleek.emulator.reads import cancel, draw, read_response, shared_faults
from fleek.emulator.responses import answer

SAVERS: Final[Mapping[str, str]] = {
    "SaveImage": "png",
    "PreviewImage": "png",
    "SaveAnimatedWEBP": "webp",
    "SaveAudioMP3": "mp3",
    "SaveVideo": "mp4",
}
"""The nodes with outputs, each with the type of its files."""

NUMBERS: Final = frozenset({"seed", "steps", "width", "height", "batch_size"})
_FILE: Final = re.compile(r"(?P<id>.+)_(?P<n>\d{5})_\.(?P<extension>\w+)")


def routes() -> list[BaseRoute]:
    """Return all routes."""
    return [
        Route(f"{PREFIX}/prompt", _prompt, methods=["POST"]),
        Route(f"{PREFIX}/queue", _queue, methods=["GET"]),
        Route(f"{PREFIX}/queue", _delete, methods=["POST"]),
        Route(f"{PREFIX}/interrupt", _interrupt, methods=["POST"]),
        Route(f"{PREFIX}/history/{{id}}", _history, methods=["GET"]),
        Route(f"{PREFIX}/upload/image", _upload, methods=["POST"]),
        Route(f"{PREFIX}/view", _view, methods=["GET"]),
        WebSocketRoute(f"{PREFIX}/ws", send_progress),
    ]


async def _prompt(request: Request) -> ASGIApp:
    try:
        order = _order(await _body(request))
    except Refused as refused:
        return refused.response
    return await create(request, order, _created)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(Response(status_code=500))  # as aiohttp responds to an exception
    return body


async def _created(prediction: Prediction) -> Reply:
    body = {"prompt_id": prediction.id, "number": prediction.seq, "node_errors": {}}
    return Reply(body, 200, again=lambda: body)


def _order(body: Mapping[str, Any]) -> Order:
    """Return the order of a workflow; a repeated id makes a second run, as on a real server."""
    nodes = body.get("prompt")
    if not isinstance(nodes, dict):
        raise _refused("no_prompt", "No prompt provided")
    for key, node in nodes.items():
        if not isinstance(node, dict) or "class_type" not in node:
            raise _refused("invalid_prompt", "a node is missing the class_type property.")
        _check_numbers(key, node)
    savers = [SAVERS[name] for name in _classes(nodes) if name in SAVERS]
    if not savers:
        raise _refused("prompt_no_outputs", "Prompt has no outputs")
    texts = [value for value in _inputs(nodes, "text") if isinstance(value, str)]
    sizes = [value for value in _inputs(nodes, "batch_size") if isinstance(value, int)]
    prompt = texts[0] if texts else ""
    try:
        marked = markers({"prompt": prompt})
    except UnknownFault as error:
        raise _refused("invalid_prompt", str(error)) from error
    return Order(
        dialect=NAME,
        model="workflow",
        id=str(body.get("prompt_id") or uuid.uuid4()),
        parameters={
            "prompt": prompt,
            "workflow": nodes,
            "extra_data": _extra_data(body),
        },
        request_hash=_hash(nodes),
        markers=marked,
        shape="list",
        extension=savers[0],
        images=sizes[0] if sizes else 1,
    )


def _extra_data(body: Mapping[str, Any]) -> dict[str, Any]:
    client = {"client_id": body["client_id"]} if "client_id" in body else {}
    return {**(body.get("extra_data") or {}), **client}


def _hash(nodes: Mapping[str, Any]) -> str:
    """Return a hash of a workflow without its seeds, which each attempt draws anew."""
    bare = {
        key: {name: value for name, value in node.get("inputs", {}).items() if name != "seed"}
        for key, node in nodes.items()
    }
    return sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def _refused(kind: str, text: str, nodes: Mapping[str, Any] | None = None) -> Refused:
    return Refused(answer(refusal(kind, text, nodes), 400))


def _check_numbers(key: str, node: Mapping[str, Any]) -> None:
    for name, value in node.get("inputs", {}).items():
        if name in NUMBERS and isinstance(value, str):
            row = {
                "type": "invalid_input_type",
                "message": "Failed to convert an input value to a INT value",
                "details": f"{name}, {value}",
            }
            about = {"errors": [row], "dependent_outputs": [], "class_type": node["class_type"]}
            text = "Prompt outputs failed validation"
            raise _refused("prompt_outputs_failed_validation", text, {key: about})


def _classes(nodes: Mapping[str, Any]) -> list[str]:
    return [str(node["class_type"]) for node in nodes.values()]


def _inputs(nodes: Mapping[str, Any], name: str) -> list[Any]:
    found = (node.get("inputs", {}) for node in nodes.values())
    return [inputs[name] for inputs in found if name in inputs]


def _shown(account: Account) -> list[Prediction]:
    """Return the runs that the server has; what has vanished was lost by its restart."""
    now = account.now()
    runs = (one for one in account.predictions if one.dialect == NAME)
    return [one for one in runs if not one.vanished(now)]


async def _queue(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    faults = draw(request, "list")
    if (response := await shared_faults(account, "list", faults)) is not None:
        return response
    now = account.now()
    states = {"processing": "queue_running", "starting": "queue_pending"}
    body: dict[str, Any] = {"queue_running": [], "queue_pending": []}
    for prediction in _shown(account):
        if (name := states.get(prediction.status(now))) is not None:
            body[name].append(queue_row(prediction))
    return read_response(body, "list", faults)


async def _history(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = _found(account, request.path_params["id"])
    if prediction is None:
        return answer({})
    faults = draw(request, "get", prediction)
    if (response := await shared_faults(account, "get", faults)) is not None:
        return response
    return read_response(account.show(prediction), "get", faults)


def _found(account: Account, key: Any) -> Prediction | None:
    return next((one for one in reversed(_shown(account)) if one.id == key), None)


async def _delete(request: Request) -> ASGIApp:
    """Remove waiting runs; the response is the same for those that are not there."""
    keys = (await _body(request)).get("delete") or []
    return await _stop(request, keys[0] if keys else None, "starting")


async def _interrupt(request: Request) -> ASGIApp:
    """Stop a run if it is the one that runs."""
    return await _stop(request, (await _body(request)).get("prompt_id"), "processing")


async def _stop(request: Request, key: Any, status: str) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = _found(account, key)
    if prediction is None or prediction.status(account.now()) != status:
        return Response(status_code=200)
    stopped = await cancel(request, prediction, shows_state=False)
    return Response(status_code=200) if isinstance(stopped, bool) else stopped


async def _upload(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    parts = multipart(request.headers.get("content-type", ""), await request.body())
    if "image" not in parts:
        return Response(status_code=400)
    attributes, content = parts["image"]
    folder = parts["subfolder"][1].decode() if "subfolder" in parts else ""
    name = attributes.get("filename", "file")
    upload = Upload(
        id=f"{folder}/{name}",
        name=name,
        content_type=attributes["content-type"],
        content=content,
        metadata={},
        created=account.now(),
    )
    account.uploads[upload.id] = upload
    return answer({"name": name, "subfolder": folder, "type": "input"})


async def _view(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    match = _FILE.fullmatch(request.query_params.get("filename", ""))
    if match is None:
        return Response(status_code=404)
    request.scope["path_params"] = {"id": match["id"]}
    found, n = _found(account, match["id"]), int(match["n"]) - 1
    deliver = partial(deliver_output, extension=match["extension"], authorized=True)
    return deliver(request, found, n)
