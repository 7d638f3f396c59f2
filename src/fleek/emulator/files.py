"""The host of output files: no token is asked for, and much can go wrong."""

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.file_faults import FAILURES, Delivery, hand_over
from fleek.emulator.media import CONTENT_TYPES, render
from fleek.emulator.outputs import file_name
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import dropped, entry_of


def routes() -> list[Route]:
    """Give the route of output files."""
    return [Route("/out/{id}/{n:int}.{extension}", _download, methods=["GET"])]


async def _download(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    n = int(request.path_params["n"])
    entry = entry_of(request.scope)
    entry.download = {
        "id": request.path_params["id"],
        "n": n,
        "range": request.headers.get("range"),
        "authorization": "authorization" in request.headers,  # a token has no business here
        "sha256": None,
    }
    if prediction is None or not _there(account, prediction, n, request.path_params["extension"]):
        return Response("Not Found", 404, media_type="text/plain")
    if (failure := _failure(account, prediction, n)) is not None:
        return failure
    faults = account.sampler.draw(
        account.plan,
        "file",
        whom=f"{prediction.id}/{n}",
        markers=prediction.markers,
        model=prediction.model,
    )
    entry.faults += [*faults]
    padding = bytes(int(float(prediction.traits.get("output_padded", 0))))
    content = render(file_name(prediction.id, n), prediction.extension) + padding
    digest = sha256(content).hexdigest()
    entry.download["sha256"] = digest  # of the whole file
    kind = CONTENT_TYPES[prediction.extension]
    return hand_over(request, Delivery(content, kind, f'"{digest[:32]}"'), faults, account.now())


def _failure(account: Account, prediction: Prediction, n: int) -> ASGIApp | None:
    """Fail as often, or for as long, as the prediction's life has it."""
    if not account.plan.injecting:
        return None
    traits, times = prediction.traits, account.failed[prediction.id, n]
    if account.now() - prediction.ended_at < float(traits.get("output_away", 0)):
        return dropped()
    for name, fail in FAILURES.items():
        if times < float(traits.get(name, 0)):
            account.failed[prediction.id, n] += 1
            return fail()
    return None


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
