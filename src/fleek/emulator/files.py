"""The host of output files: no token is asked for, and much can go wrong."""

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.lies import Delivery, hand_over
from fleek.emulator.media import CONTENT_TYPES, render
from fleek.emulator.outputs import file_name
from fleek.emulator.predictions import Prediction
from fleek.emulator.wire import visit_of


def routes() -> list[Route]:
    """Give the route of output files."""
    return [Route("/out/{id}/{n:int}.{extension}", _download, methods=["GET"])]


async def _download(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    n = int(request.path_params["n"])
    visit = visit_of(request.scope)
    visit.download = {
        "id": request.path_params["id"],
        "n": n,
        "range": request.headers.get("range"),
        "authorization": "authorization" in request.headers,  # a token has no business here
        "sha256": None,
    }
    if prediction is None or not _there(account, prediction, n, request.path_params["extension"]):
        return Response("Not Found", 404, media_type="text/plain")
    faults = account.dice.draw(
        account.plan,
        "file",
        whom=f"{prediction.id}/{n}",
        markers=prediction.markers,
        model=prediction.model,
    )
    visit.faults += [*faults]
    content = render(file_name(prediction.id, n), prediction.extension)
    digest = sha256(content).hexdigest()
    visit.download["sha256"] = digest  # of the true file
    kind = CONTENT_TYPES[prediction.extension]
    return hand_over(request, Delivery(content, kind, f'"{digest[:32]}"'), faults, account.now())


def _there(account: Account, prediction: Prediction, n: int, extension: str) -> bool:
    now = account.now()
    missing = "missing_output" in prediction.traits and n == prediction.images - 1
    return (
        0 <= n < prediction.images
        and not missing
        and extension == prediction.extension
        and prediction.status(now) == "succeeded"
        and now < prediction.ended_at + account.plan.file_ttl_seconds
    )
