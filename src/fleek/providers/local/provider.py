"""The adapter: runs are tasks of this process, each with a process of its own that speaks."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import field
from datetime import timedelta
from hashlib import sha256
from math import isfinite
from typing import Any, Final, Literal

import structlog

from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, ProviderRejected
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.domain.text import joined
from fleek.domain.values import dataclass
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.base import Budget, Failed, Model, Outcome, Prediction, Schema, Succeeded
from fleek.providers.download import Limits, read_output
from fleek.providers.local.processes import Processes, SpeechFailed

MODEL: Final = ModelName("hibari")
MAX_SEED: Final = 2**32 - 1
SPEED: Final = (0.5, 2.0)
SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "voice": {"enum": ["heart"], "default": "heart", "description": "American, female"},
        "speed": {"type": "number", "minimum": SPEED[0], "maximum": SPEED[1], "default": 1},
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
    },
    "additionalProperties": False,
}
log = structlog.get_logger(__name__)

QUEUED: Final = 8  # runs for each process
KEPT_SECONDS: Final = 120.0  # for which an ended run is kept after it was last read
CHARS_PER_SECOND: Final = 1000.0  # roughly, of a process
HEADER: Final = 200  # bytes of a WAV file, at most, beside its samples
BYTES_PER_SECOND: Final = 48_000
START: Final = "data:audio/wav;base64,"

CANCELLED: Final = Failed("prediction_cancelled", "the run was cancelled", retryable=False)
SILENT: Final = Failed("empty_output", "nothing in the text can be spoken", retryable=False)
LOST: Final = Failed(
    "prediction_lost", "the process that ran it has ended; a repetition is free", retryable=True
)


@dataclass(slots=True)
class Run:
    """A text that is spoken, or was."""

    id: PredictionId
    chars: int
    begun: float | None = None
    progress: float | None = None
    outcome: Outcome | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    read_at: float = 0.0
    task: asyncio.Task[None] | None = None

    def shown(self, now: float) -> Prediction:
        """Return its state."""
        self.read_at = now
        left = self.chars / CHARS_PER_SECOND * (1 - (self.progress or 0.0))
        return Prediction(
            id=self.id,
            progress=self.progress if self.outcome is None else None,
            outcome=self.outcome,
            metrics=self.metrics,
            eta=timedelta(seconds=0.1 + left) if self.outcome is None else None,
        )


class LocalProvider:
    """Speech on this machine, free of charge.

    Runs are known to the process that has started them. Others, such as the next one after a crash,
    report them as lost, and the engine makes another attempt.

    Args:
        processes: They speak.
        limit: Maximum number of processes.
        clock: Monotonic clock, in seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "repeat"
    default_model = MODEL

    def __init__(
        self, processes: Processes, *, limit: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget = Budget(concurrency=limit * QUEUED)
        self._processes = processes
        self._clock = clock
        self._runs: dict[PredictionId, Run] = {}

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Start to speak, unless it is spoken already.

        Raises:
            ProviderRejected: A parameter is not acceptable.
        """
        if job.model != MODEL:
            raise ProviderRejected(f"the only local model is {MODEL}")
        key = PredictionId(f"speech-{attempt.id.hex}")
        if (known := self._runs.get(key)) is None:
            request = _request(job, attempt)
            known = self._runs[key] = Run(key, len(job.prompt))
            known.task = asyncio.create_task(self._speak(known, request))
        return known.shown(self._clock())

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of runs. One that this process does not know was lost with another."""
        await asyncio.sleep(
            0
        )  # nothing else here waits, and the runs are tasks of this event loop
        now = self._clock()
        self._forget(now)
        seen: dict[PredictionId, Prediction] = {}
        for key in ids:
            if (run := self._runs.get(key)) is not None:
                seen[key] = run.shown(now)
            elif _is_ours(key):
                seen[key] = Prediction(id=key, outcome=LOST)
        return seen

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Kill the process that speaks it; a run that has ended keeps its result."""
        run = self._runs.get(prediction_id)
        if run is None:
            return Prediction(id=prediction_id, outcome=LOST) if _is_ours(prediction_id) else None
        if run.task is not None and run.outcome is None:
            run.outcome = CANCELLED
            run.task.cancel()
        return run.shown(self._clock())

    async def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:
        """Stream a sound; it is a ``data:`` URI."""
        del job  # the output has the bytes
        chunks = read_output(NO_HOSTS, output, Limits(), clock=self._clock)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def models(self) -> Sequence[Model]:
        """List the only model."""
        description = "English speech, made on this machine"
        return [Model(name=MODEL, description=description, schema=SCHEMA, output="audio")]

    async def schema(self, model: ModelName) -> Schema:
        """Return the parameters.

        Raises:
            NotFound: There is no such model.
        """
        if model != MODEL:
            raise NotFound(f"no such model: the only local one is {MODEL}")
        return SCHEMA

    async def close(self) -> None:
        """Cancel what runs, and end all processes."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._processes.close()

    async def _speak(self, run: Run, request: dict[str, Any]) -> None:
        """Speak a text, and keep the result with its run."""

        def begin() -> None:
            run.begun, run.progress = self._clock(), 0.0

        def advance(share: float) -> None:
            run.progress = min(share, 0.99)

        try:
            sound = await self._processes.speak(request, begin, advance)
        except SpeechFailed as error:
            run.outcome = Failed("prediction_failed", str(error), retryable=error.retryable)
            return
        except Exception as error:
            log.exception("speech_failed", prediction_id=run.id)
            run.outcome = Failed("prediction_failed", f"{type(error).__name__}", retryable=True)
            return
        if not sound:
            run.outcome = SILENT
            return
        encoded = await asyncio.to_thread(lambda: base64.b64encode(sound).decode())
        run.metrics = {
            "seed": request["seed"],
            "characters": run.chars,
            "audio_seconds": round(max(len(sound) - HEADER, 0) / BYTES_PER_SECOND, 3),
            "predict_time": round(self._clock() - (run.begun or 0.0), 3),
        }
        run.outcome = Succeeded((Output(uri=joined([START, encoded])),))

    def _forget(self, now: float) -> None:
        old = now - KEPT_SECONDS
        for run in [one for one in self._runs.values() if one.outcome is not None]:
            if run.read_at < old:
                del self._runs[run.id]


NO_HOSTS: Final = Client(Policy(patterns=()))


def _is_ours(key: str) -> bool:
    return key.startswith("speech-") and len(key) == len("speech-") + 32


def _request(job: Job, attempt: Attempt) -> dict[str, Any]:
    """Return what the process needs; the seed follows from the attempt unless one is given.

    Raises:
        ProviderRejected: A parameter is unknown or out of range.
    """
    given = dict(job.input)
    voice, speed = given.pop("voice", "heart"), given.pop("speed", 1.0)
    seed = given.pop("seed", int.from_bytes(sha256(attempt.id.bytes).digest()[:4]))
    numbers = _is_number(speed) and isinstance(seed, int) and not isinstance(seed, bool)
    if given or voice != "heart" or not numbers:
        raise ProviderRejected("the parameters are voice, speed and seed")
    if not (SPEED[0] <= speed <= SPEED[1] and 0 <= seed <= MAX_SEED):
        raise ProviderRejected("speed or seed is out of range")
    return {"text": job.prompt, "speed": float(speed), "seed": seed}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
