"""Filtered lists over HTTP, and the fields by which callers organise their jobs."""

import base64
import json
from typing import Any, Final

import httpx2
import pytest

from fleek.domain.job import Job, Status
from fleek.engine.runtime import Runtime

GENERATE: Final = "/api/v1/generate"


async def created(client: httpx2.AsyncClient, **fields: Any) -> str:
    """Create a job and return its id."""
    answer = await client.post(GENERATE, json={"prompt": "x"} | fields)
    assert answer.status_code == 201
    job_id: str = answer.json()["id"]
    return job_id


async def listed(client: httpx2.AsyncClient, query: str) -> list[str]:
    """Return the ids of the first page of a list."""
    answer = await client.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()]


async def test_a_list_can_be_filtered_by_several_statuses(
    client: httpx2.AsyncClient, make: Any
) -> None:
    """With both names of the parameter."""
    failed = await make(Status.FAILED)
    cancelled = await make(Status.CANCELLED)
    await make()

    both = [str(cancelled.id), str(failed.id)]
    assert await listed(client, "status=failed&status=cancelled") == both
    assert await listed(client, "status_filter=failed&status_filter=cancelled") == both
    assert await listed(client, "status=failed") == [str(failed.id)]


async def test_a_list_can_be_filtered_by_fields_of_the_request(client: httpx2.AsyncClient) -> None:
    """Tags, models, providers, times and favourites, alone and combined."""
    sea = await created(
        client,
        prompt="A stormy cat",
        tags=["sea", "storm"],
        model_name="black-forest-labs/flux-dev",
    )
    calm = await created(client, prompt="A calm cat", tags=["sea"])
    await client.patch(f"/api/v1/jobs/{calm}", json={"favourite": True})
    created_at = (await client.get(f"/api/v1/jobs/{calm}")).json()["created_at"]

    for query, expected in {
        "tag=sea": [calm, sea],
        "tag=storm": [sea],
        "tag=sea&order=oldest": [sea, calm],
        "tag=nowhere": [],
        "model=black-forest-labs/flux-dev": [sea],
        "provider=placeholder&tag=storm": [sea],
        "favourite=true": [calm],
        "q=STORMY+cat": [sea],
        "q=cat&tag=sea&order=oldest": [sea, calm],
        "favourite=false": [sea],
        f"created_after={created_at}&tag=sea&favourite=true": [calm],
        "created_before=2020-01-01T00:00:00Z": [],
    }.items():
        assert await listed(client, query) == expected, query


async def test_the_cursor_contains_the_filter(client: httpx2.AsyncClient) -> None:
    """It is enough alone, and is refused together with another filter."""
    first = await created(client, tags=["sea"])
    await created(client)
    await created(client, tags=["sea"])

    page = await client.get("/api/v1/jobs?tag=sea&limit=1")
    address = page.links["next"]["url"]

    assert await listed(client, address.partition("?")[2]) == [first]
    assert await listed(client, address.partition("?")[2] + "&tag=sea") == [first]
    other = await client.get(address + "&tag=storm")
    assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "/cursor")


