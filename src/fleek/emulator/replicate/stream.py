"""A prediction's output as server-sent events, for clients that stream."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.predictions import Prediction
from fleek.emulator.replicate.representation import output
from fleek.emulator.responses import encode, missing


def routes() -> list[Route]:
    """Return the route of `urls.stream`, which needs no token."""
    return [Route("/stream/{id}", _stream, methods=["GET"])]


async def _stream(request: Request) -> ASGIApp:
    account: Account = request.app.state.account
    prediction = account.by_id.get(request.path_params["id"])
    if prediction is None or not prediction.streams:
        return missing()
    return StreamingResponse(
        _events(account, prediction), media_type="text/event-stream; charset=utf-8"
    )


async def _events(account: Account, prediction: Prediction) -> AsyncIterator[bytes]:
    await account.clock.wait(lambda: min(prediction.started_at, prediction.ended_at))
    pieces = _pieces(account, prediction)
    for n, piece in enumerate(pieces):
        share = (n + 1) / len(pieces)
        await account.clock.wait(
            lambda share=share: min(  # type: ignore[misc]  # mypy cannot see a lambda's default
                prediction.started_at + prediction.work * share, prediction.ended_at
            )
        )
        if prediction.done(account.now()) and prediction.end != "succeeded":
            break
        yield _event("output", f"{prediction.id}:{n}", str(piece))
    await account.clock.wait(lambda: prediction.ended_at)
    if prediction.end == "failed":
        yield _event("error", f"{prediction.id}:error", str(prediction.error))
    reason = {"failed": {"reason": "error"}, "succeeded": {}}.get(
        prediction.end, {"reason": "canceled"}
    )
    yield _event("done", f"{prediction.id}:done", encode(reason).decode())


def _pieces(account: Account, prediction: Prediction) -> list[Any]:
    made = output(prediction, account.delivery or prediction.base)
    return made if isinstance(made, list) else [made]


def _event(kind: str, event_id: str, text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {kind}\nid: {event_id}\n{lines}\n".encode()
