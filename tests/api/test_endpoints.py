"""Endpoints of webhooks and the log of their deliveries over HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from standardwebhooks import Webhook
from uuid_utils.compat import uuid7

from fleek.bootstrap import webhook_policy
from fleek.domain.webhooks import Delivery, DeliveryId, DeliveryState, Endpoint, EndpointId
from fleek.engine.deliver import DeliveryLoop
from fleek.engine.runtime import Runtime
from fleek.outbound.client import Client
from fleek.settings import Settings
from fleek.store import delivery_log, endpoints
from fleek.store.delivery_log import LOOKED_AT
from fleek.store.owed import INSERT_DELIVERIES
from receivers import OK, receiving, status

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

ENDPOINTS = "/api/v1/webhooks/endpoints"
DELIVERIES = "/api/v1/webhooks/deliveries"
HOOK = "https://example.com/hook?token=t"
KNOWN = "0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"


@pytest.fixture
async def reaching(rt: Runtime) -> AsyncGenerator[Runtime]:
    """Return a runtime whose operator allows receivers on this machine."""
    allowing = Settings(ssrf_allow_cidrs=("127.0.0.0/8",), webhook_allow_http=True)
    client = Client(webhook_policy(allowing))
    yield replace(rt, webhooks=client)
    await client.close()


@pytest.fixture
async def http(reaching: Runtime, client_of: ClientOf) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client of an application on that runtime."""
    async with client_of(reaching) as opened:
        yield opened


async def delivered(rt: Runtime) -> None:
    """Send all deliveries that are due, like the coordinator."""
    deliveries = DeliveryLoop(rt)
    await deliveries.turn()
    while deliveries._running:
        await asyncio.gather(*deliveries._running)
        await deliveries.turn()


