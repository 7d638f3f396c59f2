"""The Cog server's HTTP interface, its refusals in our words.

Source: https://github.com/replicate/cog, ``crates/coglet/src/transport/http/routes.rs``.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fleek import strict
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
from fleek.providers.error_messages import reason_of_body
from fleek.providers.foreign_json import ON_LOOP, NotJson, parse
from fleek.providers.http import Api, TooLarge, creation_errors, read_errors

ANSWER_BYTES: Final = MAX_ANSWER_BYTES
DOCUMENT_BYTES: Final = 1_048_576
SMALL_BYTES: Final = 262_144  # an answer of which only the status counts

ANSWER_SECONDS: Final = 30.0  # for everything but a held prediction

ASYNC: Final = {"prefer": "respond-async"}
OVERLONG: Final = Failed(
    "output_too_large", "the Cog server's answer is too large; let it upload", retryable=False
)
NAME: Final = "the Cog server"
NO_INPUT: Final = {"input": "look"}
"""A body that no model takes: an input must be an object. So a `PUT` with it tells of what runs
under this id, and can never start anything."""


_creation = partial(creation_errors, NAME, unreachable=ProviderUnavailable.code)
_inquiry = partial(read_errors, NAME, unreachable=ProviderUnavailable.code)


class Wire:
    """One server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def contract(self) -> Contract | None:
        """Return what the model takes, or None if the server does not say.

        Raises:
            ProviderUnavailable: The server cannot be asked now.
        """
        with _inquiry():
            _, body = await self._send("GET", "/openapi.json", most=DOCUMENT_BYTES)
        try:
            return await asyncio.to_thread(_contract, body or b"")
        except NotJson:
            return None

    async def order(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start a prediction, unless it runs already; returns it as it stands.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        with _creation():
            status, said = await self._put(prediction_id, body, headers=ASYNC)
        return await _created(prediction_id, status, said)

    async def hold(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start a prediction and wait for its end, however long; leaving stops the prediction.

        It comes back without an outcome if it ran already, started by somebody else.

        Raises:
            ProviderRejected, ProviderUnavailable, OutcomeUnknown: As `Provider.start`.
        """
        with _creation():
            status, said = await self._put(prediction_id, body, wait=True)
        return await _created(prediction_id, status, said)

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
            path = f"/predictions/{prediction_id}/cancel"
            status, _ = await self._send("POST", path, most=SMALL_BYTES)
        if status not in {200, 404}:
            raise ProviderUnavailable(f"the Cog server answers with {status}")
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
        """Return an answer's status and its body, or None for one above `most` bytes."""
        try:
            answer = await self._api.call(method, path, content, headers, most=most, wait=wait)
        except TooLarge as error:
            return error.status, None
        return answer.status, answer.body


def _contract(document: bytes) -> Contract | None:
    return contract(parse(document))


async def _created(prediction_id: PredictionId, status: int, said: bytes | None) -> Prediction:
    """Return the prediction that was created, or raise why there is none."""
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
    prediction = await asyncio.to_thread(answer, said) if len(said) > ON_LOOP else answer(said)
    if prediction.id != prediction_id:
        raise Unreadable("the Cog server's answer is about another prediction")
    return prediction


def _refusal(status: int, said: bytes | None) -> ProviderError:
    """Return what a status means: nothing was created, or nobody knows."""
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
