"""The Cog server's HTTP interface, its refusals in our words.

Source: https://github.com/replicate/cog, ``crates/coglet/src/transport/http/routes.rs``.
"""

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx2

from fleek.domain.errors import (
    OutcomeUnknown,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import PredictionId
from fleek.providers.base import MAX_ANSWER_BYTES, Failed, Prediction
from fleek.providers.cog.answers import Unreadable, answer, is_ours
from fleek.providers.cog.inputs import Contract, contract
from fleek.providers.encoding import EncodingBroken, decoded
from fleek.providers.error_messages import reason_of_body
from fleek.providers.foreign_json import ON_LOOP, NotJson, parse
from fleek.providers.logs import TooLong, body_without_logs

ANSWER_BYTES: Final = MAX_ANSWER_BYTES
DOCUMENT_BYTES: Final = 1_048_576
SMALL_BYTES: Final = 262_144  # an answer of which only the status counts

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0  # for everything but a held prediction

ASYNC: Final = {"prefer": "respond-async"}
OVERLONG: Final = Failed(
    "output_too_large", "the Cog server's answer is too large; let it upload", retryable=False
)
_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,  # of our own making, such as a header that cannot be written
)
NO_INPUT: Final = {"input": "look"}
"""A body that no model takes: an input must be an object. So a `PUT` with it tells of what runs
under this id, and can never start anything."""


class Wire:
    """One server. The client's base URL is the server's address."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def contract(self) -> Contract | None:
        """Return what the model takes, or None if the server does not say.

        Raises:
            ProviderUnavailable: The server cannot be asked now.
        """
        with _inquiry():
            _, body = await self._send("GET", "openapi.json", most=DOCUMENT_BYTES)
        try:
            return await asyncio.to_thread(_contract, body or b"")
        except NotJson:
            return None

    async def order(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start a prediction, unless it runs already; returns it as it stands.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        with _purchase():
            status, said = await self._put(prediction_id, body, headers=ASYNC)
        return await _bought(prediction_id, status, said)

    async def hold(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start a prediction and wait for its end, however long; leaving stops the prediction.

        It comes back without an outcome if it ran already, started by somebody else.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        patient = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=None)
        with _purchase():
            status, said = await self._put(prediction_id, body, timeout=patient)
        return await _bought(prediction_id, status, said)

    async def look(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction as it stands, or None if it does not run.

        Raises:
            ProviderUnavailable: It cannot be seen now.
        """
        with _inquiry():
            status, said = await self._put(prediction_id, NO_INPUT, headers=ASYNC)
        if status == 422:
            return None
        if status != 202:
            raise ProviderUnavailable(f"the Cog server answers with {status}")
        try:
            return await _read(prediction_id, said)
        except Unreadable as error:
            raise ProviderUnavailable(str(error)) from error

    async def stop(self, prediction_id: PredictionId) -> bool:
        """Ask for a prediction to be stopped; returns False if it did not run.

        Raises:
            ProviderUnavailable: It cannot be asked now.
        """
        with _inquiry():
            path = f"predictions/{prediction_id}/cancel"
            status, _ = await self._send("POST", path, most=SMALL_BYTES)
        if status not in {200, 404}:
            raise ProviderUnavailable(f"the Cog server answers with {status}")
        return status == 200

    async def _put(
        self, prediction_id: PredictionId, body: Mapping[str, Any], **options: Any
    ) -> tuple[int, bytes | None]:
        assert is_ours(prediction_id)
        path = f"predictions/{prediction_id}"
        return await self._send("PUT", path, most=ANSWER_BYTES, json=body, **options)

    async def _send(
        self, method: str, path: str, *, most: int, **options: Any
    ) -> tuple[int, bytes | None]:
        """Return an answer's status and its body, or None for one above `most` bytes."""
        async with self._http.stream(method, path, **options) as response:
            chunks = decoded(response.aiter_raw(), response.headers)
            try:
                return response.status_code, await body_without_logs(chunks, most=most)
            except TooLong:
                return response.status_code, None
            except EncodingBroken as error:
                raise httpx2.DecodingError(str(error)) from error


@contextmanager
def _purchase() -> Generator[None]:
    try:
        yield
    except _NOT_SENT as error:
        raise ProviderUnavailable("the Cog server cannot be reached") from error
    except httpx2.HTTPError as error:
        raise OutcomeUnknown(f"the Cog server did not answer: {type(error).__name__}") from error


@contextmanager
def _inquiry() -> Generator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        message = f"the Cog server does not answer: {type(error).__name__}"
        raise ProviderUnavailable(message) from error


def _contract(document: bytes) -> Contract | None:
    return contract(parse(document))


async def _bought(prediction_id: PredictionId, status: int, said: bytes | None) -> Prediction:
    """Return what was bought, or raise why nothing was."""
    if status not in {200, 202, 422}:
        raise _refusal(status, said)
    try:
        return await _read(prediction_id, said)
    except Unreadable as error:
        if status == 422:
            raise _refusal(status, said) from error
        raise OutcomeUnknown(str(error)) from error


async def _read(prediction_id: PredictionId, said: bytes | None) -> Prediction:
    if said is None:
        return Prediction(id=prediction_id, outcome=OVERLONG)
    told = await asyncio.to_thread(answer, said) if len(said) > ON_LOOP else answer(said)
    if told.id != prediction_id:
        raise Unreadable("the Cog server's answer is about another prediction")
    return told


def _refusal(status: int, said: bytes | None) -> ProviderError:
    """Return what a status means for the purchase: engine.md, section 5, in a server's terms."""
    if status == 409:
        return ProviderUnavailable("the Cog server is busy", code="provider_busy")
    if status == 503:
        return ProviderUnavailable("the Cog server is not ready", code="provider_not_ready")
    if status in {408, 429}:
        return ProviderUnavailable(f"the Cog server answers with {status}")
    if status >= 500:
        return OutcomeUnknown(f"the Cog server answers with {status}")
    return ProviderRejected(
        f"the Cog server refuses ({status}): {reason_of_body(said or b'', 500)}"
    )
