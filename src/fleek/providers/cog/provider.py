"""A Cog server as a provider: starts predictions, looks at them, and catches their answers."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final, Literal

import httpx2
import structlog

from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    CallbackRejected,
    ConfigurationError,
    NotFound,
    OutcomeUnknown,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.environment import read
from fleek.outbound import Resolve, look_up
from fleek.providers.base import (
    Budget,
    Callback,
    Found,
    Model,
    Prediction,
    Provider,
    Schema,
)
from fleek.providers.cog.answers import Unreadable, answer, is_ours, lost
from fleek.providers.cog.fetch import Fetch
from fleek.providers.cog.held import Answers, Held
from fleek.providers.cog.inputs import PROMPT, Contract, vet
from fleek.providers.cog.settings import CogSettings, callback_base
from fleek.providers.cog.wire import ANSWER_SECONDS, CONNECT_SECONDS, Wire
from fleek.settings import Settings

LOOKS_AT_ONCE: Final = 16
FRESH_SECONDS: Final = 30.0  # how long the server's schema is taken for granted
FIRST_SIGN_SECONDS: Final = 0.02  # before asking whether a held prediction runs

log = structlog.get_logger(__name__)


class CogProvider:
    """Runs the predictions of one server.

    Args:
        settings: Where it is.
        wire: It.
        fetch: For outputs that the server has uploaded.
        callbacks: Base of the addresses that answers are sent to; None: connections are held.
        holds: Whether a connection held by this process is of use: it is not where one process
            starts predictions and another looks at them.
        resolve: Looks up the hosts of inputs.
        clock: Seconds, monotonic.
    """

    settles: Literal["repeat", "find", "none"] = "repeat"

    def __init__(
        self,
        settings: CogSettings,
        wire: Wire,
        fetch: Fetch,
        *,
        callbacks: str | None,
        holds: bool,
        resolve: Resolve = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default_model = ModelName(settings.model)
        self.budget = Budget(concurrency=settings.max_concurrency)
        self._settings = settings
        self._wire = wire
        self._fetch = fetch
        self._callbacks = callbacks
        self._holds = holds
        self._resolve = resolve
        self._clock = clock
        self._contract: tuple[float, Contract] | None = None
        self._gone: dict[PredictionId, float] = {}  # since when it runs no more
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._answers = Answers(clock)
        self.held = Held(self._answers)

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Start the attempt's prediction, unless it runs already.

        Raises:
            ProviderRejected: The model, or an input, is not acceptable.
            ProviderUnavailable: The server is busy, not ready or out of reach.
            OutcomeUnknown: Something was sent and no readable answer came back.
        """
        prediction_id = PredictionId(attempt.id.hex)
        known = self._answers.get(prediction_id)
        if known is not None:
            return known
        if prediction_id in self.held:
            return Prediction(id=prediction_id)
        body = {"input": await self._vetted(job)}
        self._gone.pop(prediction_id, None)
        if self._callbacks is None or (job.retries and self._holds):
            return await self._hold(prediction_id, body)
        url = f"{self._callbacks}/webhooks/cog/{attempt.id}.{attempt.nonce}"
        ordered = {**body, "webhook": url, "webhook_events_filter": ["completed"]}
        return self._kept(await self._wire.order(prediction_id, ordered))

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Look at predictions; one that runs no more and gave no answer in time has failed."""
        ours = [one for one in ids if is_ours(one)]
        if not ours:
            return {}
        await self._known()  # a server without a schema would take a look for an order
        looks = await asyncio.gather(*map(self._look, ours), return_exceptions=True)
        seen: dict[PredictionId, Prediction] = {}
        failures = []
        for look in looks:
            if isinstance(look, Prediction):
                seen[look.id] = look
            elif isinstance(look, ProviderUnavailable):
                failures.append(look)
            else:
                raise look
        if failures and not seen:
            raise failures[0]
        return seen

    async def cancel(self, prediction_id: PredictionId) -> None:
        """Ask the server to stop it.

        Raises:
            ProviderUnavailable: It cannot be asked now.
        """
        if is_ours(prediction_id) and not await self._wire.stop(prediction_id):
            self._gone[prediction_id] = float("-inf")  # no answer is worth waiting for

    async def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:  # noqa: ARG002 - the port's signature
        """Stream one output's bytes; see the port for what it raises."""
        async for part in self._fetch.stream(output):
            yield part

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:  # noqa: ARG002 - the port's signature
        """Find nothing: an attempt is settled by starting it again."""
        return Found(prediction=None, complete=False)

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Read what the server sends when a prediction has ended.

        The server signs nothing: what proves that it comes from there is the token in the URL,
        and the bearer token if there is one.

        Raises:
            CallbackRejected: It is not about one of our predictions, or has no token.
        """
        expected = self._settings.webhook_token
        if expected is not None:
            named = {name.lower(): value for name, value in headers.items()}
            given = named.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {expected.get_secret_value()}".encode()):
                raise CallbackRejected("the callback does not carry WEBHOOK_AUTH_TOKEN")
        try:
            prediction = await asyncio.to_thread(answer, body)
        except Unreadable as error:
            raise CallbackRejected(str(error)) from error
        return Callback(
            webhook_id=hashlib.sha256(body).hexdigest(), prediction=prediction, final=True
        )

    async def models(self) -> Sequence[Model]:
        """List the server's one model."""
        try:
            schema = (await self._known()).parameters
        except ProviderUnavailable:
            schema = None
        return [Model(name=self.default_model, description="A Cog server's model.", schema=schema)]

    async def schema(self, model: ModelName) -> Schema:
        """Return the schema of the model's parameters.

        Raises:
            NotFound: The server's model has another name.
            ProviderUnavailable: It cannot be had now.
        """
        if model != self.default_model:
            raise NotFound(f"no such model: {model[:100]!r}; there is {self.default_model}")
        return (await self._known()).parameters

    async def _vetted(self, job: Job) -> dict[str, Any]:
        """Return the model's input."""
        if job.model != self.default_model:
            raise ProviderRejected(f"the Cog server runs {self.default_model} and nothing else")
        known = await self._known()
        await vet(known, job.input, job.prompt, self._resolve)
        return {**job.input, PROMPT: job.prompt} if known.prompted else dict(job.input)

    async def _known(self) -> Contract:
        now = self._clock()
        if self._contract is not None and now - self._contract[0] < FRESH_SECONDS:
            return self._contract[1]
        found = await self._wire.contract()
        if found is None:
            raise ProviderUnavailable(
                "the Cog server publishes no schema of its inputs", code="provider_not_ready"
            )
        if self._contract is not None and found == self._contract[1]:
            found = self._contract[1]  # the same object, which others have compiled
        self._contract = (now, found)
        return found

    async def _hold(self, prediction_id: PredictionId, body: Mapping[str, Any]) -> Prediction:
        """Start it over a connection that stays open; returns once it is known to run."""
        task = self.held.open(prediction_id, self._wire.hold(prediction_id, body))
        until = self._clock() + ANSWER_SECONDS
        wait = FIRST_SIGN_SECONDS
        try:
            while self._clock() < until:
                await asyncio.wait({task}, timeout=wait)
                seen = None if task.done() else await self._sign(prediction_id)
                if task.done():
                    return task.result()
                if seen is not None:
                    return self._kept(seen)
                wait = min(wait * 2, 1.0)
        except asyncio.CancelledError:
            self.held.drop(prediction_id)
            raise
        self.held.drop(prediction_id)
        raise OutcomeUnknown("the Cog server does not say whether the prediction runs")

    async def _sign(self, prediction_id: PredictionId) -> Prediction | None:
        """Return a prediction that runs, or None if it is not seen to."""
        try:
            return await self._wire.look(prediction_id)
        except ProviderUnavailable:
            return None

    async def _look(self, prediction_id: PredictionId) -> Prediction:
        known = self._answers.get(prediction_id)
        if known is not None:
            return known
        async with self._looks:
            seen = await self._wire.look(prediction_id)
        if seen is not None:
            self._gone.pop(prediction_id, None)
            return self._kept(seen)
        return self._answers.get(prediction_id) or self._awaited(prediction_id)

    def _awaited(self, prediction_id: PredictionId) -> Prediction:
        """Return what there is to say of a prediction that runs no more and gave no answer."""
        since = self._gone.setdefault(prediction_id, self._clock())
        may_come = self._callbacks is not None or prediction_id in self.held
        patience = self._settings.callback_seconds.total_seconds() if may_come else 0.0
        if self._clock() - since < patience:
            return Prediction(id=prediction_id)
        self.held.drop(prediction_id)
        del self._gone[prediction_id]
        end = lost(prediction_id)
        self._answers.keep(end)
        return end

    def _kept(self, prediction: Prediction) -> Prediction:
        self._answers.keep(prediction)
        return self._answers.get(prediction.id) or prediction


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    settings, service = read(CogSettings), read(Settings)
    callbacks = callback_base(service.public_url, settings.url)
    holds = service.dispatch == "embedded"
    if callbacks is None and not holds:
        raise ConfigurationError(
            f"PUBLIC_URL: with DISPATCH={service.dispatch}, a Cog server's answers need a callback "
            "address: https, or any if COG_URL is on this machine"
        )
    if callbacks is None:
        log.info("cog_without_callbacks", reason="PUBLIC_URL is not set; connections are held")
    headers = {}
    if settings.token is not None:
        headers["authorization"] = f"Bearer {settings.token.get_secret_value()}"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=f"{settings.url}/",
                headers=headers,
                timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx2.Limits(
                    max_connections=None, max_keepalive_connections=LOOKS_AT_ONCE
                ),
                trust_env=False,
                follow_redirects=False,
            )
        )
        fetch = await stack.enter_async_context(Fetch.open(settings.upload_url))
        provider = CogProvider(settings, Wire(http), fetch, callbacks=callbacks, holds=holds)
        stack.push_async_callback(provider.held.close)
        yield provider
