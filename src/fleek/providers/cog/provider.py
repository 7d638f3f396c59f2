"""A Cog server as a provider: what its one model takes, and predictions of it."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, ProviderRejected, ProviderUnavailable
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.outbound.addresses import Resolve, resolve
from fleek.outbound.client import Client
from fleek.providers.base import Budget, Callback, Prediction, Schema
from fleek.providers.cog.inputs import PROMPT, Contract, validate_inputs
from fleek.providers.cog.runs import Runs
from fleek.providers.cog.settings import CogSettings
from fleek.providers.cog.wire import OVERLONG, Wire, is_ours, read_callback
from fleek.providers.download import Limits, read_output

FRESH_SECONDS: Final = 30.0  # how long the server's schema is taken for granted


class CogProvider:
    """Runs the predictions of one server.

    Args:
        settings: Where it is.
        wire: It.
        files: For outputs that the server has uploaded.
        callbacks: Base of the addresses that answers are sent to; None: connections are held.
        holds: Whether a connection held by this process is of use: it is not where one process
            starts predictions and another looks at them.
        resolve: Looks up the hosts of inputs.
        clock: Seconds, monotonic.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "repeat"

    def __init__(
        self,
        settings: CogSettings,
        wire: Wire,
        files: Client,
        *,
        callbacks: str | None,
        holds: bool,
        resolve: Resolve = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default_model = ModelName(settings.model)
        self.budget = Budget(concurrency=settings.max_concurrency)
        self._settings = settings
        self._limits = Limits(
            size=settings.max_output_bytes, setting="COG_MAX_OUTPUT_BYTES", whole=3600.0
        )
        self._wire = wire
        self._files = files
        self._callbacks = callbacks
        self._holds = holds
        self._resolve = resolve
        self._clock = clock
        self._contract: tuple[float, Contract] | None = None
        self.runs = Runs(
            wire,
            result_seconds=settings.callback_seconds.total_seconds(),
            with_callbacks=callbacks is not None,
            clock=clock,
        )

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Start the attempt's prediction, unless it runs already.

        Raises:
            ProviderRejected: The model, or an input, is not acceptable.
            ProviderUnavailable: The server is busy, not ready or out of reach.
            OutcomeUnknown: Something was sent and no readable answer came back.
        """
        prediction_id = PredictionId(attempt.id.hex)
        known = self.runs.known(prediction_id)
        if known is not None:
            return known
        body = {"input": await self._validated_input(job)}
        if self._callbacks is None or (job.retries and self._holds):
            return await self.runs.start_blocking(prediction_id, body)
        url = f"{self._callbacks}/webhooks/cog/{attempt.id}.{attempt.nonce}"
        with_callback = {**body, "webhook": url, "webhook_events_filter": ["completed"]}
        return await self.runs.start_async(prediction_id, with_callback)

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Look at predictions; one that runs no more and gave no answer in time has failed."""
        ours = [prediction_id for prediction_id in ids if is_ours(prediction_id)]
        if not ours:
            return {}
        await self._known()  # a server without a schema would take a look for an order
        return await self.runs.poll(ours)

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Ask the server to stop it; the answer does not say how it is then.

        Raises:
            ProviderUnavailable: It cannot be asked now.
        """
        if is_ours(prediction_id):
            await self.runs.cancel(prediction_id)
        return None

    async def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:  # noqa: ARG002 - the port's signature
        """Stream one output's bytes; see the port for what it raises."""
        chunks = read_output(self._files, output, self._limits, words=self._makes_words)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Read what the server sends when a prediction has ended.

        Raises:
            CallbackRejected: It is not about one of our predictions, or has no token.
        """
        return await read_callback(headers, body, token=self._settings.webhook_token)

    def overlong(self, prediction_id: PredictionId) -> Prediction:
        """Return the end of a prediction whose answer is too large, whichever way it comes."""
        return Prediction(id=prediction_id, outcome=OVERLONG)

    async def schema(self, model: ModelName) -> Schema:
        """Return the schema of the model's parameters.

        Raises:
            NotFound: The server's model has another name.
            ProviderUnavailable: It cannot be had now.
        """
        if model != self.default_model:
            raise NotFound(f"no such model: {model[:100]!r}; there is {self.default_model}")
        return (await self._known()).parameters

    async def _validated_input(self, job: Job) -> dict[str, Any]:
        """Return the model's input."""
        if job.model != self.default_model:
            raise ProviderRejected(f"the Cog server runs {self.default_model} and nothing else")
        known = await self._known()
        await validate_inputs(known, job.input, job.prompt, self._resolve)
        return {**job.input, PROMPT: job.prompt} if known.prompted else dict(job.input)

    async def _makes_words(self) -> bool:
        try:
            return (await self._known()).words
        except ProviderUnavailable:
            return False

    async def _known(self) -> Contract:
        now = self._clock()
        if self._contract is not None and now - self._contract[0] < FRESH_SECONDS:
            return self._contract[1]
        contract = await self._wire.contract()
        if contract is None:
            raise ProviderUnavailable(
                "the Cog server publishes no schema of its inputs", code="provider_not_ready"
            )
        if self._contract is not None and contract == self._contract[1]:
            contract = self._contract[1]  # the same object, which others have compiled
        self._contract = (now, contract)
        return contract
