"""The adapter: images and speech by one synchronous request, videos as jobs of the server."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Final, Literal

import structlog

from fleek import strict
from fleek.domain.attempt import Attempt
from fleek.domain.errors import NotFound, ProviderRejected, ProviderUnavailable
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.domain.money import Micros
from fleek.domain.prices import read_figure
from fleek.domain.text import one_line
from fleek.outbound.client import Client, ResponseLost
from fleek.providers.base import (
    MAX_ANSWER_BYTES,
    Budget,
    Failed,
    Found,
    History,
    InputFile,
    Model,
    Outcome,
    Prediction,
    Provider,
    Schema,
)
from fleek.providers.download import Limits, read_output
from fleek.providers.http import (
    Answer,
    Api,
    Unreadable,
    creation_errors,
    detail,
    raise_for_read,
    read_errors,
)
from fleek.providers.openai.models import SCHEMAS, Kind, described, request_body
from fleek.providers.openai.results import Results, is_result, new_id
from fleek.providers.openai.search import PAGE, Search, read_page
from fleek.providers.openai.wire import (
    CANCELLED,
    CONTENT,
    NAME,
    is_stated,
    is_video_id,
    multipart,
    raise_for_start,
    read_files,
    read_metrics,
    read_video,
)
from fleek.providers.polling import Missing, read_each

PATHS: Final[Mapping[Kind, str]] = {
    "image": "/images/generations",
    "speech": "/audio/speech",
    "video": "/videos",
}
EDITS: Final = "/images/edits"
ANY: Final = {"accept": "*/*"}
ONCE: Final = {"x-litellm-num-retries": "0"}
"""Sent with each creation: else LiteLLM repeats what may have been paid for, twice by default."""

COST_HEADER: Final = "x-litellm-response-cost"  # in US dollars
REPEATING: Final = "x-litellm-version"
"""A header of LiteLLM's own routes, behind which a client of OpenAI may repeat what was paid for."""

MAX_COST: Final = 40  # characters
MAX_READS: Final = 50  # of single videos in one poll
NO_LIST: Final = frozenset({400, 404, 405, 501})  # LiteLLM: 400
READS_AT_ONCE: Final = 8
LIST_FROM: Final = 5  # so many ids are worth a page of the list
GONE_SECONDS: Final = 60.0  # how long an unknown video may become known again
LIST: Final = PredictionId("the list")
"""What is missing, beside predictions, where a server says that it cannot list videos."""

LOST_SECONDS: Final = 120.0  # how long another process may need to store a result

log = structlog.get_logger(__name__)


class NoList(ProviderUnavailable):
    """The server says that it cannot list videos."""


