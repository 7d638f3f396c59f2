"""Responses to a creation in any dialect: a refusal, or a reply that a fault makes unreadable."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.media import gzip_bomb
from fleek.emulator.responses import (
    cut_body,
    cut_headers,
    dropped,
    encode,
    failed,
    html,
    problem,
    refusal,
    reset,
    silent,
    throttled,
)

BOMB_MIB: Final = 1024
JSON: Final = "application/json"
ODD_IDS: Final[Mapping[str, Any]] = {
    "path": "../../../v1/account",
    "long": "x" * 300,
    "empty": "",
    "number": 7,
    "space": "a b\r\nc",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to a creation, still intact.

    Args:
        body: JSON, or the bytes of a file.
        status: The HTTP status.
        headers: Its headers.
        content_type: Of the body.
        again: Returns the body of a later time; None: it does not change.
        id_name: Of the field with the prediction's id.
    """

    body: dict[str, Any] | bytes
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    again: Callable[[], dict[str, Any]] | None = None
    id_name: str = "id"

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        return self.body if isinstance(self.body, bytes) else encode(self.body)

    def sent(self, content: bytes | None = None, status: int | None = None) -> Response:
        """Return the response, with other content or status if they are given."""
        content = self.content if content is None else content
        return Response(content, status or self.status, self.headers, media_type=self.content_type)

    def with_fields(self, **fields: Any) -> ASGIApp:
        """Return the response with other fields in its JSON."""
        body = {} if isinstance(self.body, bytes) else self.body
        return self.sent(encode(body | fields))


async def refuse(account: Account, faults: Mapping[str, str]) -> ASGIApp | None:
    """Respond before a prediction is created, if a fault requires it."""
    if "create_hang" in faults:
        await asyncio.sleep(float(faults["create_hang"]))
        return dropped()
    for name, argument in faults.items():
        if name in REFUSALS:
            return REFUSALS[name](account, argument)
    return None


async def spoiled(account: Account, reply: Reply, faults: Mapping[str, str]) -> ASGIApp:
    """Respond with a reply, with the given faults."""
    content = None
    for name, argument in faults.items():
        spoil = SPOILED.get(name)
        if spoil is not None:
            return spoil(account, reply, argument)
        if name == "create_then_delay":
            await asyncio.sleep(float(argument))
            content = None if reply.again is None else encode(reply.again())
    return reply.sent(content, 200 if "create_200" in faults else None)


def _truncated(_account: Account, reply: Reply, _argument: str) -> ASGIApp:
    return reply.sent(reply.content[: len(reply.content) // 2])


def _odd_id(_account: Account, reply: Reply, argument: str) -> ASGIApp:
    return reply.with_fields(**{reply.id_name: ODD_IDS.get(argument, argument)})


def _duplicate_id(account: Account, reply: Reply, _argument: str) -> ASGIApp:
    previous = account.predictions[max(0, len(account.predictions) - 2)]
    return reply.with_fields(**{reply.id_name: previous.id})


def _huge(_account: Account, reply: Reply, argument: str) -> ASGIApp:
    return reply.with_fields(logs="x" * int(float(argument) * 1e6))


def _gzip_bomb(_account: Account, reply: Reply, _argument: str) -> ASGIApp:
    start, piece = gzip_bomb()
    content = start + piece * BOMB_MIB
    headers = {"content-encoding": "gzip"}
    return Response(content, reply.status, headers, media_type=reply.content_type)


def _cut_body(_account: Account, reply: Reply, _argument: str) -> ASGIApp:
    return cut_body(reply.status, reply.content_type, reply.content, ending="reset")


def _not_json(_account: Account, reply: Reply, _argument: str) -> ASGIApp:
    return Response(reply.content[1:-1], reply.status, media_type=JSON)


def _no_credit(_account: Account, _argument: str) -> ASGIApp:
    text = "You have insufficient credit to run this model."
    return problem(402, text, title="Insufficient credit")


def _revoked(_account: Account, _argument: str) -> ASGIApp:
    text = "You did not pass a valid authentication token"
    return problem(401, text, title="Unauthenticated")


Refusal = Callable[[Account, str], ASGIApp]

REFUSALS: Final[Mapping[str, Refusal]] = {
    "create_429": lambda account, after: throttled(after, account.now()),
    "create_402": _no_credit,
    "create_422": lambda _, form: refusal(
        form, 422, "- input: refused\n", title="Input validation failed"
    ),
    "create_403": lambda _, form: refusal(form, 403, "This token may not run this model."),
    "create_401": _revoked,
    "create_5xx": lambda _, status: failed(status),
    "create_reset": lambda *_: reset(),
    "create_drop": lambda *_: dropped(),
    "create_redirect": lambda _, address: RedirectResponse(address, 307),
}

Spoil = Callable[[Account, Reply, str], ASGIApp]

SPOILED: Final[Mapping[str, Spoil]] = {
    "create_then_drop": lambda *_: dropped(),
    "create_then_reset": lambda *_: reset(),
    "create_then_5xx": lambda _, __, status: failed(status),
    "create_then_timeout": lambda *_: silent(),
    "create_cut_headers": lambda _, reply, __: cut_headers(reply.status),
    "create_cut_body": _cut_body,
    "create_truncated": _truncated,
    "create_invalid": _not_json,
    "create_html": lambda _, reply, __: html(reply.status),
    "create_empty": lambda _, reply, __: Response(status_code=reply.status, media_type=JSON),
    "create_huge": _huge,
    "create_gzip_bomb": _gzip_bomb,
    "create_odd_id": _odd_id,
    "create_duplicate_id": _duplicate_id,
}
