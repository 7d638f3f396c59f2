"""The adapter: submits requests to fal's queue, polls and cancels them, and reads callbacks."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlencode

import structlog

from fleek import strict
from fleek.domain.attempt import Attempt
from fleek.domain.catalogue import PROMPT_NOTE
from fleek.domain.errors import NotFound, OutcomeUnknown, ProviderRejected, ProviderUnavailable
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.domain.values import dataclass
from fleek.outbound.client import Client
from fleek.providers.base import (
    MAX_ANSWER_BYTES,
    Budget,
    Callback,
    Failed,
    InputFile,
    Model,
    Outcome,
    Prediction,
    Provider,
    Schema,
)
from fleek.providers.download import Limits, read_output
from fleek.providers.fal.callback import Signatures
from fleek.providers.fal.files import FALLBACK_BYTES, INLINE_BYTES, FileStorage
from fleek.providers.fal.wire import (
    CANCELLED,
    COMPLETED,
    NAME,
    app_of,
    is_failure,
    is_prediction_id,
    prediction_id,
    raise_for_submit,
    read_failure,
    read_metrics,
    read_request_id,
    read_result,
    read_running,
)
from fleek.providers.http import (
    Answer,
    Api,
    TooLarge,
    creation_errors,
    raise_for_read,
    read_errors,
)
from fleek.providers.polling import KEPT, Missing, read_each
from fleek.system_clock import wall_time

ANY: Final[Schema] = {"type": "object", PROMPT_NOTE: "optional"}
"""The schema of every model: its parameters are checked by fal, when the request runs."""

MAX_READS: Final = 100  # of requests in one poll
READS_AT_ONCE: Final = 16
SHORTEST: Final = 2  # seconds; the start limit must be longer than one
GONE_SECONDS: Final = 600.0  # of responses 404 only, until a request counts as gone

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConfig:
    """The operator's settings for the account."""

    models: tuple[str, ...]  # that are listed; the first one is the default
    callback_base: str | None = None  # the beginning of callback URLs; None: no callbacks
    object_lifetime: timedelta | None = None  # of files at fal; None: fal's own
    callback_wait: timedelta = timedelta(0)  # for repeated callbacks, and for long runs
    creates_per_minute: int | None = None
    max_concurrency: int | None = None
    limits: Limits = field(default_factory=Limits)


