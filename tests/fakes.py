"""Fakes: a scripted provider, a manual clock, and a dispatcher that records."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fleek.dispatch.base import Task
from fleek.domain.attempt import Attempt
from fleek.domain.errors import CallbackRejected, FleekError, NotFound
from fleek.domain.job import Job, JobId, JobRequest, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.providers.base import (
    UNLIMITED,
    Budget,
    Callback,
    Failed,
    Found,
    InputFile,
    Model,
    Outcome,
    Prediction,
    Schema,
    Succeeded,
)

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f00050001ffa1c38a6a0000000049454e44ae426082"
)
"""A complete picture of one pixel."""

WELL = Succeeded((Output(uri="fake:picture"),))
BADLY = Failed("prediction_failed", "the model had a bad day", retryable=True)
FOR_GOOD = Failed("prediction_failed", "the model will never do this", retryable=False)


class Clock:
    """A clock that moves only by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.passed = timedelta(0)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.time

    def tick(self, **parts: float) -> None:
        """Let time pass, e.g. ``tick(seconds=5)``."""
        self.time += timedelta(**parts)
        self.passed += timedelta(**parts)

    def step(self, **parts: float) -> None:
        """Change the time without letting time pass, like a corrected clock."""
        self.time += timedelta(**parts)

    def steady(self) -> float:
        """Return the seconds that have passed."""
        return self.passed.total_seconds()


@dataclass
class FakeProvider:
    """A scripted provider that records its calls."""

    reconcile_by: Literal["repeat", "find", "none"] = "repeat"
    starts: list[FleekError] = field(
        default_factory=list
    )  # raised in turn, then predictions are created
    outcome: Outcome | None = WELL  # of every prediction, at `start` and at `poll`
    at_once: bool = False  # whether `start` returns the outcome
    progress: float | None = None
    log: str | None = None  # of every prediction
    reads: list[FleekError] = field(
        default_factory=list
    )  # raised in turn, then bytes are returned
    content: bytes = PNG
    inlines: bool = False  # whether responses contain the bytes, as ``data:`` URIs
    parameters: Schema | None = None
    default_model: ModelName = field(default=ModelName("fake/model"))
    budget: Budget = UNLIMITED
    started: list[Attempt] = field(default_factory=list)
    created: dict[PredictionId, Attempt] = field(default_factory=dict)
    polled: list[PredictionId] = field(default_factory=list)
    cancelled: list[PredictionId] = field(default_factory=list)
    hold: asyncio.Event | None = None  # `start` waits for it, after creating the prediction
    poll_error: FleekError | None = None
    cancel_confirms: bool = False  # whether `cancel` returns that it has stopped
    cancel_hold: asyncio.Event | None = None  # `cancel` waits for it before it returns
    cancel_error: Exception | None = None

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Create a prediction named after the attempt, or raise the next error of the script."""
        assert job.id == attempt.job_id
        self.started.append(attempt)
        if self.starts:
            raise self.starts.pop(0)
        prediction_id = PredictionId(f"p-{attempt.id}")
        self.created[prediction_id] = attempt
        if self.hold is not None:
            await self.hold.wait()
        outcome = self.outcome if self.at_once else None
        return Prediction(id=prediction_id, outcome=outcome)

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the outcome of created predictions."""
        self.polled.extend(ids)
        if self.poll_error is not None:
            raise self.poll_error
        return {
            one: Prediction(
                id=one,
                outcome=self.outcome,
                progress=self.progress,
                metrics={"seed": 7},
                log=self.log,
            )
            for one in ids
            if one in self.created
        }

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Record the call; with `cancel_confirms`, return that the prediction has stopped."""
        self.cancelled.append(prediction_id)
        if self.cancel_hold is not None:
            await self.cancel_hold.wait()
        if self.cancel_error is not None:
            raise self.cancel_error
        stopped = Failed("prediction_cancelled", "stopped", retryable=False)
        return Prediction(id=prediction_id, outcome=stopped) if self.cancel_confirms else None

    async def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:
        """Yield the content in two parts, or raise the next error of the script."""
        assert job.prediction_id in self.created
        assert output.uri is not None
        if self.reads:
            raise self.reads.pop(0)
        if self.inlines:
            yield base64.b64decode(str(output.uri).partition(",")[2])
            return
        yield self.content[:7]
        yield self.content[7:]

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:  # noqa: ARG002 - the port
        """Find the prediction that was created for the attempt."""
        created = next((key for key, one in self.created.items() if one.id == attempt.id), None)
        found = None if created is None else Prediction(id=created)
        return Found(prediction=found, complete=True)

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Accept a body with a prediction's id, signed with the word "fake"."""
        if headers.get("webhook-signature") != "fake":
            raise CallbackRejected("this is not signed")
        prediction = Prediction(id=PredictionId(body.decode()))
        return Callback(webhook_id=headers["webhook-id"], prediction=prediction)

    async def models(self) -> Sequence[Model]:
        """Return one model."""
        return [Model(name=self.default_model, description="A fake.", schema=self.parameters)]

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema for every model but one."""
        if model == "no/model":
            raise NotFound("there is no such model")
        return self.parameters


@dataclass
class TakingProvider(FakeProvider):
    """A fake provider that takes files, as `providers.base.SupportsUpload` says."""

    reads_inputs: bool = False
    inline: bool = True  # whether a file becomes a ``data:`` URI, or an address
    taken: list[InputFile] = field(default_factory=list)
    refusals: list[FleekError] = field(default_factory=list)  # raised in turn, then it takes
    inputs: list[Mapping[str, Any]] = field(default_factory=list)  # parameters of each start

    async def upload(self, file: InputFile) -> str:
        """Take a file, or raise what the script says."""
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken.append(file)
        address = f"https://files.example.com/{len(self.taken)}"
        return file.data_uri() if self.inline else address

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Remember the parameters."""
        self.inputs.append(job.input)
        return await super().start(job, attempt)


