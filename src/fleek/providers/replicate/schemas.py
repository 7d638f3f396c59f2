"""Models: names, a list of official ones, and the schemas of their input, read and cached."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from fleek.domain.errors import FleekError, NotFound, ProviderUnavailable
from fleek.domain.job import ModelName
from fleek.domain.values import dataclass
from fleek.input_schema import compile_schema, normalize
from fleek.providers.base import Model, Schema, prompt_note
from fleek.providers.http import Api, raise_for_read, read_errors
from fleek.providers.outputs import makes_words
from fleek.providers.replicate.wire import NAME

DEPLOYMENT: Final = "deployment"
"""The suffix, in place of a version, for running a deployment: ``owner/name:deployment``."""

_PART = r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}"
_NAME: Final = re.compile(
    rf"(?:(?P<model>{_PART}/{_PART})(?::(?P<version>[0-9a-f]{{64}}|{DEPLOYMENT}))?"
    r"|(?P<bare>[0-9a-f]{64}))"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A model, version or deployment to be run."""

    model: str | None  # "owner/name"; None: only the version is given
    version: str | None = None  # 64 hexadecimal digits; None: the current one
    deployment: bool = False  # whether `model` is the name of a deployment

    @property
    def path(self) -> str:
        """The path for creating a prediction, below the API's base."""
        if self.deployment:
            return f"/deployments/{self.model}/predictions"
        return "/predictions" if self.version else f"/models/{self.model}/predictions"

    @property
    def schema_path(self) -> str | None:
        """The path of the description of its parameters; None: its name does not determine one."""
        if self.model is None or self.deployment:
            return None
        path = f"/models/{self.model}"
        return path if self.version is None else f"{path}/versions/{self.version}"

    def ran(self, row: Mapping[str, Any]) -> bool:
        """Whether a prediction of the API's list is a run of this target."""
        if self.deployment:
            return row.get("deployment") == self.model
        if self.version is not None:  # unique to a model
            return row.get("version") == self.version
        return row.get("model") == self.model


