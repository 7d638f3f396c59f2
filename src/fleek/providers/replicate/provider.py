"""Replicate as a provider: buys predictions, looks at them, finds those that got lost."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

from fleek import strict
from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    NotFound,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.outbound.client import Client
from fleek.providers.base import Budget, Callback, Found, Model, Prediction, Schema
from fleek.providers.download import Limits, read_output
from fleek.providers.http import (
    Api,
    creation_errors,
    raise_for_create,
    raise_for_read,
    read_date,
    read_errors,
)
from fleek.providers.replicate import schemas
from fleek.providers.replicate.callback import Signatures
from fleek.providers.replicate.poller import MAX_CALLS, Poller
from fleek.providers.replicate.schemas import Schemas, read_name
from fleek.providers.replicate.search import LostPrediction, PredictionList, Search, read_page
from fleek.providers.replicate.wire import LARGE, NAME, read_id, read_prediction
from fleek.system_clock import wall_time

ASK_SECONDS: Final = 2.0  # for the time, while a callback waits
ASK_AGAIN_SECONDS: Final = 60.0  # for the time, if nobody has told it
SHORTEST_RUN: Final = 5  # seconds; Replicate takes no shorter Cancel-After
EVENTS: Final = ("start", "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConfig:
    """What the operator chose for this account."""

    callback_base: str | None  # callbacks go below it; None: none are asked for
    keys: tuple[bytes, ...] = ()  # that sign callbacks; none: asked of the API
    limits: Limits = field(default_factory=Limits)
    creates_per_minute: int = 600
    calls_per_minute: int = 3000


class ReplicateProvider:
    """One prediction per attempt.

    Args:
        api: The account.
        files: Fetches outputs; has no token.
        terms: What the operator chose.
        now: The wall clock, aware: for when the time at Replicate cannot be had.
        clock: Monotonic seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "find"
    default_model: ModelName = schemas.DEFAULT

    def __init__(
        self,
        api: Api,
        files: Client,
        config: AccountConfig,
        *,
        now: Callable[[], datetime] = wall_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.budget = Budget(
            creates_per_minute=config.creates_per_minute,
            calls_per_minute=config.calls_per_minute,
            max_calls_per_poll=MAX_CALLS,
        )
        self.schemas = Schemas(api, clock=clock)
        self._api = api
        self._files = files
        self._signatures = Signatures(api, keys=config.keys, now=self._provider_time, clock=clock)
        self._now = now
        self._clock = clock
        self._poller = Poller(api, clock=clock)
        self._list = PredictionList(partial(read_page, api))
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self._dates_differ = False  # from the times in answers, as seen at the latest purchase

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Create one prediction, with one request.

        Raises:
            ProviderRejected: Not bought: refused for good.
            ProviderUnavailable: Not bought; ``code`` is ``provider_rate_limited``,
                ``provider_payment_required``, ``provider_unauthorized`` or
                ``provider_unreachable``.
            OutcomeUnknown: Something was sent and no readable answer came back.
        """
        try:
            target = read_name(job.model)
            content = strict.dumps(self._body(job, attempt, version=target.version))
        except (NotFound, TypeError, ValueError) as error:
            raise ProviderRejected(str(error), code="provider_bad_request") from error
        headers = {
            "cancel-after": f"{max(math.ceil(attempt.timeout.total_seconds()), SHORTEST_RUN)}s"
        }
        with creation_errors(NAME):
            answer = await self._api.post(target.path, content, headers)
            raise_for_create(answer, NAME)
            date = read_date(answer.headers.get("date", ""))
            prediction = await answer.understood(partial(read_prediction, date=date))
        if prediction is None:
            raise OutcomeUnknown("Replicate's answer names no prediction")
        if prediction.age is not None:
            self._dates_differ = abs(prediction.age) > self._api.post_window
        return prediction

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Look at predictions: many at once through the list, the others one by one.

        Raises:
            ProviderUnavailable: None could be seen.
        """
        return await self._poller.poll(ids)

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction that has ended as Replicate knows it now; None: it knows none.

        Raises:
            ProviderUnavailable: Could not be asked.
        """
        return await self._poller.recall(_checked(prediction_id))

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Ask Replicate to stop a prediction; one that has ended is left as it is.

        Raises:
            ProviderUnavailable: Could not be asked, or is not known there now.
        """
        with read_errors(NAME):
            path = f"/predictions/{_checked(prediction_id)}/cancel"
            answer = await self._api.post(path, most=LARGE)
            if answer.status in {400, 409, 422}:  # it has ended already
                return None
            raise_for_read(answer, NAME)
            return await answer.understood(read_prediction)

    async def read(self, job: Job, output: Output) -> AsyncGenerator[bytes]:
        """Stream one output's bytes; see `fleek.providers.download`.

        Raises:
            ProviderUnavailable: Its host cannot be reached; it may be read again.
            OutputMissing: Its host answers that it is not there.
            OutputBroken: The bytes are cut, empty, or a page about an error.
            OutputUnsafe: Its address or its size is not allowed.
        """
        words = partial(self.schemas.makes_words, job.model)
        chunks = read_output(
            self._files, output, self.config.limits, clock=self._clock, words=words
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:
        """Look once for a lost purchase, in the list of what was created at that time.

        Raises:
            ProviderUnavailable: The list could not be read.
        """
        try:
            target = read_name(job.model)
        except NotFound:
            return Found(prediction=None, complete=True)  # `start` refuses it before it is sent
        lost = LostPrediction(
            target=target,
            input=_input(job),
            token=_token(attempt),
            age=now - attempt.submitted_at,
            open=self._api.post_window,
            written=attempt.provider_time,
            dates_differ=self._dates_differ,
        )
        return await Search(lost).run(self._list)

    async def close(self) -> None:
        """Give up what is under way for nobody."""
        await self._list.close()

    @property
    def time(self) -> datetime | None:
        """The time at Replicate, by the date of its latest answer, if that came within the hour."""
        return self._api.time

    async def ask_time(self) -> None:
        """Make a call that costs nothing, if no answer has come lately; a failure is no matter."""
        async with self._asking:
            due = self._asked_at + ASK_AGAIN_SECONDS
            if self._api.time is not None or self._clock() < due:
                return
            self._asked_at = self._clock()
            with suppress(ProviderUnavailable), read_errors(NAME):
                await self._api.get("/account")

    async def _provider_time(self) -> datetime:
        """Return the time at Replicate, or what our wall clock shows if it does not answer soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                await self.ask_time()
        return self._api.time or self._now()

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Check and read a message that came to the callback URL of an attempt.

        Raises:
            CallbackRejected: Replicate did not sign it lately, or it cannot be read.
            ProviderUnavailable: The secret to check it with cannot be had now.
        """
        return await self._signatures.read(headers, body)

    async def models(self) -> Sequence[Model]:
        """List official models; any other can be run by its name."""
        return schemas.MODELS

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema of a model's parameters; None for deployments and bare versions.

        Raises:
            NotFound: The name is not well-formed, or Replicate has no such model.
            ProviderUnavailable: Replicate cannot be asked now.
        """
        return await self.schemas.get(model)

    def _body(self, job: Job, attempt: Attempt, *, version: str | None) -> dict[str, Any]:
        body: dict[str, Any] = {"input": _input(job)}
        if version is not None:
            body["version"] = version
        if self.config.callback_base is not None:
            body["webhook"] = f"{self.config.callback_base}/{_token(attempt)}"
            body["webhook_events_filter"] = list(EVENTS)
        return body


def _input(job: Job) -> dict[str, Any]:
    return {**job.input, "prompt": job.prompt}


def _token(attempt: Attempt) -> str:
    """Return the end of the attempt's callback URL; nobody else can know it."""
    return f"{attempt.id}.{attempt.nonce}"


def _checked(prediction_id: PredictionId) -> PredictionId:
    if read_id({"id": prediction_id}) is None:
        raise ProviderUnavailable("this is not the id of a prediction at Replicate")
    return prediction_id
