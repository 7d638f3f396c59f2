"""The adapter: runs of workflows in a server's queue, under ids that Fleek chooses."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from typing import Final, Literal

from fleek import strict
from fleek.domain.attempt import Attempt
from fleek.domain.errors import InputUnusable, NotFound, ProviderRejected
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.outbound.client import Client
from fleek.providers.base import Budget, Failed, InputFile, Model, Prediction, Schema
from fleek.providers.comfyui.progress import ProgressSockets
from fleek.providers.comfyui.wire import (
    CANCELLED,
    LOST,
    NAME,
    OURS,
    VIEW,
    Queued,
    is_ours,
    raise_for_prompt,
    read_history,
    read_queue,
    read_upload,
    upload_form,
)
from fleek.providers.comfyui.workflows import Workflow
from fleek.providers.download import Limits, read_output
from fleek.providers.http import (
    MIB,
    Api,
    creation_errors,
    detail,
    raise_for_read,
    read_errors,
)
from fleek.providers.polling import Missing, read_each

MAX_QUEUE: Final = 64 * MIB  # it has the whole workflow of each run
MAX_READS: Final = 50  # of ended runs in one poll
READS_AT_ONCE: Final = 8
LOST_SECONDS: Final = 10.0  # how long a run may be missing
REFUSED: Final = frozenset({400, 413, 415, 422})


class ComfyUIProvider:
    """The adapter for one server.

    Args:
        api: The server.
        content: For outputs; calls no other host.
        base_url: The server's address.
        workflows: The models; the first one is the default.
        max_concurrency: Maximum number of runs in the server's queue; None: unlimited.
        max_output_bytes: Maximum size of an output.
        progress: For the progress of runs; None: it stays unknown.
        clock: Monotonic clock, in seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "repeat"
    reads_inputs = False

    def __init__(
        self,
        api: Api,
        content: Client,
        *,
        base_url: str,
        workflows: Mapping[ModelName, Workflow],
        max_concurrency: int | None = None,
        max_output_bytes: int = 2 * 1024**3,
        progress: ProgressSockets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default_model = next(iter(workflows))
        self.budget = Budget(concurrency=max_concurrency, max_calls_per_poll=MAX_READS + 1)
        self._api = api
        self._content = content
        self._base_url = base_url
        self._workflows = workflows
        self._limits = Limits(
            size=max_output_bytes, setting="COMFYUI_MAX_OUTPUT_BYTES", whole=3600.0
        )
        self._progress = progress
        self._clock = clock
        self._missing = Missing(clock)

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Add a run to the queue, unless the server has it already: it does not tell repetitions.

        Raises:
            ProviderRejected: The workflow, or a parameter, is not acceptable.
            ProviderUnavailable: Nothing was started.
            OutcomeUnknown: A request was sent, and no readable response was received.
        """
        workflow = self._workflows.get(job.model)
        if workflow is None:
            raise ProviderRejected("COMFYUI_WORKFLOWS has no such workflow any more")
        files = {pointer.removeprefix("/") for pointer in attempt.inputs or ()}
        seed = int.from_bytes(sha256(attempt.id.bytes).digest())
        nodes, drawn = workflow.filled(job.prompt, job.input, files=files, seed=seed)
        key = PredictionId(str(attempt.id))
        body = {"prompt": nodes, "prompt_id": key, "client_id": key, "extra_data": {OURS: drawn}}
        try:
            content = await asyncio.to_thread(strict.dumps, body)
        except (TypeError, ValueError) as error:
            raise ProviderRejected(str(error), code="provider_bad_request") from error
        if (known := await self._state(key)) is not None:
            return known
        self._missing.found(key)
        with creation_errors(NAME):
            raise_for_prompt(await self._api.post("/prompt", content))
        return Prediction(id=key)

    async def upload(self, file: InputFile) -> str:
        """Store a file in the server's folder of inputs, and return its name there.

        Raises:
            InputUnusable: The server refuses it.
            ProviderUnavailable: It could not be sent.
        """
        content, headers = await asyncio.to_thread(upload_form, file)
        with read_errors(NAME):
            answer = await self._api.post("/upload/image", content, headers)
            if answer.status in REFUSED:
                message = f"{NAME} refused a file ({answer.status}): {detail(answer)}"
                raise InputUnusable(message, code="input_refused")
            raise_for_read(answer, NAME)
            return read_upload(answer.json())

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of runs: those in the queue by one call, the others one by one.

        Raises:
            ProviderUnavailable: No state could be read.
        """
        ours = [key for key in dict.fromkeys(ids) if is_ours(key)]
        if not ours:
            return {}
        queue = await self._queue()
        seen = {key: self._in_queue(key, queue[key]) for key in ours if key in queue}
        rest = [key for key in ours if key not in queue]
        reads = await read_each(rest, self._gone, most=MAX_READS, at_once=READS_AT_ONCE)
        seen |= reads.found
        if reads.failure is not None and not seen:
            raise reads.failure
        return seen

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Remove a run from the queue, or interrupt it if it is the one that runs.

        Raises:
            ProviderUnavailable: The request failed.
        """
        if not is_ours(prediction_id):
            return None
        queued = (await self._queue()).get(prediction_id)
        if queued is None:
            return await self._gone(prediction_id)
        path, body = "/queue", strict.dumps({"delete": [prediction_id]})
        if queued.running:
            path, body = "/interrupt", strict.dumps({"prompt_id": prediction_id})
        with read_errors(NAME):
            raise_for_read(await self._api.post(path, body), NAME)
        found = await self._state(prediction_id)
        if found is None:  # a run that is removed before it has begun leaves no trace
            self._missing.removed(prediction_id)
        return found or Prediction(id=prediction_id, outcome=CANCELLED)

    async def read(self, job: Job, output: Output) -> AsyncGenerator[bytes]:
        """Stream one output's bytes; see `fleek.providers.download`."""
        del job  # the output's name is enough
        uri = f"{output.uri or ''}"
        if uri.startswith(VIEW):
            output = Output(uri=f"{self._base_url}/view?{uri.removeprefix(VIEW)}")
        chunks = read_output(self._content, output, self._limits, clock=self._clock)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def models(self) -> Sequence[Model]:
        """List the workflows."""
        return [workflow.model(name) for name, workflow in self._workflows.items()]

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the slots of a workflow.

        Raises:
            NotFound: There is no such workflow.
        """
        workflow = self._workflows.get(model)
        if workflow is None:
            raise NotFound("no such model: COMFYUI_WORKFLOWS is the folder of the models")
        return workflow.schema

    async def _state(self, key: PredictionId) -> Prediction | None:
        """Return a run, wherever it is; None: the server does not have it.

        The server moves a run from its queue to its history in one step, so a look at both, in this
        order, misses none.
        """
        if key in await self._queue():
            return self._present(key)
        return await self._ended(key)

    async def _queue(self) -> Mapping[PredictionId, Queued]:
        """Return the runs in the queue."""
        with read_errors(NAME):
            answer = await self._api.get("/queue", most=MAX_QUEUE)
            raise_for_read(answer, NAME)
            return await answer.understood(read_queue)

    async def _gone(self, key: PredictionId) -> Prediction | None:
        """Return the end of a run that is not in the queue; None: not yet certain."""
        return await self._ended(key) or self._absent(key)

    async def _ended(self, key: PredictionId) -> Prediction | None:
        """Return a run that has ended; None: the server has none with this id."""
        with read_errors(NAME):
            answer = await self._api.get(f"/history/{key}")
            raise_for_read(answer, NAME)
            found = await answer.understood(lambda body: read_history(key, body))
        if found is None:
            return None
        self._missing.found(key)
        known = None if self._progress is None else self._progress.forget(key)
        return found if known is None else replace(found, log=known.log)

    def _in_queue(self, key: PredictionId, queued: Queued) -> Prediction:
        """Return a run, and how far it is if it is executed now."""
        present = self._present(key)
        if self._progress is None or not queued.running:
            return present
        known = self._progress.follow(key, queued.nodes)
        return replace(present, progress=known.progress, log=known.log)

    def _present(self, key: PredictionId) -> Prediction:
        self._missing.found(key)
        return Prediction(id=key)

    def _absent(self, key: PredictionId) -> Prediction | None:
        """Return the end of a run that the server no longer has; None: not yet certain."""
        if (missing := self._missing.seconds(key)) < LOST_SECONDS:
            return None
        if self._progress is not None:
            self._progress.forget(key)
        outcome: Failed = CANCELLED if math.isinf(missing) else LOST
        return Prediction(id=key, outcome=outcome)
