"""The Cog server's HTTP interface, with its responses as predictions and errors of ours.

Source: https://github.com/replicate/cog, ``crates/coglet/src/transport/http/routes.rs``.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

from pydantic import SecretStr

from fleek import strict
from fleek.domain.errors import (
    CallbackRejected,
    OutcomeUnknown,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import PredictionId
from fleek.domain.provider_logs import read_log
from fleek.domain.text import LongText, ends_of, head_of, one_line
from fleek.providers.base import MAX_ANSWER_BYTES, Callback, Failed, Outcome, Prediction, Succeeded
from fleek.providers.cog.inputs import Contract, contract
from fleek.providers.error_messages import read_reason, reason_of_body
from fleek.providers.foreign_json import ON_LOOP, NotJson, parse
from fleek.providers.http import Api, TooLarge, creation_errors, read_errors
from fleek.providers.outputs import OutputUnreadable, read_outputs


async def read_callback(
    headers: Mapping[str, str], body: bytes, *, token: SecretStr | None
) -> Callback:
    """Verify and read a callback.

    The server does not sign callbacks: the proof of their origin is the token in the URL, and the
    bearer `token` if it is set.

    Raises:
        CallbackRejected: It describes no prediction of ours, or has no token.
    """
    if token is not None:
        named = {name.lower(): value for name, value in headers.items()}
        given = named.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
            raise CallbackRejected("the callback does not contain WEBHOOK_AUTH_TOKEN")
    try:
        prediction = await asyncio.to_thread(parse_prediction, body)
    except Unreadable as error:
        raise CallbackRejected(str(error)) from error
    webhook_id = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return Callback(webhook_id=webhook_id, prediction=prediction, final=True)


MESSAGE_CHARS: Final = 2000
MAX_PREFIXED: Final = 10_000  # characters of an error in which prefixes are removed
MAX_METRICS: Final = 50
MAX_NUMBER: Final = 2**53
LOG_TAIL: Final = 4000  # characters that are searched for progress

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PERCENT: Final = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?%")
_STEPS: Final = re.compile(r"(?<![\d/.])(\d{1,6})/(\d{1,6})(?![\d/.])")
_PREFIX: Final = re.compile(r"^((Async )?[Pp]rediction failed: )+")
_TRANSIENT: Final = re.compile(  # errors of the server or its machine, not of the input
    r"worker crashed|socket error|failed to send request|task lost|mutex poisoned"
    r"|out of memory|cuda error|no space left",
    re.IGNORECASE,
)


class Unreadable(ValueError):
    """The body does not describe a prediction of Fleek."""


def is_ours(prediction_id: str) -> bool:
    """Whether an id has the form of Fleek's ids."""
    return _ID.fullmatch(prediction_id) is not None


def parse_prediction(body: bytes) -> Prediction:
    """Return the prediction in a body.

    Raises:
        Unreadable: It does not describe a prediction of Fleek.
    """
    try:
        content = parse(body)
    except NotJson as error:
        raise Unreadable("the Cog server's response is not JSON") from error
    if not isinstance(content, dict) or not isinstance(content.get("status"), str):
        raise Unreadable("the Cog server's response does not describe a prediction")
    prediction_id = content.get("id")
    if not isinstance(prediction_id, str) or not is_ours(prediction_id):
        raise Unreadable("the Cog server's response describes another prediction")
    outcome = _outcome(content)
    return Prediction(
        id=PredictionId(prediction_id),
        progress=_progress(content.get("logs")) if outcome is None else None,
        outcome=outcome,
        metrics=_metrics(content.get("metrics")),
        log=read_log(content.get("logs")),
    )


def lost(prediction_id: PredictionId) -> Prediction:
    """Return the failure of a prediction that no longer runs and whose result was not received."""
    reason = "the prediction no longer runs, and the Cog server did not send its result"
    return Prediction(id=prediction_id, outcome=Failed("prediction_lost", reason, retryable=True))


def _outcome(content: Mapping[str, Any]) -> Outcome | None:
    match content["status"]:
        case "succeeded":
            return _success(content.get("output"))
        case "failed":
            return _failure(content.get("error"))
        case "canceled":
            return Failed(
                "prediction_cancelled", "the Cog server cancelled the prediction", retryable=True
            )
        case _:  # starting, processing, or a status of a later version
            return None


def _success(output: object) -> Outcome:
    try:
        return Succeeded(read_outputs(output))
    except OutputUnreadable as error:
        return Failed("invalid_output", str(error), retryable=False)


def _failure(error: object) -> Failed:
    head = head_of(error) if isinstance(error, str | LongText) else error
    reason = _PREFIX.sub("", head[:MAX_PREFIXED]) if isinstance(head, str) else head
    message = read_reason(reason, MESSAGE_CHARS, otherwise="the Cog server gave no reason")
    return Failed("prediction_failed", message, retryable=bool(_TRANSIENT.search(message)))


def _progress(logs: object) -> float | None:
    """Return the progress in a log: its last ``37%`` or ``3/8``."""
    if isinstance(logs, LongText):
        logs = ends_of(logs)
    if not isinstance(logs, str):
        return None
    tail = logs[-LOG_TAIL:]
    if percents := _PERCENT.findall(tail):
        return min(int(percents[-1]), 100) / 100
    steps = [(int(done), int(all_)) for done, all_ in _STEPS.findall(tail)]
    done, all_ = steps[-1] if steps else (0, 0)
    return round(done / all_, 2) if 0 <= done <= all_ and all_ else None