async def created(client: httpx2.AsyncClient, url: str = HOOK, **fields: Any) -> Any:
    """Create an endpoint."""
    answer = await client.post(ENDPOINTS, json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def cancelled(client: httpx2.AsyncClient) -> str:
    """End a job, and return its id."""
    job_id = str((await client.post("/api/v1/generate", json={"prompt": "A cat"})).json()["id"])
    await client.post(f"/api/v1/jobs/{job_id}/cancel")
    return job_id


async def test_an_endpoint_is_created_read_changed_and_deleted(client: httpx2.AsyncClient) -> None:
    """Its secret is returned once."""
    answer = await client.post(ENDPOINTS, json={"url": HOOK, "description": "shop"})
    made = answer.json()
    secret = made.pop("secret")
    place = urlsplit(answer.headers["location"]).path

    read = await client.get(place)
    listed = await client.get(ENDPOINTS)
    changed = await client.patch(place, json={"events": ["job.started"], "enabled": False})
    deleted = await client.delete(place)
    after = await client.get(place)

    assert answer.status_code == 201
    assert secret.startswith("whsec_")
    assert made["events"] == ["job.completed", "job.failed", "job.cancelled"]
    assert read.json() == made
    assert listed.json() == [made]
    assert changed.json() == {**made, "events": ["job.started"], "enabled": False}
    assert deleted.json() == changed.json()
    assert after.status_code == 404


async def test_an_unsafe_address_is_refused_when_it_is_saved(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """At creation and at a change, with the field but without the address."""
    place = f"{ENDPOINTS}/{(await created(client))['id']}"
    for url, reason in [
        ("http://example.com/", "https://"),
        ("https://127.0.0.1/", "IP address"),
        ("https://[::1]/", "IP address"),
        ("https://169.254.169.254/latest/meta-data", "IP address"),
        ("https://localhost/", "domain"),
        ("https://user:pw@example.com/", "no user"),
        ("https://example.com:22/", "port"),
        ("ftp://example.com/", "https://"),
        ("example.com", "host"),
        ("", "host"),
        ("https://example.com/\u00e4", "characters"),
    ]:
        with subtests.test(url=str(url)[:40], reason=str(reason)[:40]):
            answers = [
                await client.post(ENDPOINTS, json={"url": url}),
                await client.patch(place, json={"url": url}),
            ]

            for answer in answers:
                assert answer.status_code == 422
                assert answer.json()["code"] == "unsafe_url"
                (field,) = answer.json()["errors"]
                assert (field["pointer"], field["code"]) == ("/url", "unsafe_url")
                assert reason in field["detail"]
                assert "example.com" not in answer.text
            assert len((await client.get(ENDPOINTS)).json()) == 1


async def test_an_invalid_endpoint_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """The error names the field, and nothing is stored."""
    for body, pointer in [
        ({}, "/url"),
        ({"url": 5}, "/url"),
        ({"url": HOOK, "events": []}, "/events"),
        ({"url": HOOK, "events": ["job.done"]}, "/events/0"),
        ({"url": HOOK, "events": "job.failed"}, "/events"),
        ({"url": HOOK, "description": "x" * 501}, "/description"),
        ({"url": HOOK, "secret": "whsec_mine"}, "/secret"),
        ({"url": HOOK, "tenant_id": "other"}, "/tenant_id"),
        ({"url": HOOK + "x" * 2048}, "/url"),
    ]:
        with subtests.test(body=str(body)[:40], pointer=str(pointer)[:40]):
            answer = await client.post(ENDPOINTS, json=body)

            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == pointer
            assert (await client.get(ENDPOINTS)).json() == []


async def test_the_number_of_endpoints_is_limited(client: httpx2.AsyncClient) -> None:
    """Each costs a row per event; a deleted one frees its place."""
    made = [await created(client) for _ in range(20)]

    refused = await client.post(ENDPOINTS, json={"url": HOOK})
    await client.delete(f"{ENDPOINTS}/{made[0]['id']}")
    accepted = await client.post(ENDPOINTS, json={"url": HOOK})

    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_endpoints")
    assert accepted.status_code == 201


async def test_foreign_endpoints_are_not_found(rt: Runtime, client: httpx2.AsyncClient) -> None:
    """On every route the response equals that for an unknown id."""
    foreign = Endpoint(
        id=EndpointId(uuid7()),
        tenant_id="other",
        url=HOOK,
        events=("job.failed",),
        created_at=rt.now(),
    )
    delivery = Delivery(
        id=DeliveryId(uuid7()),
        tenant_id="other",
        lane=foreign.id,
        endpoint_id=foreign.id,
        type="job.failed",
        body=b"{}",
        created_at=rt.now(),
        next_at=rt.now(),
    )
    await endpoints.insert_endpoint(rt.db, foreign, "whsec_x")
    await delivery_log.add(rt.db, delivery)
    lines = [
        *("GET endpoints/{}", "PATCH endpoints/{}", "DELETE endpoints/{}"),
        *("POST endpoints/{}/rotate", "POST endpoints/{}/test"),
        *("GET deliveries/msg_{}", "POST deliveries/msg_{}/replay"),
    ]

    for line in lines:
        method, path = line.split()
        answers = []
        for known in (foreign.id if "endpoints" in path else delivery.id, uuid7()):
            target = "/api/v1/webhooks/" + path.format(
                known.hex if "deliveries" in path else str(known)
            )
            json = {"enabled": True} if method == "PATCH" else None
            answer = await client.request(method, target, json=json)
            answers.append((answer.status_code, answer.json()["code"], answer.json()["detail"]))
        assert answers[0] == answers[1], line
        assert answers[0][0] == 404
    assert (await client.get(ENDPOINTS)).json() == []
    for query in ("", f"?endpoint={foreign.id}", "?state=pending"):
        listed = await client.get(DELIVERIES + query)
        assert (listed.json(), "link" in listed.headers) == ([], False)


async def test_events_are_sent_to_subscribed_endpoints(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """Signed with the endpoint's own secret."""
    async with receiving() as first, receiving() as second:
        secret = (await created(http, first.url, events=["job.created", "job.cancelled"]))[
            "secret"
        ]
        await created(http, second.url, events=["job.completed"])

        await cancelled(http)
        await delivered(reaching)

        assert first.types == ["job.created", "job.cancelled"]
        assert second.received == []
    for received in first.received:
        assert Webhook(secret).verify(received.body, received.headers)


async def test_after_a_rotation_both_secrets_sign(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """A further rotation ends the older one."""
    async with receiving() as receiver:
        made = await created(http, receiver.url)
        place = f"{ENDPOINTS}/{made['id']}"
        second = (await http.post(f"{place}/rotate")).json()["secret"]
        await http.post(f"{place}/test")
        await delivered(reaching)
        third = (await http.post(f"{place}/rotate")).json()["secret"]
        await http.post(f"{place}/test")
        await delivered(reaching)

        one, two = receiver.received
    assert len({made["secret"], second, third}) == 3
    for secret in (made["secret"], second):
        assert Webhook(secret).verify(one.body, one.headers)
    for secret in (second, third):
        assert Webhook(secret).verify(two.body, two.headers)
    assert len(two.headers["webhook-signature"].split()) == 2


async def test_the_secret_for_job_urls_is_rotated_the_same_way(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """It can leak, too."""
    old = (await http.get("/api/v1/webhooks/secret")).json()["secret"]

    new = (await http.post("/api/v1/webhooks/secret/rotate")).json()["secret"]

    assert (await http.get("/api/v1/webhooks/secret")).json()["secret"] == new
    async with receiving() as receiver:
        body = {"prompt": "A cat", "webhook_url": receiver.url, "webhook_events": ["job.created"]}
        await http.post("/api/v1/generate", json=body)
        await delivered(reaching)
        (received,) = receiver.received
    for secret in (old, new):
        assert Webhook(secret).verify(received.body, received.headers)


@pytest.mark.parametrize(
    ("answer", "state", "outcome"),
    [
        (OK, "delivered", "204 delivered"),
        (status(500), "failed", "500 refused"),
        (status(410), "failed", "410 gone"),
        (status(302, location="http://127.0.0.1/"), "failed", "302 redirected"),
    ],
)
async def test_a_test_event_returns_its_result(
    reaching: Runtime, http: httpx2.AsyncClient, answer: bytes, state: str, outcome: str
) -> None:
    """It is sent once, disables no endpoint and counts as no outage."""
    async with receiving(answer) as receiver:
        place = f"{ENDPOINTS}/{(await created(http, receiver.url))['id']}"

        accepted = await http.post(f"{place}/test")
        await delivered(reaching)

        read = (await http.get(urlsplit(accepted.headers["location"]).path)).json()
        (received,) = receiver.received
    endpoint = (await http.get(place)).json()
    assert accepted.status_code == 202
    assert accepted.json()["state"] == "pending"
    assert received.type == "webhook.test"
    assert (read["state"], read["attempts"]) == (state, 1)
    assert f"{read['last_status']} {read['last_reason'].partition(':')[0]}" == outcome
    assert read["body"].encode() == received.body
    assert [(one["number"], one["status"]) for one in read["log"]] == [(1, read["last_status"])]
    assert (endpoint["enabled"], endpoint["failing_since"]) == (True, None)


async def test_a_disabled_endpoint_can_be_tested(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """It is repaired and tested before it is enabled again."""
    async with receiving() as receiver:
        place = f"{ENDPOINTS}/{(await created(http, receiver.url))['id']}"
        await http.patch(place, json={"enabled": False})

        await http.post(f"{place}/test")
        await delivered(reaching)

        assert receiver.types == ["webhook.test"]


async def test_a_test_event_reports_a_refused_address(
    rt: Runtime, reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """The same policy decides at the save, at the test and at each attempt."""
    async with receiving() as receiver:
        place = f"{ENDPOINTS}/{(await created(http, receiver.url))['id']}"
        tested = await http.post(f"{place}/test")

        await delivered(replace(reaching, webhooks=rt.webhooks))

        assert receiver.received == []
    read = (await http.get(urlsplit(tested.headers["location"]).path)).json()
    assert (read["state"], read["last_status"]) == ("failed", None)
    assert read["last_reason"].startswith("blocked: ")


async def test_a_test_event_uses_the_current_policy(
    client: httpx2.AsyncClient, http: httpx2.AsyncClient
) -> None:
    """An address that would be refused now is refused, although it was saved before."""
    made = await created(http, "http://127.0.0.1:1/")

    answer = await client.post(f"{ENDPOINTS}/{made['id']}/test")

    assert (answer.status_code, answer.json()["code"]) == (422, "unsafe_url")


@pytest.mark.parametrize(
    ("networks", "plain", "url", "accepted"),
    [
        ("127.0.0.0/8", True, "http://127.0.0.1:9/", True),
        ("127.0.0.0/8", True, "http://n8n:5678/hook", True),
        ("127.0.0.0/8", False, "http://127.0.0.1:9/", False),
        ("127.0.0.0/8", False, "https://127.0.0.1:9/", True),
        ("10.0.0.0/8", True, "http://127.0.0.1:9/", False),
        ("0.0.0.0/0,::/0", True, "http://169.254.169.254/", False),
        ("0.0.0.0/0,::/0", True, "http://[fd00:ec2::254]/", False),
        ("0.0.0.0/0,::/0", True, "http://[::ffff:169.254.169.254]/", False),
        ("0.0.0.0/0", True, "http://2852039166/", False),
        ("", False, "https://10.0.0.1/", False),
    ],
)
async def test_private_receivers_need_the_operator_s_permission(
    rt: Runtime, client_of: ClientOf, networks: str, url: str, *, plain: bool, accepted: bool
) -> None:
    """By network, over http only if allowed, and never for metadata services."""
    listed = tuple(filter(None, networks.split(",")))
    allowing = Settings(ssrf_allow_cidrs=listed, webhook_allow_http=plain)
    async with client_of(replace(rt, webhooks=Client(webhook_policy(allowing)))) as client:
        answer = await client.post(ENDPOINTS, json={"url": url})

    assert answer.status_code == (201 if accepted else 422)


async def test_a_delivery_is_replayed_with_the_same_id_and_bytes(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """In any state; its attempts are numbered on."""
    async with receiving() as receiver:
        await created(http, receiver.url)
        await cancelled(http)
        await delivered(reaching)
        (delivery,) = (await http.get(DELIVERIES)).json()
        place = f"{DELIVERIES}/{delivery['id']}"

        replayed = await http.post(f"{place}/replay")
        await delivered(reaching)

        first, second = receiver.received
    read = (await http.get(place)).json()
    assert (replayed.status_code, replayed.json()["state"]) == (202, "pending")
    assert delivery["id"] == first.id == second.id
    assert first.body == second.body
    assert [one["number"] for one in read["log"]] == [1, 2]
    assert read["state"] == "delivered"


@pytest.mark.parametrize("gone", [True, False])
async def test_a_replay_to_a_missing_endpoint_is_refused(
    reaching: Runtime, http: httpx2.AsyncClient, *, gone: bool
) -> None:
    """The error comes at once, not in the log."""
    async with receiving() as receiver:
        endpoint = f"{ENDPOINTS}/{(await created(http, receiver.url))['id']}"
        await cancelled(http)
        await delivered(reaching)
    (delivery,) = (await http.get(DELIVERIES)).json()
    if gone:
        await http.delete(endpoint)
    else:
        await http.patch(endpoint, json={"enabled": False})

    answer = await http.post(f"{DELIVERIES}/{delivery['id']}/replay")

    code = "endpoint_deleted" if gone else "endpoint_disabled"
    assert (answer.status_code, answer.json()["code"]) == (409, code)


async def test_pending_deliveries_of_a_deleted_endpoint_fail(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """The log contains the reason."""
    async with receiving() as receiver:
        endpoint = await created(http, receiver.url)
        await cancelled(http)
        await http.delete(f"{ENDPOINTS}/{endpoint['id']}")

        await delivered(reaching)

        assert receiver.received == []
    (delivery,) = (await http.get(DELIVERIES)).json()
    assert (delivery["state"], delivery["last_reason"]) == ("failed", "endpoint_deleted")


async def test_deliveries_are_listed_by_filters_and_in_pages(
    reaching: Runtime, http: httpx2.AsyncClient
) -> None:
    """Newest first; each page links to the next one, with the filter."""
    async with receiving() as works, receiving(status(410)) as broken:
        good = await created(http, works.url)
        await created(http, broken.url)
        job_ids = [await cancelled(http) for _ in range(3)]
        await delivered(reaching)
    body = {"prompt": "A cat", "webhook_url": HOOK, "webhook_events": ["job.created"]}
    await http.post("/api/v1/generate", json=body)

    async def found(query: str) -> list[Any]:
        answer = await http.get(f"{DELIVERIES}?{query}")
        assert answer.status_code == 200, answer.text
        listed: list[Any] = answer.json()
        while "next" in answer.links:
            parts = urlsplit(answer.links["next"]["url"])
            answer = await http.get(f"{parts.path}?{parts.query}")
            assert 0 < len(answer.json()) <= 2
            listed += answer.json()
        return listed

    all_of_them = await found("limit=2")
    assert [one["id"] for one in all_of_them] == sorted(
        (one["id"] for one in all_of_them), reverse=True
    )
    assert len(all_of_them) == 7
    newest = all_of_them[0]
    assert (newest["endpoint_id"], newest["receiver"]) == (None, "https://example.com")
    of_one = await found(f"limit=2&endpoint={good['id']}")
    assert [one["job_id"] for one in of_one] == job_ids[::-1]
    assert {one["state"] for one in of_one} == {"delivered"}
    of_job = await found(f"limit=2&job={job_ids[0]}")
    assert {one["endpoint_id"] for one in of_job} >= {good["id"]}
    assert len(of_job) == 2
    failed = await found("limit=2&state=failed")
    assert {one["last_reason"] for one in failed} == {"gone", "endpoint_disabled"}
    assert len(failed) == 3
    assert await found(f"state=failed&endpoint={good['id']}") == []
    assert [one["id"] for one in await found("state=pending")] == [newest["id"]]


async def test_an_invalid_query_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """A wrong result would be worse."""
    for query in [
        *("state=done", "state=", "limit=0", "limit=101", "limit=x", "endpoint=x", "job=1"),
        *("cursor=x", "cursor=msg_1", "endpoint=", "page=2", "state=failed&state=pending"),
        f"job={KNOWN}".replace("0198f", "0198F"),
    ]:
        with subtests.test(query=str(query)[:40]):
            answer = await client.get(f"{DELIVERIES}?{query}")

            assert answer.status_code == 422


async def test_an_invalid_id_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """An id has one spelling."""
    for path in [
        *(f"{ENDPOINTS}/x", f"{ENDPOINTS}/{KNOWN}".replace("-", "")),
        *(f"{DELIVERIES}/x", f"{DELIVERIES}/{KNOWN}", f"{DELIVERIES}/msg_{KNOWN}"),
    ]:
        with subtests.test(path=str(path)[:40]):
            answer = await client.get(path)

            assert answer.status_code == 422


async def test_a_page_reads_a_limited_number_of_rows(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """It may be empty although more follow: no list reads a million rows."""
    states = [DeliveryState.DELIVERED, *[DeliveryState.PENDING] * (LOOKED_AT + 1)]
    made = [
        Delivery(
            id=DeliveryId(uuid7()),
            tenant_id="default",
            lane=uuid7(),
            type="job.failed",
            body=b"{}",
            created_at=rt.now(),
            state=state,
        )
        for state in states
    ]
    async with rt.db.write() as tx:
        await INSERT_DELIVERIES.run(tx, made)

    first = await client.get(f"{DELIVERIES}?state=delivered")
    following = urlsplit(first.links["next"]["url"])
    second = await client.get(f"{following.path}?{following.query}")

    assert first.json() == []
    assert [one["id"] for one in second.json()] == [made[0].message_id]
    assert "next" not in second.links
