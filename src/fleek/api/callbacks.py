"""Callbacks from providers: news about a prediction."""

from functools import partial
from typing import Annotated

from fastapi import Path
from fastapi.requests import Request
from pydantic import Field

from fleek.api.deps import RuntimeDep
from fleek.api.errors import problems
from fleek.api.request_body import read_body
from fleek.api.routing import lenient_router
from fleek.api.short_cache import NegativeCache
from fleek.domain.errors import (
    CallbackRejected,
    DatabaseUnavailable,
    InvalidInput,
    NotFound,
    ProviderUnavailable,
    TooLarge,
    Unreadable,
)
from fleek.engine.callback import UNKNOWN, receive
from fleek.providers.base import MAX_ANSWER_BYTES
from fleek.schemas.base import Schema

router = lenient_router(tag="system")  # a provider may send what it likes


class CallbackAccepted(Schema):
    """The response to a valid callback, whether or not it had news."""

    status: str = Field(default="ok", examples=["ok"])


@router.post(
    "/webhooks/{provider}/{token}",
    scope=None,
    operation_id="receive_callback",
    summary="Receive a callback from a provider",
    responses=problems(
        Unreadable,
        CallbackRejected,
        NotFound,
        TooLarge,
        InvalidInput,
        ProviderUnavailable,
        DatabaseUnavailable,
    ),
)
async def receive_callback(
    request: Request,
    rt: RuntimeDep,
    provider: Annotated[
        str, Path(max_length=100, description="Name of the provider.", examples=["replicate"])
    ],
    token: Annotated[str, Path(max_length=200, description="Token of the attempt.")],
) -> CallbackAccepted:
    """For providers only. The signature is checked over the raw bytes of the body."""
    unknown: NegativeCache = request.app.state.unknown_tokens
    address = f"{provider}/{token}"
    if address in unknown:
        raise NotFound(UNKNOWN)
    read = partial(read_body, request, MAX_ANSWER_BYTES)
    try:
        await receive(rt, provider, token, headers=request.headers, read=read)
    except NotFound:
        unknown.add(address)
        raise
    return CallbackAccepted()