def _metrics(metrics: object) -> dict[str, Any]:
    """Return the numbers among the metrics."""
    if not isinstance(metrics, dict):
        return {}
    numbers = (
        (one_line(name, 100), value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if -MAX_NUMBER < value < MAX_NUMBER  # not NaN, and exact in every JSON parser
    )
    return dict(islice(numbers, MAX_METRICS))


ANSWER_BYTES: Final = MAX_ANSWER_BYTES
DOCUMENT_BYTES: Final = 1_048_576
SMALL_BYTES: Final = 262_144  # of a response of which only the status counts

ANSWER_SECONDS: Final = 30.0  # maximum, except for a call that waits for the result

ASYNC: Final = {"prefer": "respond-async"}
OVERLONG: Final = Failed(
    "output_too_large",
    "the Cog server's response is too large: start it with --upload-url",
    retryable=False,
)
NAME: Final = "the Cog server"
NO_INPUT: Final = {"input": "look"}
"""A body that no model accepts, as an input must be an object. So a `PUT` with it returns the
prediction that runs under this id, and never starts one."""


_creation = partial(creation_errors, NAME, unreachable=ProviderUnavailable.code)
_inquiry = partial(read_errors, NAME, unreachable=ProviderUnavailable.code)


class Wire:
    """The HTTP interface of one server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def contract(self) -> Contract | None:
        """Return the model's contract, or None if the server does not publish it.

        Raises:
            ProviderUnavailable: It cannot be read now.
        """
        with _inquiry():
            _, body = await self._send("GET", "/openapi.json", most=DOCUMENT_BYTES)
        try:
            return await asyncio.to_thread(_contract, body or b"")
        except NotJson:
            return None

    async def start(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start a prediction, unless it runs already; returns its state.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        with _creation():
            status, content = await self._put(prediction_id, body, headers=ASYNC)
        return await _created(prediction_id, status, content)

    async def start_and_wait(
        self, prediction_id: PredictionId, body: Mapping[str, Any]
    ) -> Prediction:
        """Start a prediction and wait for its end, without a time limit. Cancelling the call stops it.

        Returns it without an outcome if another call had started it.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        with _creation():
            status, content = await self._put(prediction_id, body, wait=True)
        return await _created(prediction_id, status, content)

    async def poll(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the state of a prediction, or None if it does not run.

        Raises:
            ProviderUnavailable: It cannot be read now.
        """
        with _inquiry():
            status, content = await self._put(prediction_id, NO_INPUT, headers=ASYNC)
        if status == 422:
            return None
        if status != 202:
            raise ProviderUnavailable(f"the Cog server responds with {status}")
        try:
            return await _read(prediction_id, content)
        except Unreadable as error:
            raise ProviderUnavailable(str(error)) from error

    async def cancel(self, prediction_id: PredictionId) -> bool:
        """Cancel a prediction; returns False if it did not run.

        Raises:
            ProviderUnavailable: The request failed.
        """
        with _inquiry():
            path = f"/predictions/{prediction_id}/cancel"
            status, _ = await self._send("POST", path, most=SMALL_BYTES)
        if status not in {200, 404}:
            raise ProviderUnavailable(f"the Cog server responds with {status}")
        return status == 200

    async def _put(
        self,
        prediction_id: PredictionId,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        wait: bool = False,
    ) -> tuple[int, bytes | None]:
        assert is_ours(prediction_id)
        path = f"/predictions/{prediction_id}"
        content = strict.dumps(body)
        return await self._send("PUT", path, content, headers, most=ANSWER_BYTES, wait=wait)

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        most: int,
        wait: bool = False,
    ) -> tuple[int, bytes | None]:
        """Return a response's status and body; the body is None above `most` bytes."""
        try:
            answer = await self._api.call(method, path, content, headers, most=most, wait=wait)
        except TooLarge as error:
            return error.status, None
        return answer.status, answer.body


def _contract(document: bytes) -> Contract | None:
    return contract(parse(document))


async def _created(prediction_id: PredictionId, status: int, content: bytes | None) -> Prediction:
    """Return the created prediction, or raise the reason why there is none."""
    if status not in {200, 202, 422}:
        raise _refusal(status, content)
    try:
        return await _read(prediction_id, content)
    except Unreadable as error:
        if status == 422:
            raise _refusal(status, content) from error
        raise OutcomeUnknown(str(error)) from error


async def _read(prediction_id: PredictionId, content: bytes | None) -> Prediction:
    if content is None:
        return Prediction(id=prediction_id, outcome=OVERLONG)
    prediction = (
        await asyncio.to_thread(parse_prediction, content)
        if len(content) > ON_LOOP
        else parse_prediction(content)
    )
    if prediction.id != prediction_id:
        raise Unreadable("the Cog server's response describes another prediction")
    return prediction


def _refusal(status: int, content: bytes | None) -> ProviderError:
    """Return the error for a status: nothing was created, or the outcome is unknown."""
    if status == 409:
        return ProviderUnavailable("the Cog server is busy", code="provider_busy")
    if status == 503:
        return ProviderUnavailable("the Cog server is not ready", code="provider_not_ready")
    if status in {408, 429}:
        return ProviderUnavailable(f"the Cog server responds with {status}")
    if status >= 500:
        return OutcomeUnknown(f"the Cog server responds with {status}")
    return ProviderRejected(
        f"the Cog server refused the prediction ({status}): {reason_of_body(content or b'', 500)}"
    )
