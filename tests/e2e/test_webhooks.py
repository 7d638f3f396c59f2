"""Webhooks after kills: none is lost, and repetitions are identical."""

import sqlite3
from collections.abc import Generator
from contextlib import closing

import pytest
from standardwebhooks import Webhook

from collecting import Collector, collecting
from service_process import SMALL, Service, until

ALLOWING = {"SSRF_ALLOW_CIDRS": "127.0.0.0/8", "WEBHOOK_ALLOW_HTTP": "true"}
NOT_RECORDED = "SELECT count(*) FROM deliveries WHERE state = 'pending' AND attempts = 0"
ENDED = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"


@pytest.fixture
def receiver() -> Generator[Collector]:
    """Run a receiver that accepts every delivery."""
    with collecting() as opened:
        yield opened


def end_leases(service: Service) -> None:
    """Expire the leases of a minute, after which unrecorded deliveries are repeated."""
    with closing(sqlite3.connect(service.folder / "fleek.db")) as database, database:
        database.execute("UPDATE deliveries SET next_at = created_at WHERE state = 'pending'")


def test_a_kill_between_the_send_and_its_record(service: Service, receiver: Collector) -> None:
    """The receiver gets it again, with the same id and bytes and a new signature."""
    service.env.update(ALLOWING)
    process = service.serve(FLEEK_FAILPOINTS="deliver.sent=kill")
    job_id = service.submit(parameters=SMALL, webhook_url=receiver.url)
    process.wait()
    assert len(receiver.received) == 1
    end_leases(service)

    service.serve()

    receiver.wait_for(2)
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    assert second.event["data"]["id"] == job_id
    secret = service.http.get("/api/v1/webhooks/secret").json()["secret"]
    for received in receiver.received:
        assert Webhook(secret).verify(received.body, received.headers)
    until(lambda: service.rows(ENDED) == [(1,)], why=service.tails)
    delivery = service.http.get(f"/api/v1/webhooks/deliveries/{first.id}").json()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)


def test_a_kill_between_the_commit_and_the_send(service: Service, receiver: Collector) -> None:
    """Deliveries are in the commit of their event, so the next process sends them."""
    service.env.update(ALLOWING)
    process = service.serve(FLEEK_FAILPOINTS="completed.written=kill")
    created = service.http.post(
        "/api/v1/webhooks/endpoints", json={"url": receiver.url, "events": ["job.completed"]}
    )
    assert created.status_code == 201, created.text
    job_id = service.submit(parameters=SMALL)
    process.wait()
    assert receiver.received == []
    assert service.rows(NOT_RECORDED) == [(1,)]

    service.serve()

    receiver.wait_for(1)
    (received,) = receiver.received
    assert (received.type, received.event["data"]["id"]) == ("job.completed", job_id)
    assert Webhook(created.json()["secret"]).verify(received.body, received.headers)
