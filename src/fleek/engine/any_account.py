"""A prediction of an account that is not known any more, looked for at all accounts of its provider."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeVar

from fleek.domain.attempt import Attempt
from fleek.domain.errors import CallbackRejected, FleekError, ProviderError, ProviderUnavailable
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.providers.base import (
    Callback,
    Failed,
    Found,
    Prediction,
    Provider,
    Schema,
    SupportsCallbacks,
    SupportsFind,
    SupportsRecall,
)

GONE: Final = "prediction_gone"

T = TypeVar("T")


class AnyAccount:
    """A prediction of an account whose key is not configured, or unknown: whoever knows it may answer.

    Its key may have been replaced by another one of the same account. That no account has the prediction
    proves nothing, so it is never given up for that, and nothing is started.
    """

    reconcile_by: Literal["repeat", "find", "none"]

    def __init__(self, accounts: Sequence[Provider]) -> None:
        self._accounts = accounts
        self.default_model = accounts[0].default_model
        self.reconcile_by = accounts[0].reconcile_by

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Refuse: an attempt is repeated only with its own key."""
        raise ProviderUnavailable(
            f"the key {attempt.account} of job {job.id} is not configured here",
            code="provider_not_configured",
        )

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return what any account has of these predictions."""
        seen: dict[PredictionId, Prediction] = {}
        for account in self._accounts:
            left = [each for each in ids if each not in seen]
            found = await _tried(account.poll(left)) if left else None
            seen |= {key: each for key, each in (found or {}).items() if not _is_gone(each)}
        return seen

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Ask each account to cancel a prediction, until one accepts.

        Raises:
            ProviderUnavailable: None does.
        """
        failure = ProviderUnavailable("no account has this prediction")
        for account in self._accounts:
            try:
                return await account.cancel(prediction_id)
            except ProviderUnavailable as error:
                failure = error
        raise failure

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return an ended prediction.

        Raises:
            ProviderUnavailable: No account has it.
        """
        for account in self._accounts:
            if isinstance(account, SupportsRecall):
                found = await _tried(account.recall(prediction_id))
                if found is not None:
                    return found
        raise ProviderUnavailable("no account has this prediction")

    async def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:
        """Stream an output with the first key that can read it; raises as the last one does."""
        *others, last = self._accounts
        for account in others:
            begun = False
            try:
                async for chunk in account.read(job, output):
                    begun = True
                    yield chunk
            except ProviderError:
                if begun:
                    raise
            else:
                return
        async for chunk in last.read(job, output):
            yield chunk

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema that the first account sees."""
        return await self._accounts[0].schema(model)

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:
        """Return the prediction if an account has it for certain; else the search was not complete."""
        for account in self._accounts:
            if isinstance(account, SupportsFind):
                found = await _tried(account.find(job, attempt, now=now))
                if found is not None and found.prediction is not None:
                    return found
        return Found(prediction=None, complete=False)

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Read a callback that one of the accounts has signed; raises as the last one does."""
        failure: FleekError = CallbackRejected("no account has signed this")
        for account in self._accounts:
            if isinstance(account, SupportsCallbacks):
                try:
                    return await account.callback(headers, body)
                except (CallbackRejected, ProviderUnavailable) as error:
                    failure = error
        raise failure


async def _tried(call: Awaitable[T]) -> T | None:
    try:
        return await call
    except ProviderUnavailable:
        return None


def _is_gone(prediction: Prediction) -> bool:
    return isinstance(prediction.outcome, Failed) and prediction.outcome.code == GONE
