"""Any response of the API is parsed, or ends in one of Fleek's errors."""

import json
from contextlib import suppress
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import FleekError
from fleek.domain.job import PredictionId
from fleek.providers.base import Failed, Prediction, Succeeded
from fleek.providers.http import Answer
from providers.fal.conftest import FixedApi, a_job, an_attempt, with_api
from untrusted_json import ANYTHING

ROWS: Final = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.one_of(st.sampled_from(["r-1", "\ud800", "", "../x"]), ANYTHING),
        "status": st.one_of(st.sampled_from(["COMPLETED", "IN_QUEUE", "OK"]), ANYTHING),
        "logs": st.one_of(
            st.lists(st.fixed_dictionaries({"message": ANYTHING}), max_size=3), ANYTHING
        ),
        "metrics": ANYTHING,
        "error": ANYTHING,
        "error_type": ANYTHING,
        "detail": st.one_of(
            st.lists(st.fixed_dictionaries({"type": ANYTHING}), max_size=3), ANYTHING
        ),
        "images": ANYTHING,
        "output": ANYTHING,
        "seed": ANYTHING,
    },
)
BODIES: Final = st.one_of(ROWS, ANYTHING, st.binary())
STATUSES: Final = st.sampled_from([200, 200, 202, 301, 400, 401, 402, 403, 404, 422, 429, 500])
HEADERS: Final = st.dictionaries(
    st.sampled_from(["x-fal-request-id", "x-fal-error-type", "x-fal-retryable", "content-type"]),
    st.sampled_from(["", "true", "client_cancelled", "é", "image/png", "application/json"]),
)


DONE: Final = Answer(200, {}, b'{"status": "COMPLETED", "request_id": "r-1"}')


@given(body=BODIES, status=STATUSES, headers=HEADERS, done=st.booleans())
async def test_any_response_is_parsed_or_refused(
    *, body: Any, status: int, headers: dict[str, str], done: bool
) -> None:
    """By every method that reads one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, headers, content)
    job, key = a_job(), PredictionId("fal-ai/flux/requests/r-1")
    polling = [DONE, answer] if done else [answer]
    questions = [
        with_api(FixedApi([answer])).start(job, an_attempt(job)),
        with_api(FixedApi(polling)).poll([key, PredictionId("/etc")]),
        with_api(FixedApi([answer])).cancel(key),
    ]

    for question in questions:
        with suppress(FleekError):
            understood = await question
            seen = understood.values() if isinstance(understood, dict) else [understood]
            for prediction in seen:
                assert prediction is None or isinstance(prediction, Prediction)
                outcome = None if prediction is None else prediction.outcome
                assert outcome is None or isinstance(outcome, Succeeded | Failed)
