"""Videos: jobs that are polled, listed and deleted."""

from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.create import Refused, create
from fleek.emulator.create_responses import Reply
from fleek.emulator.files import deliver_output
from fleek.emulator.openai import litellm
from fleek.emulator.openai.representation import NAME, PREFIX, failed_status
from fleek.emulator.openai.synchronous import MODELS, order_of, read_fields
from fleek.emulator.predictions import Prediction
from fleek.emulator.reads import (
    cancel,
    draw,
    instant_of_get,
    instant_of_row,
    is_own,
    read_response,
    shared_faults,
    sought,
)
from fleek.emulator.responses import answer, missing, problem

PAGE: Final = 20


def routes() -> list[Route]:
    """Return the routes of videos."""
    video = f"{PREFIX}/videos/{{id}}"
    return [
        Route(f"{PREFIX}/videos", _create, methods=["POST"]),
        Route(f"{PREFIX}/videos", _list, methods=["GET"]),
        Route(video, _get, methods=["GET"]),
        Route(video, _delete, methods=["DELETE"]),
        Route(f"{video}/content", _content, methods=["GET"]),
    ]


async def _create(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    try:
        fields = await read_fields(request)
        model = str(fields.get("model") or MODELS[-1])
        order = order_of(fields, "prompt", extension="mp4", model=model)
    except Refused as refused:
        return refused.response
    return await create(request, order, partial(_created, account))


async def _created(account: Account, prediction: Prediction) -> Reply:
    show = partial(account.show, prediction)
    return Reply(show(), 200, again=show)


def _deleted(account: Account, prediction: Prediction) -> bool:
    """Whether the server has forgotten the job: the end of every deletion, even of ended ones."""
    forgotten = account.plan.openai_server == "sglang" and bool(prediction.cancel_requests)
    return prediction.cancelled is not None or prediction.deleted or forgotten


def _video(request: Request) -> Prediction | None:
    account: Account = request.app.state.account
    if account.plan.openai_server == "litellm":
        request.path_params["id"] = litellm.host_id(request.path_params["id"]) or ""
    prediction = sought(request, NAME)
    if prediction is None or prediction.extension != "mp4" or _deleted(account, prediction):
        return None
    return prediction


async def _get(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = _video(request)
    if prediction is None:
        return missing()
    faults = draw(request, "get", prediction)
    if (response := await shared_faults(account, "get", faults)) is not None:
        return response
    at = instant_of_get(account, prediction, faults)
    if at is None:
        return missing()
    body = account.show(prediction, at=at)
    if account.plan.openai_server == "vllm" and body["status"] == "failed":
        status = failed_status(prediction)
        body["error"]["code"] = status
        return read_response(body, "get", faults, status)
    return read_response(body, "get", faults)


async def _list(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    if account.plan.openai_server == "litellm":
        return answer(litellm.refusal(litellm.NO_LIST, 400), 400)
    faults = draw(request, "list")
    if (response := await shared_faults(account, "list", faults)) is not None:
        return response
    query = request.query_params
    limit = query.get("limit", str(PAGE))
    if not limit.isdigit() or not 1 <= int(limit) <= 100:
        return problem(400, "limit must be between 1 and 100")
    rows = _rows(request, faults)
    if query.get("order") == "asc":
        rows.reverse()
    if "after" in query and "list_repeat" not in faults:
        ids = [row["id"] for row in rows]
        rows = rows[ids.index(query["after"]) + 1 :] if query["after"] in ids else []
    page = rows[: int(limit)]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rows) > len(page) or ("list_repeat" in faults and bool(page)),
    }
    return read_response(body, "list", faults)


def _rows(request: Request, faults: dict[str, str]) -> list[dict[str, Any]]:
    """Return all listed videos of the token's account, newest first."""
    account: Account = request.app.state.account
    rows = []
    for prediction in reversed(account.predictions):
        mine = prediction.dialect == NAME and is_own(request, prediction)
        if mine and prediction.extension == "mp4":
            at = instant_of_row(account, prediction, faults)
            if at is not None and not _deleted(account, prediction):
                rows.append(account.show(prediction, at=at))
    return rows


async def _delete(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    if account.plan.openai_server == "litellm":
        return answer({"detail": "Method Not Allowed"}, 405)
    prediction = _video(request)
    if prediction is None:
        return missing()
    before = account.show(prediction)
    if account.plan.openai_server == "sglang":  # it forgets the job, and its GPU runs on
        account.cancel(prediction, heeded=False)
        return answer(before | {"status": "deleted"})
    lied = await cancel(request, prediction, shows_state=False)
    if not isinstance(lied, bool):
        return lied
    return answer({"id": prediction.id, "object": "video.deleted", "deleted": True})


async def _content(request: Request) -> ASGIApp:
    prediction = _video(request)
    return deliver_output(request, prediction, 0, extension="mp4", authorized=True)