class OpenAIProvider:
    """The adapter for one account or server.

    Args:
        api: With the key.
        content: For the content of videos, with the key; calls no other host.
        files: For outputs at other addresses, without the key.
        base_url: The API's address.
        models: The kind of each model; the first one is the default.
        repeats: Whether a request with an unknown outcome may be repeated.
        voice: Of speech, unless the request names one; None: the server's own.
        creates_per_minute, max_concurrency: Limits of the account; None: unlimited.
        max_output_bytes: Maximum size of an output.
        clock: Monotonic clock, in seconds.
    """

    reconcile_by: Literal["repeat", "find", "none"] = "find"
    reads_inputs = False

    def __init__(
        self,
        api: Api,
        content: Client,
        files: Client,
        *,
        base_url: str,
        models: Mapping[ModelName, Kind],
        repeats: bool = False,
        voice: str | None = None,
        creates_per_minute: int | None = None,
        max_concurrency: int | None = None,
        max_output_bytes: int = 2 * 1024**3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default_model = next(iter(models))
        self.accounts: Mapping[str, Provider] = {}
        self.budget = Budget(
            creates_per_minute=creates_per_minute,
            concurrency=max_concurrency,
            max_calls_per_poll=MAX_READS + 1,
        )
        self._api = api
        self._content = content
        self._files = files
        self._base_url = base_url
        self._models = models
        self._repeats = repeats
        self._voice = voice
        self._limits = Limits(
            size=max_output_bytes, setting="OPENAI_MAX_OUTPUT_BYTES", whole=3600.0
        )
        self._clock = clock
        self._has_warned = False
        self._results = Results(clock)
        self._missing = Missing(clock)

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Send one request. For an image or speech, its response is the result.

        Raises:
            ProviderRejected: Refused; a repetition would be, too.
            ProviderUnavailable: Nothing was started.
            OutcomeUnknown: A request was sent, and no readable response was received.
        """
        kind = self._models.get(job.model)
        if kind is None:
            raise ProviderRejected("OPENAI_MODELS does not list this model any more")
        path, content, headers = await self._request(kind, job, attempt)
        with creation_errors(NAME):
            if kind == "video":
                answer = await self._api.post(path, content, headers)
                raise_for_start(answer)
                video = read_video(answer.json(), retryable=self._repeats)
                if video is None:
                    raise Unreadable("the response has no id of a video")
                return video
            answer = await self._synchronous(path, content, headers, attempt)
            return self._kept(await self._outcome(answer), answer)

    async def _request(
        self, kind: Kind, job: Job, attempt: Attempt
    ) -> tuple[str, bytes, Mapping[str, str]]:
        """Return the path, the body and the headers of a request. Images with files are edits."""
        body = request_body(kind, job.model, job.prompt, job.input, voice=self._voice)
        files = frozenset(attempt.inputs or ())
        edits = kind == "image" and bool(files)
        try:
            if kind == "video" or edits:
                content, headers = await asyncio.to_thread(multipart, body, files)
            else:
                content, headers = strict.dumps(body), {}
        except (TypeError, ValueError) as error:
            raise ProviderRejected(str(error), code="provider_bad_request") from error
        return EDITS if edits else PATHS[kind], content, ANY | ONCE | headers

    async def upload(self, file: InputFile) -> str:
        """Return the file as a ``data:`` URI: it is sent with the request."""
        return await asyncio.to_thread(file.data_uri)

    async def _synchronous(
        self, path: str, content: bytes, headers: Mapping[str, str], attempt: Attempt
    ) -> Answer:
        """Send a request whose response is the result, and may take as long as an attempt may."""
        try:
            async with asyncio.timeout(attempt.timeout.total_seconds()):
                return await self._api.call(
                    "POST", path, content, headers, most=MAX_ANSWER_BYTES, wait=True
                )
        except TimeoutError as error:
            raise ResponseLost("no complete response in time", late=True) from error

    async def _outcome(self, answer: Answer) -> Outcome:
        if self._repeats and answer.status >= 500 and is_stated(answer):
            return Failed("prediction_failed", detail(answer), retryable=True)
        raise_for_start(answer)
        return await asyncio.to_thread(read_files, answer)

    def _kept(self, outcome: Outcome, answer: Answer) -> Prediction:
        """Return a result, and keep it until it is certainly stored."""
        try:
            metrics = read_metrics(answer.json())
        except Unreadable:
            metrics = {}
        if (cost := answer.headers.get(COST_HEADER)) is not None:
            metrics.setdefault("cost", one_line(cost, MAX_COST))
        self._warn_once(answer)
        return self._results.keep(Prediction(id=new_id(), outcome=outcome, metrics=metrics))

    def _warn_once(self, answer: Answer) -> None:
        """Tell the operator of a gateway that may pay several times for one request."""
        if REPEATING in answer.headers and not self._has_warned and not self._repeats:
            self._has_warned = True
            log.warning(
                "gateway_may_repeat_requests",
                gateway=f"LiteLLM {one_line(answer.headers[REPEATING], MAX_COST)}",
                advice="set OPENAI_BASE_URL to its pass-through, http://…/openai_passthrough/v1",
            )

    def cost(self, prediction: Prediction) -> Micros | None:
        """Return the cost that the answer names: LiteLLM and other gateways add it, OpenAI does not."""
        return read_figure(prediction.metrics.get("cost"))

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions: videos in part from the list, the others one by one.

        Raises:
            ProviderUnavailable: No state could be read.
        """
        seen = {key: found for key in ids if (found := self._result(key)) is not None}
        videos = [key for key in dict.fromkeys(ids) if is_video_id(key) and key not in seen]
        failure: ProviderUnavailable | None = None
        if len(videos) >= LIST_FROM:
            try:
                seen |= await self._listed(frozenset(videos))
            except ProviderUnavailable as error:
                failure = error
        rest = [key for key in videos if key not in seen]
        reads = await read_each(rest, self._video, most=MAX_READS, at_once=READS_AT_ONCE)
        seen |= reads.found
        failure = reads.failure or failure
        if failure is not None and not seen:
            raise failure
        return seen

    def _result(self, key: PredictionId) -> Prediction | None:
        """Return the result of a synchronous request; one that is not kept here is lost in the end.

        It may be kept by another process, which is about to store it.
        """
        if not is_result(key):
            return None
        if (kept := self._results.get(key)) is not None:
            return kept
        reason = "the process that received the result ended before it was stored"
        lost = Failed("prediction_lost", reason, retryable=self._repeats)
        return self._absent(key, lost, LOST_SECONDS) or Prediction(id=key)

    def _absent(
        self, key: PredictionId, gone: Failed, seconds: float = GONE_SECONDS
    ) -> Prediction | None:
        """Return the end of a prediction that has been unknown for long; None: not yet."""
        if (missing := self._missing.seconds(key)) < seconds:
            return None
        return Prediction(id=key, outcome=CANCELLED if math.isinf(missing) else gone)

    async def _listed(self, ids: frozenset[PredictionId]) -> dict[PredictionId, Prediction]:
        with read_errors(NAME):
            rows, _ = read_page(await self._page(None))
        found = (read_video(row, retryable=self._repeats) for row in rows)
        return {video.id: video for video in found if video is not None and video.id in ids}

    async def _page(self, after: str | None) -> Answer:
        params = {"limit": str(PAGE), "order": "desc"} | (
            {} if after is None else {"after": after}
        )
        with read_errors(NAME):
            answer = await self._api.get("/videos", params)
            if after is None and answer.status in NO_LIST and is_json(answer):
                raise NoList(f"{NAME} has no list of videos: {detail(answer)}")
            raise_for_read(answer, NAME)
            return answer

    async def _video(self, key: PredictionId) -> Prediction | None:
        """Return a video's state; None: it is unknown now.

        vLLM-Omni reports a failed video with the status of the failure, and the job as the body.
        """
        with read_errors(NAME):
            answer = await self._api.get(f"/videos/{key}")
            if answer.status == 404:
                gone = Failed(
                    "prediction_gone", "the server no longer has the video", self._repeats
                )
                return self._absent(key, gone)
            video = read_video(answer.json(), retryable=self._repeats) if is_json(answer) else None
            if video is None or video.outcome is None:
                raise_for_read(answer, NAME)
        if video is None or video.id != key:
            raise ProviderUnavailable(f"{NAME} describes another video")
        self._missing.found(key)
        return video

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Delete a video that has not ended. An ended one keeps its content; images have ended.

        Raises:
            ProviderUnavailable: The request failed, or the server still stops the video.
        """
        if is_result(prediction_id) or not is_video_id(prediction_id):
            return self._result(prediction_id)
        video = await self._video(prediction_id)
        if video is None or video.outcome is not None:
            return video
        with read_errors(NAME):
            answer = await self._api.call("DELETE", f"/videos/{prediction_id}")
            if answer.status in {404, 405, 501}:  # gone, or the server cannot stop a video
                return None
            raise_for_read(answer, NAME)
        self._missing.removed(prediction_id)
        return replace(video, progress=None, outcome=CANCELLED)

    async def read(self, job: Job, output: Output) -> AsyncGenerator[bytes]:
        """Stream one output's bytes; see `fleek.providers.download`."""
        del job  # the output's name or address is enough
        uri, client = output.uri, self._files
        if isinstance(uri, str) and uri.startswith(CONTENT):
            client, uri = self._content, f"{self._base_url}{uri.removeprefix(CONTENT)}"
        chunks = read_output(client, Output(uri=uri), self._limits, clock=self._clock)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:
        """Search for a video. Images and speech leave no trace that could be found.

        Raises:
            ProviderUnavailable: The list could not be read.
        """
        nothing = Found(prediction=None, complete=True, wiped=not self._repeats)
        if self._models.get(job.model) != "video":
            return nothing
        age, sendable = now - attempt.submitted_at, self._api.post_window
        search = Search(job, attempt, age, sendable, anonymous=self._repeats)
        try:
            with read_errors(NAME):
                found = await search.run(self._page)
        except NoList:
            # for a moment a gateway may have no routes to its server
            if self._missing.seconds(LIST) < GONE_SECONDS:
                return replace(nothing, complete=False, wiped=False)
            return nothing
        self._missing.found(LIST)
        return found

    async def history(
        self, job: Job, attempt: Attempt, *, since: datetime, now: datetime
    ) -> History:
        """Return nothing: what was made is not listed, or not with its request.

        If a repetition costs nothing, that does not matter.
        """
        del job, attempt, since, now
        return History(complete=True, blind=not self._repeats)

    async def models(self) -> Sequence[Model]:
        """List the models of the settings."""
        return described(self._models)

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the parameters that all servers have in common for this kind of model."""
        kind = self._models.get(model)
        if kind is None:
            raise NotFound("no such model: OPENAI_MODELS lists the models")
        return SCHEMAS[kind]


def is_json(answer: Answer) -> bool:
    """Whether the body is a JSON object."""
    try:
        answer.json()
    except Unreadable:
        return False
    return True
