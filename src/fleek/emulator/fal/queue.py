"""The routes of the queue, and the public keys of its callbacks."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.create import Order, Refused, create
from fleek.emulator.create_responses import Reply
from fleek.emulator.fal.representation import (
    JWKS,
    NAME,
    PREFIX,
    app_of,
    failure,
    result,
    urls,
)
from fleek.emulator.fal.signatures import key_set
from fleek.emulator.plan import UnknownFault, markers
from fleek.emulator.predictions import Prediction
from fleek.emulator.reads import (
    cancel,
    draw,
    instant_of_get,
    read_response,
    shared_faults,
    sought,
)
from fleek.emulator.responses import answer, failed, missing, problem

STOPPED: Final = "CANCELLATION_REQUESTED"
EXTENSIONS: Final = {"png": "png", "jpeg": "jpg", "webp": "webp"}


def routes() -> list[Route]:
    """Return the routes of the queue."""
    own = f"{PREFIX}/{{app:path}}/requests/{{id}}"
    return [
        Route(f"{PREFIX}{JWKS}", _keys, methods=["GET"]),
        Route(f"{own}/status", _status, methods=["GET"]),
        Route(f"{own}/cancel", _cancel, methods=["PUT"]),
        Route(own, _result, methods=["GET"]),
        Route(f"{PREFIX}/{{model:path}}", _submit, methods=["POST"]),
    ]


async def _submit(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    try:
        order = _order(account, request, await request.body())
    except Refused as refused:
        return refused.response
    return await create(request, order, _submitted)


def _order(account: Account, request: Request, content: bytes) -> Order:
    """Return the order of a request.

    Raises:
        Refused: It is not valid.
    """
    model = request.path_params["model"]
    try:
        parameters = json.loads(content)
        marked = markers(parameters) if isinstance(parameters, dict) else {}
    except UnknownFault as error:
        raise Refused(problem(422, str(error))) from error
    except ValueError as error:
        raise Refused(problem(400, "The body is not JSON.")) from error
    if not isinstance(parameters, dict) or len(app_of(model).split("/")) < 2:
        raise Refused(problem(422, "The arguments must be an object, and the path owner/app."))
    webhook = request.query_params.get("fal_webhook")
    if webhook is not None and account.plan.https_webhooks and not webhook.startswith("https://"):
        raise Refused(problem(422, "fal_webhook must be a valid HTTPS URL"))
    target = json.dumps([model, parameters], sort_keys=True)
    return Order(
        dialect=NAME,
        model=model,
        parameters=parameters,
        request_hash=sha256(target.encode()).hexdigest(),
        markers=marked,
        shape="list",
        extension=EXTENSIONS.get(str(parameters.get("output_format")), "png"),
        images=parameters.get("num_images") or 1,
        webhook=webhook,
        events=("completed",),
        lasts=_limit(request.headers),
    )


def _limit(headers: Mapping[str, str]) -> float | None:
    """Return the start limit in seconds.

    Raises:
        Refused: It is not valid.
    """
    text = headers.get("x-fal-request-timeout")
    if text is None:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 1:
        raise Refused(problem(422, "X-Fal-Request-Timeout must be a number above 1"))
    return limit


async def _submitted(prediction: Prediction) -> Reply:
    body = {"status": "IN_QUEUE", "request_id": prediction.id, "queue_position": 0}
    body |= {"gateway_request_id": prediction.id, **urls(prediction)}
    return Reply(body, 200, {"x-fal-request-id": prediction.id}, id_name="request_id")


def _request(request: Request) -> Prediction | None:
    """Return the request in the path, if it can be seen now, under its own app."""
    prediction = sought(request, NAME)
    if prediction is None or request.path_params["app"] != app_of(prediction.model):
        return None
    return prediction


async def _status(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = _request(request)
    if prediction is None:
        return missing()
    faults = draw(request, "get", prediction)
    if (response := await shared_faults(account, "get", faults)) is not None:
        return response
    at = instant_of_get(account, prediction, faults)
    if at is None:
        return missing()
    body = account.show(prediction, at=at)
    if request.query_params.get("logs", "").lower() not in ("1", "true"):
        body |= {"logs": None} if "logs" in body else {}
    return read_response(body, "get", faults, 200 if body["status"] == "COMPLETED" else 202)


async def _result(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = _request(request)
    if prediction is None:
        return missing()
    faults = draw(request, "get", prediction)
    if (response := await shared_faults(account, "get", faults)) is not None:
        return response
    at = instant_of_get(account, prediction, faults)
    if at is None or at >= prediction.ended_at + account.plan.retention_seconds:
        return missing()
    if not prediction.done(at):
        return problem(400, "Request is still in progress")
    return _outcome(account, prediction, cut="get_cut_body" in faults)


def _outcome(account: Account, prediction: Prediction, *, cut: bool) -> ASGIApp:
    headers = {"x-fal-request-id": prediction.id}
    if prediction.end != "succeeded":
        status, stated, more = failure(prediction)
        return answer(stated, status, headers | more)
    body = result(prediction, account.delivery or prediction.base)
    if cut:
        return read_response(body, "get", {"get_cut_body": ""})
    return answer(body, 200, headers)


async def _cancel(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = _request(request)
    if prediction is None:
        return answer({"status": "NOT_FOUND"}, 404)
    now = account.now()
    waits, ended = now < prediction.started_at, prediction.done(now)
    lied = await cancel(request, prediction)
    if not isinstance(lied, bool):
        return lied
    if ended:
        return answer({"status": "ALREADY_COMPLETED"}, 400)
    removed = lied or (waits and prediction.cancelled is not None)
    return answer({"status": "OK"}, 200) if removed else answer({"status": STOPPED}, 202)


async def _keys(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    faults = draw(request, "model")
    if "model_5xx" in faults:
        return failed(faults["model_5xx"])
    return answer(key_set(account.plan.seed))