def read_name(name: ModelName) -> Target:
    """Read ``owner/name``, ``owner/name:version``, a bare version or ``owner/name:deployment``.

    Raises:
        NotFound: It is none of these.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise NotFound(
            "no such model: the name must be owner/name, owner/name:version with a version of "
            f"64 digits, such a version alone, or owner/name:{DEPLOYMENT}"
        )
    if match["version"] == DEPLOYMENT:
        return Target(match["model"], deployment=True)
    return Target(match["model"], match["version"] or match["bare"])


KEPT: Final = 128  # models
FRESH_SECONDS: Final = 600.0
UNKNOWN_SECONDS: Final = 60.0  # how long "no such model" is cached
FAILED_SECONDS: Final = 10.0  # how long a failure is cached
WAIT_SECONDS: Final = 5.0  # maximum time that a caller waits
MAX_BYTES: Final = 1_048_576  # maximum size of a model's description

Known = Schema | FleekError | None


@dataclass(slots=True)
class _Entry:
    known: Known
    until: float  # monotonic seconds
    last: Schema | None = None  # the last known schema, of any age


class Schemas:
    """A cache of schemas by model. Concurrent callers for one model share a request."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._kept: dict[ModelName, _Entry] = {}
        self._words: dict[ModelName, bool] = {}  # whether the output is text, not files
        self._asking: dict[ModelName, asyncio.Task[Known]] = {}

    async def get(self, model: ModelName) -> Schema | None:
        """Return a model's schema; None if its name does not determine where to read it.

        Raises:
            NotFound: There is no such model.
            ProviderUnavailable: It cannot be read now.
        """
        entry = self._kept.get(model)
        if entry is not None and self._clock() < entry.until:
            return _schema_or_raise(entry.known)
        if (path := read_name(model).schema_path) is None:
            return None
        task = self._asking.get(model)
        if task is None:
            task = self._asking[model] = asyncio.create_task(self._ask(model, path))
            task.add_done_callback(lambda _: self._asking.pop(model, None))
        return _schema_or_raise(await asyncio.shield(task))

    async def makes_words(self, model: ModelName) -> bool:
        """Whether a model is known to return text, not files."""
        if model not in self._words:
            with suppress(NotFound, ProviderUnavailable):
                await self.get(model)
        return self._words.get(model, False)

    async def close(self) -> None:
        """Cancel the requests that are under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, model: ModelName, path: str) -> Known:
        last = entry.last if (entry := self._kept.get(model)) else None
        known: Known
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                known, seconds = await self._fetch(model, path), FRESH_SECONDS
        except NotFound as error:
            known, seconds = error, UNKNOWN_SECONDS
        except (ProviderUnavailable, TimeoutError) as error:
            unavailable = ProviderUnavailable(f"the model cannot be read now: {error}")
            known, seconds = last or unavailable, FAILED_SECONDS
        if last is not None and known == last:
            known = last  # the same object, so that its compiled form is reused
        newest = last if isinstance(known, FleekError) else known
        if len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept.pop(model, None)
        self._kept[model] = _Entry(known, self._clock() + seconds, newest)
        return known

    async def _fetch(self, model: ModelName, path: str) -> Schema | None:
        with read_errors(NAME):
            answer = await self._api.get(path, most=MAX_BYTES)
            if answer.status == 404:
                raise NotFound("Replicate has no such model")
            raise_for_read(answer, NAME)
            body = answer.json()
        version = body.get("latest_version", body)
        if len(self._words) >= KEPT:
            self._words.clear()
        self._words[model] = isinstance(version, dict) and makes_words(
            version.get("openapi_schema")
        )
        return await asyncio.to_thread(read_schema, version)


def _schema_or_raise(known: Known) -> Schema | None:
    if isinstance(known, FleekError):
        raise type(known)(str(known))
    return known


def read_schema(version: Any) -> Schema | None:
    """Return the schema of the parameters, without the prompt, in a version's OpenAPI document.

    It is self-contained and of limited size. None if there is none, or none that is usable.
    """
    document = version.get("openapi_schema") if isinstance(version, dict) else None
    components = document.get("components") if isinstance(document, dict) else None
    schemas = components.get("schemas") if isinstance(components, dict) else None
    if not isinstance(schemas, dict):
        return None
    read = normalize(schemas.get("Input"), schemas)
    if read is None or "properties" not in read:
        return None
    prompt = read["properties"].pop("prompt", None)
    required = [name for name in read.get("required", []) if name != "prompt"]
    schema = {**read, "type": "object", "required": required, "additionalProperties": False}
    if compile_schema(schema) is None:
        return None  # only Replicate checks the input
    is_required = len(required) < len(read.get("required", []))
    return {**schema, **prompt_note(exists=prompt is not None, required=is_required)}


DEFAULT: Final = ModelName("black-forest-labs/flux-schnell")


def _model(name: str, output: str, description: str) -> Model:
    return Model(name=ModelName(name), output=output, description=description)


MODELS: Final = (
    _model(DEFAULT, "image", "Text to image in one to four steps; quick and cheap."),
    _model("black-forest-labs/flux-dev", "image", "Text to image, slower and with more detail."),
    _model("black-forest-labs/flux-1.1-pro", "image", "Text to one image, of high quality."),
    _model("stability-ai/stable-diffusion-3.5-large", "image", "Text to image in many styles."),
    _model("ideogram-ai/ideogram-v3-turbo", "image", "Text to image; writes legible words."),
    _model("google/imagen-4", "image", "Text to image, close to photographs."),
    _model("recraft-ai/recraft-v3", "image", "Text to image, with long texts in the picture."),
    _model("minimax/video-01", "video", "Text, or text and a first picture, to a short film."),
    _model("google/lyria-2", "audio", "Text to music."),
    _model("meta/meta-llama-3-8b-instruct", "text", "A language model: text to text."),
)
