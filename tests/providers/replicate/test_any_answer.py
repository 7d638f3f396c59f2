"""Any response of the API is parsed, or ends in one of Fleek's errors."""

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from fleek.domain.errors import CallbackRejected, FleekError
from fleek.domain.job import ModelName, PredictionId
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.base import Found, Prediction
from fleek.providers.http import Answer
from fleek.providers.replicate.poller import MAX_CALLS
from fleek.providers.replicate.provider import AccountConfig, ReplicateProvider
from untrusted_json import ANYTHING, WORDS

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB: Final = samples.a_job(model=ModelName("black-forest-labs/flux-schnell"))
ATTEMPT: Final = samples.an_attempt(JOB, submitted_at=NOW)

TIMES: Final = st.sampled_from(["2026-01-01T12:00:00Z", "2026-99-01", "0001-01-01T00:00:00Z", ""])
ROWS: Final = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.sampled_from(["abc", "\ud800", ""]), ANYTHING),
        "status": st.one_of(st.sampled_from(["succeeded", "failed", "canceled"]), ANYTHING),
        "created_at": st.one_of(TIMES, ANYTHING),
        "deadline": st.one_of(TIMES, ANYTHING),
        "completed_at": st.one_of(TIMES, ANYTHING),
        "model": st.one_of(st.just(str(JOB.model)), ANYTHING),
        "webhook": ANYTHING,
        "input": ANYTHING,
        "output": ANYTHING,
        "error": ANYTHING,
        "logs": ANYTHING,
        "metrics": ANYTHING,
        "urls": ANYTHING,
        "data_removed": ANYTHING,
    },
)
PAGES: Final = st.fixed_dictionaries(
    {"results": st.lists(ROWS, max_size=3)},
    optional={"next": st.one_of(st.sampled_from([*WORDS, "https://a/?cursor=b"]), ANYTHING)},
)
BODIES: Final = st.one_of(
    ROWS, PAGES, ANYTHING, st.fixed_dictionaries({"key": ANYTHING}), st.binary()
)
STATUSES: Final = st.sampled_from([200, 200, 200, 201, 301, 400, 401, 402, 404, 422, 429, 500])
HEADERS: Final = st.dictionaries(
    st.sampled_from(["date", "retry-after", "ratelimit-reset"]),
    st.sampled_from(["Thu, 01 Jan 2026 12:00:00 GMT", "Thu, 99 Foo 0000", "-1", "9" * 400, "é"]),
)


NO_HOSTS: Final = Client(Policy(patterns=()))


class FixedApi:
    """An API that gives the same response to every call."""

    post_window = timedelta(minutes=1)
    time = None  # no Date was received

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def get(self, *_: Any, **__: Any) -> Answer:
        """Return the response."""
        return self._answer

    async def post(self, *_: Any, **__: Any) -> Answer:
        """Return the response."""
        return self._answer


@given(body=BODIES, status=STATUSES, headers=HEADERS)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_any_response_is_parsed_or_refused(
    body: Any, status: int, headers: dict[str, str]
) -> None:
    """By every method that reads one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, headers, content)
    provider = ReplicateProvider(
        FixedApi(answer),  # type: ignore[arg-type]  # a fake
        NO_HOSTS,
        AccountConfig(callback_base=None),
        now=lambda: NOW,
    )
    many = [PredictionId(f"p{number}") for number in range(MAX_CALLS + 1)]
    signed = {"webhook-id": "a", "webhook-timestamp": str(int(NOW.timestamp()))}
    questions = [
        provider.start(JOB, ATTEMPT),
        provider.poll([PredictionId("abc")]),
        provider.poll(many),
        provider.find(JOB, ATTEMPT, now=NOW + timedelta(seconds=5)),
        provider.schema(JOB.model),
        provider.cancel(PredictionId("abc")),
        provider.callback({**signed, "webhook-signature": "v1,AAAA"}, content),
    ]

    for question in questions:
        error, result = await outcome(question)
        if error is None:
            assert result is None or isinstance(result, Prediction | Found | dict)
        assert len(str(error)) < 1000
        str(error).encode()
    await provider.schemas.close()


async def outcome(question: Awaitable[Any]) -> tuple[FleekError | None, Any]:
    """Return the result of a call: one of Fleek's errors, or a value."""
    try:
        return None, await question
    except FleekError as error:
        return error, None


@given(body=BODIES, key=st.binary(min_size=1))
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_any_signed_callback_is_parsed_or_refused(body: Any, key: bytes) -> None:
    """A genuine sender may still be of another version."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    stamp = str(int(NOW.timestamp()))
    digest = hmac.digest(key, f"a.{stamp}.".encode() + content, hashlib.sha256)
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    provider = ReplicateProvider(
        FixedApi(Answer(500, {}, b"")),  # type: ignore[arg-type]  # a fake
        NO_HOSTS,
        AccountConfig(callback_base=None, keys=(key,)),
        now=lambda: NOW,
    )

    with suppress(CallbackRejected):
        result = await provider.callback(headers, content)
        assert result.webhook_id == "a"
