"""Replicate as a provider: starts, polls and cancels predictions, and finds lost ones."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import field
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
from fleek.domain.values import dataclass
from fleek.outbound.client import Client
from fleek.providers.base import (
    Budget,
    Callback,
    Found,
    History,
    InputFile,
    Model,
    Prediction,
    Provider,
    Schema,
)
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
from fleek.providers.replicate.files import send_file
from fleek.providers.replicate.history import HistorySearch
from fleek.providers.replicate.poller import MAX_CALLS, Poller
from fleek.providers.replicate.schemas import Schemas, read_name
from fleek.providers.replicate.search import LostPrediction, PredictionList, Search, read_page
from fleek.providers.replicate.wire import LARGE, NAME, read_id, read_prediction
from fleek.system_clock import wall_time

ASK_SECONDS: Final = 2.0  # maximum time for reading the time, while a callback waits
ASK_AGAIN_SECONDS: Final = 60.0  # minimum time between two calls for the time
SHORTEST_RUN: Final = 5  # seconds; Replicate's minimum for Cancel-After
INLINE_BYTES: Final = 256 * 1024  # of a file that is sent within the request, as Replicate advises
SENDS: Final = 2  # files that are sent at once; each is in memory
EVENTS: Final = ("start", "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConfig:
    """The operator's settings for the account."""

    callback_base: str | None  # the beginning of callback URLs; None: no callbacks
    keys: tuple[bytes, ...] = ()  # for signatures of callbacks; empty: read from the API
    limits: Limits = field(default_factory=Limits)
    creates_per_minute: int = 600
    calls_per_minute: int = 3000


class ReplicateProvider:
    """The adapter: one prediction per attempt.

    Args:
        api: For the account, with its token.
        files: For outputs, without the token.
        config: The operator's settings.
        now: The wall clock (aware), used if Replicate's time is unknown.
        clock: Monotonic clock, in seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "find"
    reads_inputs = False
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
        self.accounts: Mapping[str, Provider] = {}
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
        self._sending = asyncio.Semaphore(SENDS)
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self._dates_differ = (
            False  # whether the Date header differed from created_at at the last start
        )

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Create one prediction, with one request.

        Raises:
            ProviderRejected: Not created; a repetition would be refused, too.
            ProviderUnavailable: Not created; ``code`` is ``provider_rate_limited``,
                ``provider_payment_required``, ``provider_unauthorized`` or
                ``provider_unreachable``.
            OutcomeUnknown: A request was sent, and no readable response was received.
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
            raise OutcomeUnknown("Replicate's response contains no prediction")
        if prediction.age is not None:
            self._dates_differ = abs(prediction.age) > self._api.post_window
        return prediction

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions: many at once through the list, the others one by one.

        Raises:
            ProviderUnavailable: None could be read.
        """
        return await self._poller.poll(ids)

    @property
    def poll_calls(self) -> int:
        """How many requests all polls have made so far."""
        return self._poller.reads.made

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the current state of a prediction that has ended; None: the id is unknown.

        Raises:
            ProviderUnavailable: It could not be read.
        """
        return await self._poller.recall(_checked(prediction_id))

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Cancel a prediction; no effect on one that has ended.

        Raises:
            ProviderUnavailable: The request failed, or the id is unknown now.
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
            OutputMissing: Its host responds that there is no such file.
            OutputBroken: The file is empty, of another type than announced, or an error page.
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
        """Search the list once for the prediction of an attempt whose outcome is unknown.

        Raises:
            ProviderUnavailable: The list could not be read.
        """
        try:
            target = read_name(job.model)
        except NotFound:
            return Found(prediction=None, complete=True)  # `start` sends no request for it
        lost = LostPrediction(
            target=target,
            input=_input(job),
            files=attempt.inputs or {},
            token=_token(attempt),
            age=now - attempt.submitted_at,
            open=self._api.post_window,
            written=attempt.provider_time,
            dates_differ=self._dates_differ,
        )
        return await Search(lost).run(self._list)

    async def history(
        self, job: Job, attempt: Attempt, *, since: datetime, now: datetime
    ) -> History:
        """Search the list for all predictions of a job that were created since a time.

        Raises:
            ProviderUnavailable: The list could not be read.
        """
        try:
            target = read_name(job.model)
        except NotFound:
            return History(complete=True)  # `start` sends no request for it
        files = {  # each attempt has uploaded them to another address
            pointer: {name: value for name, value in sent.items() if name != "address"}
            for pointer, sent in (attempt.inputs or {}).items()
        }
        lost = LostPrediction(
            target=target,
            input=_input(job),
            files=files,
            token=_token(attempt),
            age=now - since,
            open=self._api.post_window,
        )
        return await HistorySearch(job.id, lost, since=since, now=now).run(self._list)

    async def upload(self, file: InputFile) -> str:
        """Return a ``data:`` URI for a small file, else its address after it was sent to Replicate.

        Raises:
            InputUnusable: Replicate refuses the file.
            ProviderUnavailable: The file could not be sent.
        """
        if file.size_bytes <= INLINE_BYTES:
            return await asyncio.to_thread(file.data_uri)
        async with self._sending:
            return await send_file(self._api, file)

    async def close(self) -> None:
        """Cancel the requests that are under way."""
        await self._list.close()

    @property
    def time(self) -> datetime | None:
        """Replicate's time, from the date of its latest response; None: no response in the last hour."""
        return self._api.time

    async def ask_time(self) -> None:
        """Make a free call to read the time, unless a recent response had it; ignores errors."""
        async with self._asking:
            due = self._asked_at + ASK_AGAIN_SECONDS
            if self._api.time is not None or self._clock() < due:
                return
            self._asked_at = self._clock()
            with suppress(ProviderUnavailable), read_errors(NAME):
                await self._api.get("/account")

    async def _provider_time(self) -> datetime:
        """Return Replicate's time, or that of our wall clock if it does not respond soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                await self.ask_time()
        return self._api.time or self._now()

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Verify and read a callback.

        Raises:
            CallbackRejected: Its signature or its age is wrong, or it cannot be read.
            ProviderUnavailable: The secret cannot be read now.
        """
        return await self._signatures.read(headers, body)

    async def models(self) -> Sequence[Model]:
        """List official models; others can be run by their names."""
        return schemas.MODELS

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema of a model's parameters; None for deployments and bare versions.

        Raises:
            NotFound: The name is malformed, or Replicate has no such model.
            ProviderUnavailable: It cannot be read now.
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
    return {**job.input, "prompt": job.prompt} if job.prompt else dict(job.input)


def _token(attempt: Attempt) -> str:
    """Return the end of the attempt's callback URL, which is a secret."""
    return f"{attempt.id}.{attempt.nonce}"


def _checked(prediction_id: PredictionId) -> PredictionId:
    if read_id({"id": prediction_id}) is None:
        raise ProviderUnavailable("the id is not valid for a prediction at Replicate")
    return prediction_id
