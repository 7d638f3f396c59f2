"""The placeholder as a provider: starts predictions, reports their state, makes their outputs."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutputUnsafe
from fleek.domain.inputs import with_values
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.environment import SOURCE, ZERO, Seconds, read
from fleek.providers.base import InputFile, Model, Prediction, Provider, Schema
from fleek.providers.placeholder import models
from fleek.providers.placeholder.prediction import (
    Behaviour,
    PredictionToken,
    milliseconds,
    new_id,
    prediction_of,
    seed_of,
)
from fleek.providers.placeholder.spec import spec_of
from fleek.system_clock import wall_time

STAND_IN: Final = "a picture"  # takes the place of one where parameters are checked
CHUNK_BYTES: Final = 64 * 1024
TURN: Final = 1000  # predictions polled before other tasks of the event loop run


class PlaceholderSettings(BaseSettings):
    """How the placeholder's predictions behave."""

    model_config = SOURCE | SettingsConfigDict(env_prefix="REPLICATE_MOCK_")

    delay_min: Seconds = Field(
        default=timedelta(seconds=0.5),
        ge=ZERO,
        le=timedelta(days=1),
        description="Shortest time that a placeholder prediction runs.",
    )
    delay_max: Seconds = Field(
        default=timedelta(seconds=2),
        ge=ZERO,
        le=timedelta(days=1),
        description="Longest time that a placeholder prediction runs.",
    )
    failure_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of placeholder predictions that fail and may be tried again, 0-1.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.delay_min > self.delay_max:
            low, high = self.delay_min.total_seconds(), self.delay_max.total_seconds()
            raise ValueError(
                f"REPLICATE_MOCK_DELAY_MIN: must not be above REPLICATE_MOCK_DELAY_MAX; "
                f"now {low:g} and {high:g}"
            )
        return self


class PlaceholderProvider:
    """Makes predictions that are pure functions of attempt and time; keeps no state.

    Args:
        settings: How long predictions run and how often they fail.
        now: The clock, aware.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "repeat"
    reads_inputs = True
    default_model: ModelName = models.PICTURE

    def __init__(
        self, settings: PlaceholderSettings, *, now: Callable[[], datetime] = wall_time
    ) -> None:
        self._behaviour = Behaviour(
            settings.delay_min.total_seconds(),
            settings.delay_max.total_seconds(),
            settings.failure_rate,
        )
        self._now = now
        self._renders = asyncio.Semaphore(min(4, os.cpu_count() or 1))  # each may take 200 MB

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Start the attempt's prediction; a repeated start is the same one.

        Raises:
            ProviderRejected: The parameters do not fit the model's schema.
        """
        given = with_values(job.input, dict.fromkeys(attempt.inputs or (), STAND_IN))
        outputs, seed = models.check(job.model, given)
        token = PredictionToken.read(new_id(attempt, outputs=outputs, seed=seed))
        assert token is not None
        return prediction_of(token, self._behaviour, now_ms=milliseconds(self._now()))

    async def upload(self, file: InputFile) -> str:
        """Return a picture as a ``data:`` URI.

        Raises:
            InputUnusable: It is no picture.
        """
        async with self._renders:
            await asyncio.to_thread(models.check_file, file)
        return await asyncio.to_thread(file.data_uri)

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions, started by any process; other ids are left out."""
        predictions: dict[PredictionId, Prediction] = {}
        for first in range(0, len(ids), TURN):
            now_ms = milliseconds(self._now())
            for prediction_id in ids[first : first + TURN]:
                token = PredictionToken.read(prediction_id)
                if token is not None:
                    predictions[prediction_id] = prediction_of(
                        token, self._behaviour, now_ms=now_ms
                    )
            await asyncio.sleep(0)
        return predictions

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:  # noqa: ARG002 - the port
        """Do nothing: a prediction is free and ends by itself.

        `poll` may report a success after the cancellation.
        """
        return None

    async def read(self, job: Job, output: Output) -> AsyncGenerator[bytes]:
        """Generate one output in a thread, and stream its bytes.

        Raises:
            OutputUnsafe: The output is not one of the placeholder.
        """
        seed = seed_of(output)
        if seed is None:
            raise OutputUnsafe("this output was not made by the placeholder")
        spec = spec_of(job, seed)
        async with self._renders:
            content = await asyncio.to_thread(models.make, spec)
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]

    async def models(self) -> Sequence[Model]:
        """List the placeholder's own models; any other name is accepted, too."""
        return models.CATALOGUE

    async def schema(self, model: ModelName) -> Schema:
        """Return the schema of a model's parameters; for other names, the picture model's.

        Raises:
            NotFound: The name is malformed.
        """
        return models.schema(model)


@asynccontextmanager
async def connect() -> AsyncGenerator[Provider]:
    """Open the provider from the environment.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    yield PlaceholderProvider(read(PlaceholderSettings))
