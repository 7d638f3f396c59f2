"""Batches in both clients: requests and results."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fleek import Client, InvalidInput
from fleek.domain.job import Status

ID = "0198f000-0000-7000-8000-000000000001"
BASE = f"http://fleek.test/api/v1/batches/{ID}"
COUNTS = dict.fromkeys(("pending", "processing", "completed", "failed", "cancelled"), 0)
BATCH: dict[str, Any] = {
    "id": ID,
    "status": "processing",
    "total": 2,
    "accepted": 2,
    "counts": {**COUNTS, "pending": 2},
    "created_at": "2026-01-02T03:04:05Z",
    "cancelled_at": None,
    "links": dict.fromkeys(("self", "jobs", "events", "outputs", "cancel", "retry"), BASE),
}
ENDED = {**BATCH, "status": "ended", "counts": {**COUNTS, "completed": 2}}


def test_a_batch_is_sent_with_one_key_however_often(client: Client, server: Any) -> None:
    """As JSON Lines; a retry of the request is the same batch."""
    server.script = [
        httpx2.Response(503, json={"code": "overloaded", "detail": "later"}),
        httpx2.Response(201, json=BATCH),
        httpx2.Response(201, json=BATCH),
    ]

    made = client.batches.create([{"prompt": "A cat"}, {"prompt": "A dog", "model": None}])
    client.batches.create_grid({"prompt": "A cat"}, {"seed": range(2)}, idempotency_key="mine")

    first, again, grid = server.requests
    assert str(made.id) == ID
    assert first.headers["content-type"] == "application/jsonl"
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert [json.loads(line) for line in again.content.splitlines()] == [
        {"prompt": "A cat"},
        {"prompt": "A dog"},
    ]
    assert grid.headers["idempotency-key"] == "mine"
    assert json.loads(grid.content) == {"request": {"prompt": "A cat"}, "grid": {"seed": [0, 1]}}


def test_a_batch_is_followed_and_saved(client: Client, server: Any, tmp_path: Path) -> None:
    """The archive appears complete, under its id."""
    server.script = [
        httpx2.Response(200, json=BATCH),
        httpx2.Response(200, json=ENDED),
        httpx2.Response(200, content=b"archive"),
        httpx2.Response(202, json={}),
        httpx2.Response(202, json={}),
        httpx2.Response(200, json=[ENDED]),
    ]
    seen: list[str] = []

    ended = client.batches.wait(ID, on_update=lambda batch: seen.append(batch.status.value))
    path = client.batches.download(ID, tmp_path)
    client.batches.retry(ID)
    client.batches.cancel(ID)
    (listed,) = client.batches.list()

    assert seen == ["processing", "ended"]
    assert ended.counts[Status.COMPLETED] == 2
    assert (path, path.read_bytes()) == (tmp_path / f"{ID}.zip", b"archive")
    assert listed == ended
    assert [(one.method, one.url.path.rpartition("/")[2]) for one in server.requests[2:]] == [
        ("GET", "outputs.zip"),
        ("POST", "retry"),
        ("POST", "cancel"),
        ("GET", "batches"),
    ]


def test_an_id_is_checked_before_it_is_sent(client: Client, server: Any) -> None:
    """It is a part of the address."""
    with pytest.raises(InvalidInput):
        client.batches.get("../jobs")

    assert server.requests == []
