"""The OpenAPI description of webhooks matches the deliveries."""

import json

import httpx2
import jsonschema_rs
from uuid_utils.compat import uuid4

from fleek.domain.job import AttemptId
from fleek.domain.webhooks import DISABLED_EVENT, TEST_EVENT
from fleek.schemas import Addresses
from fleek.schemas.events import PUBLIC, EventPresenter
from samples import a_file, a_job


async def test_every_event_is_described_as_it_is_sent(client: httpx2.AsyncClient) -> None:
    """Receivers are generated from it."""
    presenter = EventPresenter(Addresses("http://fleek.test", "http://fleek.test/media"))
    job = a_job(attempt_id=AttemptId(uuid4()))

    document = (await client.get("/openapi.json")).json()
    bodies = {PUBLIC[line].value: presenter.body(line, job, [a_file(job)]) for line in PUBLIC}

    assert set(document["webhooks"]) == {*bodies, DISABLED_EVENT, TEST_EVENT}
    for kind, body in bodies.items():
        operation = document["webhooks"][kind]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        validator = jsonschema_rs.validator_for({**schema, "components": document["components"]})
        assert [str(error) for error in validator.iter_errors(json.loads(body))] == []
        assert not validator.is_valid({**json.loads(body), "type": "job.done"})
        assert operation["description"]


async def test_operations_and_webhooks_have_different_names(client: httpx2.AsyncClient) -> None:
    """Generators create functions from both."""
    document = (await client.get("/openapi.json")).json()

    names = [
        operation["operationId"]
        for part in ("paths", "webhooks")
        for item in document[part].values()
        for operation in item.values()
    ]

    assert len(names) == len(set(names))