async def test_a_forged_cursor_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Its content is validated as strictly as the query itself."""
    for value in [
        {"after": "0" * 32, "zebra": 1},
        {"after": "0" * 32, "tag": "x" * 65},
        {"after": 5},
        {"tag": "sea"},
        {"after": "0" * 32, "order": "newest"},
        ["0" * 32],
        {"after": "0" * 32, "created_after": "yesterday"},
    ]:
        with subtests.test(value=str(value)[:40]):
            cursor = base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

            answer = await client.get(f"/api/v1/jobs?cursor={cursor}")

            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/cursor")


async def test_the_jobs_are_counted_on_request(client: httpx2.AsyncClient) -> None:
    """For clients that show the number of pages."""
    for _ in range(3):
        await created(client, tags=["sea"])
    await created(client)

    counted = await client.get("/api/v1/jobs?tag=sea&limit=1&count=true")
    uncounted = await client.get("/api/v1/jobs?tag=sea&limit=1")

    assert counted.headers["x-total-count"] == "3"
    assert "x-total-count" not in uncounted.headers


async def test_days_are_listed(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """In UTC, with the same filters."""
    await created(client, tags=["sea"])
    await created(client)

    answer = await client.get("/api/v1/jobs/days?tag=sea")

    assert answer.json() == [{"day": rt.now().date().isoformat(), "jobs": 1}]


async def test_an_invalid_filter_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Nothing is guessed."""
    for query, pointer in [
        ("favourite=1", "/favourite"),
        ("created_after=yesterday", "/created_after"),
        ("created_after=2026-01-01T00:00:00", "/created_after"),
        ("order=random", "/order"),
        ("status=failed&status=lost", "/status"),
        ("model=../x", "/model"),
        ("tag=" + "x" * 65, "/tag"),
        ("offset=1&tag=sea&favourite=true", "/offset"),
        ("count=yes", "/count"),
        ("tag=a&tag=b", "/tag"),
        ("q=", "/q"),
        ("q=%3F!", "/q"),
        ("q=" + "a+" * 9, "/q"),
        ("q=" + "a" * 201, "/q"),
    ]:
        with subtests.test(query=str(query)[:40], pointer=str(pointer)[:40]):
            answer = await client.get(f"/api/v1/jobs?{query}")

            assert answer.status_code == 422
            (error,) = answer.json()["errors"]
            assert (error["location"], error["pointer"]) == ("query", pointer)


async def test_fields_of_the_caller_can_be_changed_in_any_state(
    client: httpx2.AsyncClient, make: Any
) -> None:
    """Omitted fields stay, and the history records the change."""
    job: Job = await make(Status.CANCELLED)
    address = f"/api/v1/jobs/{job.id}"

    first = await client.patch(address, json={"favourite": True, "tags": ["b", "a", "b"]})
    second = await client.patch(address, json={"metadata": {"album": "sea"}})
    third = await client.patch(address, json={})

    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 200]
    changed = (await client.get(address)).json()
    assert (changed["favourite"], changed["tags"]) == (True, ["b", "a"])
    assert changed["metadata"] == {"album": "sea"}
    assert changed["status"] == "cancelled"
    assert changed == second.json() == third.json()


async def test_other_fields_cannot_be_changed(
    client: httpx2.AsyncClient, make: Any, subtests: pytest.Subtests
) -> None:
    """The request of a job is immutable."""
    for body, pointer in [
        ({"favourite": None}, "/favourite"),
        ({"favourite": "true"}, "/favourite"),
        ({"tags": "sea"}, "/tags"),
        ({"tags": [""]}, "/tags"),
        ({"tags": ["x" * 65]}, "/tags"),
        ({"tags": ["a\nb"]}, "/tags"),
        ({"tags": [str(number) for number in range(17)]}, "/tags"),
        ({"metadata": {"a": "x" * 5000}}, "/metadata"),
        ({"prompt": "another"}, "/prompt"),
        ({"favorite": True}, "/favorite"),
    ]:
        with subtests.test(body=str(body)[:40], pointer=str(pointer)[:40]):
            job: Job = await make()

            answer = await client.patch(f"/api/v1/jobs/{job.id}", json=body)

            assert answer.status_code == 422
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_retry_keeps_the_tags(client: httpx2.AsyncClient, make: Any) -> None:
    """It is the same request."""
    job: Job = await make(Status.CANCELLED)
    await client.patch(f"/api/v1/jobs/{job.id}", json={"tags": ["sea"], "favourite": True})

    retried = (await client.post(f"/api/v1/jobs/{job.id}/retry")).json()

    assert (retried["tags"], retried["favourite"]) == (["sea"], False)
    assert await listed(client, "tag=sea") == [retried["id"], str(job.id)]