class FalProvider:
    """The adapter: one request in the queue per attempt.

    Args:
        api: The queue, with the account's key.
        keys: The public keys of callbacks.
        files: For outputs, without the key.
        storage: For media inputs that are too large for a request.
        config: The operator's settings.
        now: The wall clock (aware).
        clock: Monotonic clock, in seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "none"
    reads_inputs = False

    def __init__(
        self,
        api: Api,
        keys: Api,
        files: Client,
        storage: FileStorage,
        config: AccountConfig,
        *,
        now: Callable[[], datetime] = wall_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.accounts: Mapping[str, Provider] = {}
        self.default_model = ModelName(config.models[0])
        self.budget = Budget(
            creates_per_minute=config.creates_per_minute,
            concurrency=config.max_concurrency,
            max_calls_per_poll=3 * MAX_READS,
        )
        self._api = api
        self._files = files
        self._storage = storage
        self._now = now
        self._clock = clock
        self._signatures = Signatures(keys, times=self._times, clock=clock)
        self._missing = Missing(clock)  # all responses are 404
        self._long_logs: set[PredictionId] = set()  # that are not read any more

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Submit one request. Neither this call nor the queue retries it.

        Raises:
            ProviderRejected: Refused; a repetition would be, too.
            ProviderUnavailable: Nothing was submitted.
            OutcomeUnknown: A request was sent, and no readable response was received.
        """
        try:
            app_of(job.model)
            prompt = {"prompt": job.prompt} if job.prompt else {}
            content = strict.dumps({**job.input, **prompt})
        except (NotFound, TypeError, ValueError) as error:
            raise ProviderRejected(str(error), code="provider_bad_request") from error
        path = f"/{job.model}"
        if self.config.callback_base is not None:
            address = f"{self.config.callback_base}/{attempt.id}.{attempt.nonce}"
            path += f"?{urlencode({'fal_webhook': address})}"
        with creation_errors(NAME):
            answer = await self._api.post(path, content, self._headers(attempt))
            raise_for_submit(answer)
            request_id = read_request_id(answer.json())
        if request_id is None:
            raise OutcomeUnknown("fal's response names no request")
        return Prediction(id=prediction_id(job.model, request_id))

    def _headers(self, attempt: Attempt) -> Mapping[str, str]:
        """Return what bounds a request: no repetitions, the start limit, how long files are kept."""
        limit = max(math.ceil(attempt.timeout.total_seconds()), SHORTEST)
        headers = {"x-fal-no-retry": "1", "x-fal-request-timeout": str(limit)}
        if (lifetime := self.config.object_lifetime) is not None:
            expiry = {"expiration_duration_seconds": int(lifetime.total_seconds())}
            headers["x-fal-object-lifecycle-preference"] = strict.dumps(expiry).decode()
        return headers

    def callback_limit(self, attempt: Attempt) -> timedelta | None:
        """Return how long an attempt's callback may take.

        A request may start until the attempt's timeout and run on after it, and callbacks that the
        service could not receive are repeated.
        """
        if self.config.callback_base is None:
            return None
        return attempt.timeout + self.config.callback_wait

    async def upload(self, file: InputFile) -> str:
        """Return a ``data:`` URI for a small file, else its address after it was sent to fal.

        One of medium size is sent within the request, too, if fal's storage does not take it now.

        Raises:
            InputUnusable: fal refuses the file.
            ProviderUnavailable: The file could not be sent.
        """
        if file.size_bytes <= INLINE_BYTES:
            return await asyncio.to_thread(file.data_uri)
        try:
            return await self._storage.send(file)
        except ProviderUnavailable as error:
            if file.size_bytes > FALLBACK_BYTES:
                raise
            log.info("fal_storage_bypassed", code=error.code, reason=str(error))
            return await asyncio.to_thread(file.data_uri)

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions, read one by one; a random selection of very many.

        Raises:
            ProviderUnavailable: None could be read.
        """
        known = [key for key in dict.fromkeys(ids) if is_prediction_id(key)]
        reads = await read_each(known, self._read_one, most=MAX_READS, at_once=READS_AT_ONCE)
        if reads.failure is not None and not reads.found:
            raise reads.failure
        return reads.found

    async def _read_one(self, key: PredictionId) -> Prediction | None:
        """Return a prediction; None: it is not known now."""
        with read_errors(NAME):
            answer = await self._status(key)
            if answer.status == 404:
                return self._absent(key)
            raise_for_read(answer, NAME)
            status = answer.json()
            if read_request_id(status) not in (None, key.rpartition("/")[2]):
                raise ProviderUnavailable("fal describes another request")
            self._missing.found(key)
            running = await answer.understood(lambda body: read_running(key, body))
            if status.get("status") != COMPLETED:
                return running
            return await self._ended(running, status)

    async def _status(self, key: PredictionId) -> Answer:
        """Return the status, with the log unless that is too long."""
        if key not in self._long_logs:
            try:
                return await self._api.get(f"/{key}/status", {"logs": "1"})
            except TooLarge:
                if len(self._long_logs) >= KEPT:
                    self._long_logs.clear()
                self._long_logs.add(key)
        return await self._api.get(f"/{key}/status", {"logs": "0"})

    async def _ended(self, running: Prediction, status: Mapping[str, Any]) -> Prediction | None:
        """Return the outcome of a completed request; None: fal does not show it yet."""
        answer = await self._api.get(f"/{running.id}", most=MAX_ANSWER_BYTES)
        outcome: Outcome
        if is_failure(status, answer):
            outcome = read_failure(status, answer)
        elif answer.status == 404:
            return self._absent(running.id)
        else:
            raise_for_read(answer, NAME)
            outcome = await asyncio.to_thread(read_result, answer)
        metrics = read_metrics(status, answer)
        return replace(running, progress=None, outcome=outcome, metrics=metrics)

    def _absent(self, key: PredictionId) -> Prediction | None:
        """Return the end of a request that has been unknown for long; None: not yet."""
        if self._missing.seconds(key) < GONE_SECONDS:
            return None
        gone = Failed("prediction_gone", "fal no longer has the request", retryable=False)
        return Prediction(id=key, outcome=gone)

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Cancel a request; one that runs is stopped by its model, if that can be.

        Raises:
            ProviderUnavailable: The request failed, or the id is unknown now.
        """
        if not is_prediction_id(prediction_id):
            raise ProviderUnavailable("the id is not valid for a request at fal")
        with read_errors(NAME):
            answer = await self._api.call("PUT", f"/{prediction_id}/cancel")
            if answer.status == 400:  # it has ended already
                return None
            raise_for_read(answer, NAME)
            removed = answer.status == 200 and answer.json().get("status") == "OK"
        return Prediction(id=prediction_id, outcome=CANCELLED) if removed else None

    async def read(self, job: Job, output: Output) -> AsyncGenerator[bytes]:
        """Stream one output's bytes; see `fleek.providers.download`."""
        del job  # the output's address is enough
        chunks = read_output(self._files, output, self.config.limits, clock=self._clock)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Verify a callback; what it says is read again, as it does not name its app.

        Raises:
            CallbackRejected: Its signature or its age is wrong, or it cannot be read.
            ProviderUnavailable: The keys cannot be read now.
        """
        request_id = await self._signatures.read(headers, body)
        return Callback(webhook_id=request_id, prediction=Prediction(id=PredictionId(request_id)))

    def named_in_callback(self, attempt: Attempt, named: PredictionId) -> PredictionId:
        """Return the id of a prediction whose request a callback to an attempt has named."""
        return prediction_id(attempt.model, named)

    def _times(self) -> list[datetime]:
        ours, theirs = self._now(), self._api.time
        return [ours] if theirs is None else [ours, theirs]

    async def models(self) -> Sequence[Model]:
        """List the models of the settings; others can be run by their names."""
        return [
            Model(name=ModelName(name), description="", schema=ANY) for name in self.config.models
        ]

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema of every model's parameters: any are passed on.

        Raises:
            NotFound: The name is malformed.
        """
        app_of(model)
        return ANY
