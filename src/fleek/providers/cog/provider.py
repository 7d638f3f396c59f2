"""A Cog server as a provider with a single model."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, ProviderRejected, ProviderUnavailable
from fleek.domain.inputs import with_values
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.outbound.addresses import Resolve, resolve
from fleek.outbound.client import Client
from fleek.providers.base import Budget, Callback, InputFile, Prediction, Schema
from fleek.providers.cog.inputs import PROMPT, Contract, validate_inputs
from fleek.providers.cog.runs import Runs
from fleek.providers.cog.settings import CogSettings
from fleek.providers.cog.wire import OVERLONG, Wire, is_ours, read_callback
from fleek.providers.download import Limits, read_output

STAND_IN: Final = "data:application/octet-stream;base64,AAAA"
"""Takes the place of what `upload` has returned, where inputs are validated."""

FRESH_SECONDS: Final = 30.0  # how long the server's schema is cached


class CogProvider:
    """The adapter for one server.

    Args:
        settings: Its settings.
        wire: Its HTTP interface.
        files: For outputs that the server uploaded.
        callbacks: Base of callback URLs; None: connections stay open for the results.
        holds: Whether this process may keep connections open: not if one process starts
        predictions and another polls them.
        resolve: Resolves the hosts of inputs.
        clock: Monotonic clock, in seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "repeat"
    reads_inputs = False

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
            OutcomeUnknown: A request was sent, and no readable response was received.
        """
        prediction_id = PredictionId(attempt.id.hex)
        known = self.runs.known(prediction_id)
        if known is not None:
            return known
        body = {"input": await self._validated_input(job, attempt)}
        if self._callbacks is None or (job.retries and self._holds):
            return await self.runs.start_blocking(prediction_id, body)
        url = f"{self._callbacks}/webhooks/cog/{attempt.id}.{attempt.nonce}"
        with_callback = {**body, "webhook": url, "webhook_events_filter": ["completed"]}
        return await self.runs.start_async(prediction_id, with_callback)

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions.

        One that no longer runs, and whose result is not received in time, has failed.
        """
        ours = [prediction_id for prediction_id in ids if is_ours(prediction_id)]
        if not ours:
            return {}
        await self._known()  # a server without a schema would accept the input of a poll
        return await self.runs.poll(ours)

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Cancel a prediction; the response does not contain its state.

        Raises:
            ProviderUnavailable: The request failed.
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
        """Verify and read the callback of a prediction that has ended.

        Raises:
            CallbackRejected: It describes no prediction of ours, or has no token.
        """
        return await read_callback(headers, body, token=self._settings.webhook_token)

    def overlong(self, prediction_id: PredictionId) -> Prediction:
        """Return the failure of a prediction whose result is too large."""
        return Prediction(id=prediction_id, outcome=OVERLONG)

    async def schema(self, model: ModelName) -> Schema:
        """Return the schema of the model's parameters.

        Raises:
            NotFound: The server's model has another name.
            ProviderUnavailable: It cannot be read now.
        """
        if model != self.default_model:
            raise NotFound(
                f"no such model: {model[:100]!r}; the only model is {self.default_model}"
            )
        return (await self._known()).parameters

    async def upload(self, file: InputFile) -> str:
        """Return a ``data:`` URI: a Cog server stores no inputs."""
        return await asyncio.to_thread(file.data_uri)

    async def _validated_input(self, job: Job, attempt: Attempt) -> dict[str, Any]:
        """Return the model's input, validated."""
        if job.model != self.default_model:
            raise ProviderRejected(f"the Cog server runs only the model {self.default_model}")
        known = await self._known()
        checked = with_values(job.input, dict.fromkeys(attempt.inputs or (), STAND_IN))
        await validate_inputs(known, checked, job.prompt, self._resolve)
        prompted = known.prompted and job.prompt
        return {**job.input, PROMPT: job.prompt} if prompted else dict(job.input)

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
                "the Cog server does not publish a schema of its inputs", code="provider_not_ready"
            )
        if self._contract is not None and contract == self._contract[1]:
            contract = self._contract[1]  # the same object, so that its compiled form is reused
        self._contract = (now, contract)
        return contract
