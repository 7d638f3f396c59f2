"""Any response of the server is read, or ends in one of Fleek's errors."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from comfyworkflows import TXT2IMG
from fleek.domain.errors import FleekError
from fleek.domain.job import AttemptId, ModelName, PredictionId
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.base import InputFile, Prediction
from fleek.providers.comfyui.provider import ComfyUIProvider
from fleek.providers.comfyui.workflows import read_workflow
from fleek.providers.http import Answer
from providers.comfyui.conftest import a_job, an_attempt
from untrusted_json import ANYTHING

KEY: Final = PredictionId("0192f0c1-2345-7abc-8def-0123456789ab")
WORKFLOWS: Final = {ModelName("a-txt2img"): read_workflow(TXT2IMG)}

FILES: Final = st.fixed_dictionaries(
    {}, optional={"filename": ANYTHING, "subfolder": ANYTHING, "type": st.just("output")}
)
OUTPUTS: Final = st.dictionaries(
    st.text(max_size=3),
    st.dictionaries(st.sampled_from(["images", "text"]), st.lists(st.one_of(FILES, ANYTHING))),
    max_size=2,
)
MESSAGES: Final = st.lists(
    st.tuples(
        st.sampled_from(
            ["execution_start", "execution_success", "execution_error", "execution_interrupted"]
        ),
        st.one_of(
            st.dictionaries(st.sampled_from(["timestamp", "node_type"]), ANYTHING), ANYTHING
        ),
    ),
    max_size=3,
)
STATUS: Final = st.fixed_dictionaries(
    {}, optional={"status_str": st.sampled_from(["error", "success"]), "messages": MESSAGES}
)
ENTRY: Final = st.fixed_dictionaries(
    {"outputs": st.one_of(OUTPUTS, ANYTHING)},
    optional={"status": st.one_of(STATUS, ANYTHING), "prompt": ANYTHING},
)
ROWS: Final = st.lists(st.one_of(st.tuples(ANYTHING, st.one_of(st.just(KEY), ANYTHING)), ANYTHING))
BODIES: Final = st.one_of(
    st.just({}),
    st.fixed_dictionaries({KEY: st.one_of(ENTRY, ANYTHING)}),
    st.fixed_dictionaries({"queue_running": ROWS, "queue_pending": ROWS}),
    st.fixed_dictionaries({"error": ANYTHING, "node_errors": ANYTHING}),
    st.fixed_dictionaries({"name": ANYTHING, "subfolder": ANYTHING}),
    ANYTHING,
    st.binary(),
)
EMPTY: Final[dict[str, list[Any]]] = {"queue_running": [], "queue_pending": []}
STATUSES: Final = st.sampled_from([200, 200, 200, 301, 400, 401, 404, 429, 500])


class FixedApi:
    """A server whose queue has one response, and everything else another."""

    def __init__(self, queue: Answer, answer: Answer) -> None:
        self._queue = queue
        self._answer = answer

    async def get(self, path: str, *_: Any, **__: Any) -> Answer:
        """Return a response."""
        return self._queue if path == "/queue" else self._answer

    async def post(self, *_: Any, **__: Any) -> Answer:
        """Return the other response."""
        return self._answer


def answer_of(body: Any, status: int) -> Answer:
    """Return a response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {}, content)


@given(queue=st.one_of(st.just(EMPTY), BODIES), body=BODIES, status=STATUSES)
async def test_any_response_is_read_or_refused(*, queue: Any, body: Any, status: int) -> None:
    """By every method that reads one."""
    api = FixedApi(answer_of(queue, 200), answer_of(body, status))
    provider = ComfyUIProvider(
        api,  # type: ignore[arg-type]  # a fake
        Client(Policy(patterns=())),
        base_url="http://example.com",
        workflows=WORKFLOWS,
    )
    job = a_job()
    own = Path(__file__)
    file = InputFile(path=own, name="x.png", sha256="0", size_bytes=1, content_type="image/png")
    questions = [
        provider.start(job, an_attempt(job, id=AttemptId(UUID(KEY)))),
        provider.poll([KEY]),
        provider.cancel(KEY),
        provider.upload(file),
    ]

    for question in questions:
        with suppress(FleekError):
            read = await question
            assert read is None or isinstance(read, Prediction | dict | str)
