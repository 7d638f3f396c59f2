"""Bulk operations over HTTP: answered at once, with counters of their progress."""

from typing import Any, Final

import httpx2
import pytest
from uuid_utils.compat import uuid7

from fleek.domain.job import Job, Status
from fleek.engine.bulk import IDLE, BulkOperations
from fleek.engine.runtime import Runtime


async def work(rt: Runtime) -> None:
    """Run the coordinator's loop."""
    turns = BulkOperations(rt)
    while await turns.turn() < IDLE:
        pass


@pytest.mark.parametrize(
    ("action", "before"), [("cancel", Status.PENDING), ("purge", Status.FAILED)]
)
async def test_an_operation_is_accepted_and_can_be_followed(
    client: httpx2.AsyncClient, rt: Runtime, make: Any, action: str, before: Status
) -> None:
    """The first response contains the number of jobs, the last one the results."""
    job: Job = await make(before)
    body = {"filter": {"status": [before.value], "provider": "placeholder"}}

    accepted = await client.post(f"/api/v1/jobs/{action}", json=body)
    await work(rt)
    ended = await client.get(accepted.headers["location"])

    assert accepted.status_code == 202
    assert (accepted.json()["matched"], accepted.json()["ended_at"]) == (1, None)
    assert (ended.json()["action"], ended.json()["changed"]) == (action, 1)
    assert ended.json()["ended_at"] is not None
    seen = (await client.get(f"/api/v1/jobs/{job.id}")).json()
    assert (seen["status"] == "cancelled") == (action == "cancel")
    assert (seen["purged_at"] is not None) == (action == "purge")


async def test_failed_jobs_are_retried(client: httpx2.AsyncClient, rt: Runtime, make: Any) -> None:
    """Each of the given ids gets one new job."""
    made: list[Job] = [await make(Status.FAILED) for _ in range(2)]

    accepted = await client.post("/api/v1/jobs/retry", json={"ids": [str(job.id) for job in made]})
    await work(rt)

    ended = (await client.get(accepted.headers["location"])).json()
    assert (ended["matched"], ended["changed"]) == (2, 2)
    pending = (await client.get("/api/v1/jobs?status=pending")).json()
    assert len(pending) == 2


UNCLEAR: Final[list[tuple[dict[str, Any], str]]] = [
    ({}, ""),
    ({"ids": []}, "/ids"),
    ({"ids": ["x"]}, "/ids/0"),
    ({"ids": [str(uuid7())] * 1001}, "/ids"),
    ({"filter": {}, "ids": [str(uuid7())]}, ""),
    ({"filter": {"statusx": "failed"}}, "/filter/statusx"),
    ({"filter": {"status": "lost"}}, "/filter/status/0"),
    ({"filter": {"order": "oldest"}}, "/filter/order"),
    ({"status": "failed"}, "/status"),
]


@pytest.mark.parametrize(  # one validator: all of them once, and one for each other action
    ("action", "bodies"), [("purge", UNCLEAR), ("cancel", UNCLEAR[:1]), ("retry", UNCLEAR[:1])]
)
async def test_an_unclear_operation_is_refused(
    client: httpx2.AsyncClient,
    make: Any,
    action: str,
    bodies: list[tuple[dict[str, Any], str]],
    subtests: pytest.Subtests,
) -> None:
    """An empty request does not mean all jobs."""
    job: Job = await make()

    for body, pointer in bodies:
        with subtests.test(body=str(body)[:60]):
            answer = await client.post(f"/api/v1/jobs/{action}", json=body)

            assert answer.status_code == 422
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
            seen = (await client.get(f"/api/v1/jobs/{job.id}")).json()
            assert (seen["status"], seen["purged_at"]) == ("pending", None)


async def test_a_misspelt_condition_gets_a_suggestion(
    client: httpx2.AsyncClient,
) -> None:
    """With its place within the filter."""
    answer = await client.post("/api/v1/jobs/cancel", json={"filter": {"statusx": "failed"}})

    (error,) = answer.json()["errors"]
    assert error["suggestion"] == "/filter/status"


async def test_an_unknown_operation_is_not_found(client: httpx2.AsyncClient) -> None:
    """As with any other id."""
    answer = await client.get(f"/api/v1/operations/{uuid7()}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
