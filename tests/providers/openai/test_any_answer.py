"""Any response of the API is parsed, or ends in one of Fleek's errors."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import FleekError
from fleek.domain.job import PredictionId
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.base import Found, Prediction
from fleek.providers.http import Answer
from fleek.providers.openai.models import read_models
from fleek.providers.openai.provider import OpenAIProvider
from providers.openai.conftest import MODELS, a_job, an_attempt
from untrusted_json import ANYTHING

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
NO_HOSTS: Final = Client(Policy(patterns=()))

ROWS: Final = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.sampled_from(["abc", "\ud800", ""]), ANYTHING),
        "status": st.one_of(st.sampled_from(["completed", "failed", "deleted"]), ANYTHING),
        "created_at": st.one_of(st.sampled_from([NOW.timestamp(), -1e18, 1e18]), ANYTHING),
        "prompt": st.one_of(st.just("a cat"), ANYTHING),
        "model": st.one_of(st.just("sora-2"), ANYTHING),
        "error": st.one_of(st.fixed_dictionaries({"code": ANYTHING}), ANYTHING),
        "progress": ANYTHING,
        "size": ANYTHING,
        "url": ANYTHING,
        "urls": ANYTHING,
        "num_outputs": ANYTHING,
        "usage": ANYTHING,
        "b64_json": ANYTHING,
    },
)
LISTS: Final = st.fixed_dictionaries(
    {"data": st.one_of(st.lists(ROWS, max_size=3), ANYTHING)},
    optional={"has_more": ANYTHING, "last_id": ANYTHING, "output_format": ANYTHING},
)
BODIES: Final = st.one_of(
    ROWS, LISTS, ANYTHING, st.fixed_dictionaries({"error": ANYTHING}), st.binary()
)
STATUSES: Final = st.sampled_from([200, 200, 200, 201, 301, 400, 401, 402, 404, 409, 429, 500])
HEADERS: Final = st.dictionaries(
    st.sampled_from(["date", "retry-after", "retry-after-ms", "content-type"]),
    st.sampled_from(
        ["Thu, 01 Jan 2026 12:00:00 GMT", "-1", "9" * 400, "é", "application/json", "audio/mpeg"]
    ),
)


class FixedApi:
    """An API that gives the same response to every call."""

    post_window = timedelta(minutes=1)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def call(self, *_: Any, **__: Any) -> Answer:
        """Return the response."""
        return self._answer

    get = post = call


@pytest.mark.parametrize("repeats", [True, False])
@given(body=BODIES, status=STATUSES, headers=HEADERS)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_any_response_is_parsed_or_refused(
    *, body: Any, status: int, headers: dict[str, str], repeats: bool
) -> None:
    """By every method that reads one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    provider = OpenAIProvider(
        FixedApi(Answer(status, headers, content)),  # type: ignore[arg-type]  # a fake
        NO_HOSTS,
        NO_HOSTS,
        base_url="https://example.com/v1",
        models=read_models(MODELS),
        repeats=repeats,
    )
    jobs = [a_job(model=model) for model in ("acme/painter", "tts-1", "sora-2")]
    many = [PredictionId(f"p{number}") for number in range(9)]
    questions = [
        *(provider.start(job, an_attempt(job, submitted_at=NOW)) for job in jobs),
        provider.poll([PredictionId("abc")]),
        provider.poll(many),
        provider.find(jobs[2], an_attempt(jobs[2], submitted_at=NOW), now=NOW),
        provider.cancel(PredictionId("abc")),
    ]

    for question in questions:
        with suppress(FleekError):
            understood = await question
            assert understood is None or isinstance(understood, Prediction | Found | dict)
