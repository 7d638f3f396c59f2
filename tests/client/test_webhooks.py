"""Webhooks in both clients: requests and results."""

import json
from typing import Any

import httpx2
import pytest

from fleek import Client, Conflict, InvalidInput, ResponseLost
from fleek.domain.webhooks import DeliveryState

ID = "0198f000-0000-7000-8000-000000000001"
MESSAGE = "msg_0198f000000070008000000000000002"
MOMENT = "2026-01-02T03:04:05Z"
BASE = "http://fleek.test/api/v1/webhooks"
ENDPOINT: dict[str, Any] = {
    "id": ID,
    "url": "https://example.com/hook",
    "events": ["job.failed"],
    "description": "",
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "created_at": MOMENT,
}
DELIVERY: dict[str, Any] = {
    **dict.fromkeys(("receiver", "job_id", "next_at", "last_status", "last_reason", "ended_at")),
    "id": MESSAGE,
    "type": "job.failed",
    "endpoint_id": ID,
    "state": "pending",
    "attempts": 0,
    "created_at": MOMENT,
}


def sent(server: Any) -> list[tuple[str, str]]:
    """Return method and address of each request."""
    return [(request.method, str(request.url)) for request in server.requests]


def test_an_endpoint_is_created_changed_and_deleted(client: Client, server: Any) -> None:
    """None is not sent."""
    server.script = [
        httpx2.Response(201, json={**ENDPOINT, "secret": "whsec_x"}),
        httpx2.Response(200, json=[ENDPOINT]),
        httpx2.Response(200, json={**ENDPOINT, "enabled": False}),
        httpx2.Response(200, json=ENDPOINT),
    ]

    made = client.webhooks.create("https://example.com/hook", events=["job.failed"])
    listed = client.webhooks.endpoints()
    changed = client.webhooks.update(made.id, enabled=False)
    client.webhooks.delete(made.id)

    assert (made.secret, str(listed[0].id), changed.enabled) == ("whsec_x", ID, False)
    assert sent(server) == [
        ("POST", f"{BASE}/endpoints"),
        ("GET", f"{BASE}/endpoints"),
        ("PATCH", f"{BASE}/endpoints/{ID}"),
        ("DELETE", f"{BASE}/endpoints/{ID}"),
    ]
    bodies = [json.loads(server.requests[index].content) for index in (0, 2)]
    assert bodies == [
        {"url": "https://example.com/hook", "events": ["job.failed"]},
        {"enabled": False},
    ]


def test_secrets_are_read_and_rotated(client: Client, server: Any) -> None:
    """Those of an endpoint, and of the URLs of jobs."""
    server.script = [httpx2.Response(200, json={"secret": f"whsec_{n}"}) for n in range(2)]

    assert client.webhooks.secret() == "whsec_0"
    assert client.webhooks.rotate(ID) == "whsec_1"
    assert sent(server) == [("GET", f"{BASE}/secret"), ("POST", f"{BASE}/endpoints/{ID}/rotate")]


def test_a_rotation_is_not_retried(client: Client, server: Any) -> None:
    """A second one would end the secret that still signs."""
    server.script = [httpx2.ReadError("cut")]

    with pytest.raises(ResponseLost):
        client.webhooks.rotate(ID)

    assert len(server.requests) == 1


def test_deliveries_are_listed_page_by_page(client: Client, server: Any) -> None:
    """With their filter; an empty page may be followed by others."""
    link = {"link": f'<{BASE}/deliveries?state=failed&cursor={MESSAGE}>; rel="next"'}
    server.script = [
        httpx2.Response(200, json=[], headers=link),
        httpx2.Response(200, json=[DELIVERY]),
    ]

    found = list(client.webhooks.deliveries(state=DeliveryState.FAILED, endpoint=ID))

    assert [one.id for one in found] == [MESSAGE]
    assert [str(request.url.params) for request in server.requests] == [
        f"limit=100&endpoint={ID}&state=failed",
        f"limit=100&endpoint={ID}&state=failed&cursor={MESSAGE}",
    ]


def test_a_delivery_is_tested_read_and_replayed(client: Client, server: Any) -> None:
    """Its log has a reason for each attempt."""
    attempt = {"number": 1, "at": MOMENT, "seconds": 0.1, "status": 500, "reason": "refused"}
    server.script = [
        httpx2.Response(202, json=DELIVERY),
        httpx2.Response(200, json={**DELIVERY, "body": "{}", "log": [attempt]}),
        httpx2.Response(409, json={"code": "endpoint_disabled", "detail": "enable it first"}),
    ]

    tested = client.webhooks.test(ID)
    read = client.webhooks.delivery(tested.id)
    with pytest.raises(Conflict) as refused:
        client.webhooks.replay(tested.id)

    assert (read.body, read.log[0].reason) == ("{}", "refused")
    assert refused.value.code == "endpoint_disabled"


@pytest.mark.parametrize("wrong", ["x", "../jobs", ID, "msg_1"])
def test_an_invalid_id_is_refused_and_not_sent(client: Client, server: Any, wrong: str) -> None:
    """It would become part of an address."""
    with pytest.raises(InvalidInput):
        client.webhooks.delivery(wrong)

    assert server.requests == []


def test_a_job_may_have_a_webhook(client: Client, server: Any, a_job: Any) -> None:
    """With its events."""
    server.script = [httpx2.Response(201, json=a_job())]

    client.submit("a cat", webhook_url="https://example.com/", webhook_events=["job.started"])

    assert json.loads(server.requests[0].content) == {
        "prompt": "a cat",
        "webhook_url": "https://example.com/",
        "webhook_events": ["job.started"],
    }
