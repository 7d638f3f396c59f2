"""Any response of a server is parsed, or ends in one of Fleek's errors."""

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import CallbackRejected, FleekError
from fleek.domain.job import PredictionId
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.providers.base import Failed, Prediction
from fleek.providers.cog.inputs import Contract
from fleek.providers.cog.wire import Wire, read_callback
from fleek.providers.http import Api
from network import FakeNetwork, respond
from untrusted_json import ANYTHING

ID: Final = PredictionId("0" * 32)
PREDICTIONS: Final = st.fixed_dictionaries(
    {
        "id": st.one_of(st.just(ID), ANYTHING),
        "status": st.one_of(st.sampled_from(["succeeded", "failed", "processing"]), ANYTHING),
    },
    optional={
        "output": ANYTHING,
        "error": ANYTHING,
        "logs": ANYTHING,
        "metrics": st.dictionaries(st.text(), ANYTHING),
    },
)
DESCRIPTIONS: Final = st.fixed_dictionaries(
    {
        "components": st.fixed_dictionaries(
            {"schemas": st.fixed_dictionaries({"Input": ANYTHING, "a": ANYTHING})}
        )
    }
)
BODIES: Final = st.one_of(PREDICTIONS, DESCRIPTIONS, ANYTHING, st.binary())
STATUSES: Final = st.sampled_from([200, 202, 301, 400, 404, 409, 422, 429, 500, 503])


@given(body=BODIES, status=STATUSES)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_any_response_is_parsed_or_refused(body: Any, status: int) -> None:
    """By every method that reads one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    network = FakeNetwork(lambda _: respond(status, content))
    wire = Wire(Api("https://cog.test", Client(Policy(), network)))
    questions = [
        wire.contract(),
        wire.start(ID, {"input": {}}),
        wire.start_and_wait(ID, {"input": {}}),
        wire.poll(ID),
        wire.cancel(ID),
    ]

    for question in questions:
        try:
            result = await question
        except FleekError as error:
            result = None
            str(error).encode()

        assert result is None or isinstance(result, Contract | Prediction | bool)
        if isinstance(result, Prediction):
            json.dumps(dict(result.metrics), allow_nan=False).encode()
        if isinstance(result, Prediction) and isinstance(result.outcome, Failed):
            assert result.outcome.message.isprintable()


@given(body=BODIES)
@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_any_callback_is_parsed_or_refused(body: Any) -> None:
    """Anyone who knows the address can send one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    try:
        result = await read_callback({}, content, token=None)
    except CallbackRejected as error:
        str(error).encode()
    else:
        assert result.final
