"""Whatever a server answers, with whatever status, each question ends in words of ours."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.errors import CallbackRejected, FleekError
from fleek.domain.job import PredictionId
from fleek.providers.base import Failed, Prediction
from fleek.providers.cog.callback import read_callback
from fleek.providers.cog.inputs import Contract
from fleek.providers.cog.wire import Wire
from strangers import ANYTHING

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


async def sent(content: bytes) -> AsyncIterator[bytes]:
    """Give a body as a server sends it: it can be read once."""
    yield content


@given(body=BODIES, status=STATUSES)
async def test_any_answer_is_understood_or_refused(body: Any, status: int) -> None:
    """By every reader of one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=sent(content)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://cog.test/") as http:
        wire = Wire(http)
        questions = [
            wire.contract(),
            wire.order(ID, {"input": {}}),
            wire.hold(ID, {"input": {}}),
            wire.look(ID),
            wire.stop(ID),
        ]

        for question in questions:
            try:
                told = await question
            except FleekError as error:
                told = None
                str(error).encode()

            assert told is None or isinstance(told, Contract | Prediction | bool)
            if isinstance(told, Prediction):
                json.dumps(dict(told.metrics), allow_nan=False).encode()
            if isinstance(told, Prediction) and isinstance(told.outcome, Failed):
                assert told.outcome.message.isprintable()


@given(body=BODIES)
async def test_any_message_is_understood_or_refused(body: Any) -> None:
    """It comes from whoever knows its address."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    try:
        told = await read_callback({}, content, token=None)
    except CallbackRejected as error:
        str(error).encode()
    else:
        assert told.final
