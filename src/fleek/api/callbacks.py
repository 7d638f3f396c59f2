"""Providers' webhooks: a message that a prediction has come further."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.requests import Request
from pydantic import BaseModel, Field

from fleek.api.deps import RuntimeDep
from fleek.api.errors import problems
from fleek.api.routing import read_body
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

router = APIRouter(tags=["system"])  # not strict: a provider may send what it likes


class CallbackTaken(BaseModel):
    """The answer to a callback that was understood, whether or not it told anything new."""

    status: str = Field(default="ok", examples=["ok"])


@router.post(
    "/webhooks/{provider}/{token}",
    operation_id="receive_callback",
    summary="Take a provider's callback",
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
        str, Path(max_length=100, description="Who calls.", examples=["replicate"])
    ],
    token: Annotated[str, Path(max_length=200, description="Of the attempt that it is about.")],
) -> CallbackTaken:
    """For providers only. The signature is checked over the bytes as they came."""
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
    return CallbackTaken()