@dataclass
class AwaitingProvider(FakeProvider):
    """A fake provider whose callbacks name predictions by a part of their ids, and are waited for."""

    reconcile_by: Literal["repeat", "find", "none"] = "none"
    limit: timedelta | None = timedelta(minutes=10)

    def callback_limit(self, attempt: Attempt) -> timedelta | None:  # noqa: ARG002 - the port
        """Return the limit of the script."""
        return self.limit

    def named_in_callback(self, attempt: Attempt, named: PredictionId) -> PredictionId:
        """Return an id with the attempt's model."""
        return PredictionId(f"{attempt.model}/{named}")


@dataclass
class RecallingProvider(FakeProvider):
    """A fake provider that can read ended predictions again (`providers.base.SupportsRecall`)."""

    recalled: list[PredictionId] = field(default_factory=list)
    knows: bool = True  # whether ended predictions are still available
    now: Outcome | None = None  # their outcome; None: the original one
    recall_error: FleekError | None = None

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return an ended prediction."""
        self.recalled.append(prediction_id)
        if self.recall_error is not None:
            raise self.recall_error
        return (
            Prediction(id=prediction_id, outcome=self.now or self.outcome) if self.knows else None
        )


def a_request(prompt: str = "A cat riding a bicycle", **fields: Any) -> JobRequest:
    """Return a request that the fake provider accepts."""
    return JobRequest(prompt=prompt, **fields)


class Recording:
    """A dispatcher with handlers in this process that records ids."""

    def __init__(self, *, slots: int) -> None:
        self.slots = slots  # that are free
        self.stopping = False
        self.sent: list[tuple[Task, JobId]] = []
        self.queued: list[tuple[Task, JobId]] = []
        self.ran: list[tuple[Task, JobId]] = []

    async def enqueue(self, task: Task, job_id: JobId) -> None:
        """Record an id."""
        self.sent.append((task, job_id))

    def hand_over(self, task: Task, job_id: JobId) -> bool:
        """Record an id that waits for a slot."""
        self.queued.append((task, job_id))
        return True

    def reserve(self, task: Task) -> "Kept | None":
        """Keep a slot."""
        if not self.slots:
            return None
        self.slots -= 1
        return Kept(self, task)


class Kept:
    """A slot that is kept."""

    def __init__(self, dispatcher: Recording, task: Task) -> None:
        self._dispatcher = dispatcher
        self._task: Task = task

    def run(self, job_id: JobId) -> bool:
        """Record an id."""
        if self._dispatcher.stopping:
            return False
        self._dispatcher.ran.append((self._task, job_id))
        return True

    def free(self) -> None:
        """Give the slot back."""
        self._dispatcher.slots += 1
