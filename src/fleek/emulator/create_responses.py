"""Responses to a creation: a refusal, a prediction, or an unreadable prediction."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from fleek.emulator.account import Account
from fleek.emulator.media import gzip_bomb
from fleek.emulator.predictions import Prediction
from fleek.emulator.responses import (
    answer,
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

PREFER: Final = re.compile(r"wait(?:=(\d+))?")
BOMB_MIB: Final = 1024
ODD_IDS: Final[Mapping[str, Any]] = {
    "path": "../../../v1/account",
    "long": "x" * 300,
    "empty": "",
    "number": 7,
    "space": "a b\r\nc",
}


async def refuse(account: Account, faults: Mapping[str, str]) -> ASGIApp | None:
    """Respond before a prediction is created, if a fault requires it."""
    if "create_hang" in faults:
        await asyncio.sleep(float(faults["create_hang"]))
        return dropped()
    for name, argument in faults.items():
        if name in REFUSALS:
            return REFUSALS[name](account, argument)
    return None


async def reply(
    account: Account, prediction: Prediction, faults: Mapping[str, str], prefer: str
) -> ASGIApp:
    """Respond with the prediction, with the given faults."""
    body, status, headers = await _wait(account, prediction, prefer)
    for name, argument in faults.items():
        spoil = SPOILED.get(name)
        if spoil is not None:
            return spoil(account, body, argument)
        if name == "create_then_delay":
            await asyncio.sleep(float(argument))
            body = account.show(prediction)
    return answer(body, 200 if "create_200" in faults else status, headers)


async def _wait(
    account: Account, prediction: Prediction, prefer: str
) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Wait for the end as `Prefer: wait` requests; after that time, the status shown is `starting`."""
    match = PREFER.search(prefer)
    if match is None:
        return account.show(prediction), 201, {}
    limit = min(max(int(match[1] or 60), 1), 60) - 0.1
    until = account.now() + limit
    await account.clock.wait(lambda: prediction.ended_at, until=until)
    body = account.show(prediction)
    if prediction.done(account.now()):
        return body, 201, {}
    return body | {"status": "starting", "output": None}, 202, {"location": body["urls"]["get"]}


def _truncated(_account: Account, body: dict[str, Any], _argument: str) -> ASGIApp:
    content = encode(body)
    return Response(content[: len(content) // 2], 201, media_type="application/json")


def _odd_id(_account: Account, body: dict[str, Any], argument: str) -> ASGIApp:
    return answer(body | {"id": ODD_IDS.get(argument, argument)}, 201)


def _duplicate_id(account: Account, body: dict[str, Any], _argument: str) -> ASGIApp:
    previous = account.predictions[max(0, len(account.predictions) - 2)]
    return answer(body | {"id": previous.id}, 201)


def _huge(_account: Account, body: dict[str, Any], argument: str) -> ASGIApp:
    return answer(body | {"logs": "x" * int(float(argument) * 1e6)}, 201)


def _gzip_bomb(_account: Account, _body: dict[str, Any], _argument: str) -> ASGIApp:
    start, piece = gzip_bomb()
    content = start + piece * BOMB_MIB
    headers = {"content-encoding": "gzip"}
    return Response(content, 201, headers, media_type="application/json")


def _cut_body(_account: Account, body: dict[str, Any], _argument: str) -> ASGIApp:
    return cut_body(201, "application/json", encode(body), ending="reset")


def _not_json(_account: Account, body: dict[str, Any], _argument: str) -> ASGIApp:
    return Response(json.dumps(body)[1:-1], 201, media_type="application/json")


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

Spoil = Callable[[Account, dict[str, Any], str], ASGIApp]

SPOILED: Final[Mapping[str, Spoil]] = {
    "create_then_drop": lambda *_: dropped(),
    "create_then_reset": lambda *_: reset(),
    "create_then_5xx": lambda _, __, status: failed(status),
    "create_then_timeout": lambda *_: silent(),
    "create_cut_headers": lambda *_: cut_headers(201),
    "create_cut_body": _cut_body,
    "create_truncated": _truncated,
    "create_invalid": _not_json,
    "create_html": lambda *_: html(201),
    "create_empty": lambda *_: Response(status_code=201, media_type="application/json"),
    "create_huge": _huge,
    "create_gzip_bomb": _gzip_bomb,
    "create_odd_id": _odd_id,
    "create_duplicate_id": _duplicate_id,
}
