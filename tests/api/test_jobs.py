"""Version 1 of the API: single jobs."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from fleek.domain.job import TERMINAL, Job, JobError, Stage, State, Status
from fleek.engine.runtime import Runtime
from fleek.schemas.read import seed_of
from fleek.settings import Settings

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

UNKNOWN = "0198f000-0000-7000-8000-000000000000"
FIELDS = {
    *("id", "prompt", "model_name", "provider", "parameters", "status", "progress"),
    *("queue_position", "priority", "created_at", "updated_at", "run_at", "started_at"),
    *(
        "completed_at",
        "purged_at",
        "stage",
        "attempt",
        "retry_of",
        "retry_count",
        "max_attempts",
        "error_code",
        "error_message",
        "retrying",
    ),
    *(
        "result_url",
        "file_size",
        "outputs",
        "external_job_id",
        "kind",
        "seed",
        "seconds",
        "max_cost",
        "estimate",
        "cost",
        "metadata",
        "route",
        "favourite",
        "tags",
        "reused_from",
        "batch_id",
        "batch_index",
        "links",
    ),
}


async def test_a_job_is_accepted(client: httpx2.AsyncClient) -> None:
    """201, the job, and its address."""
    parameters = {"width": 64, "seed": 7}
    body = {"prompt": "  A cat  ", "parameters": parameters, "metadata": {"mine": [1]}}

    answer = await client.post("/api/v1/generate", json=body)

    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert set(job) == FIELDS
    assert UUID(job["id"]).version == 7
    assert job["prompt"] == "A cat"
    assert job["parameters"] == parameters
    assert job["seed"] == 7
    assert job["metadata"] == {"mine": [1]}
    assert job["status"] == "pending"
    assert job["result_url"] is None
    assert job["created_at"].endswith("Z")


async def test_parameters_may_be_a_json_string(client: httpx2.AsyncClient) -> None:
    """Clients of older services send them this way."""
    body = {"prompt": "A cat", "parameters": '{"width": 64}'}

    answer = await client.post("/api/v1/generate", json=body)

    assert answer.json()["parameters"] == {"width": 64}


@pytest.mark.parametrize("route", ["/api/v1/status/{}", "/api/v1/jobs/{}"])
async def test_a_job_is_read_by_both_addresses(
    client: httpx2.AsyncClient, make: Make, route: str
) -> None:
    """Both are documented, and equal."""
    job = await make()

    answer = await client.get(route.format(job.id))

    assert answer.status_code == 200
    assert answer.json()["id"] == str(job.id)
    assert answer.json()["queue_position"] == 0


async def test_a_completed_job_lists_its_files(client: httpx2.AsyncClient, complete: Make) -> None:
    """The addresses are absolute, because callers may be anywhere."""
    job = await complete((b"one", "image/png", "png"), (b"three", "audio/wav", "wav"))

    shown = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    base = "http://127.0.0.1:8000"
    assert shown["status"] == "completed"
    assert shown["result_url"] == f"{base}/media/{job.id}.png"
    assert shown["file_size"] == 3
    assert shown["kind"] == "image"
    assert [one["url"] for one in shown["outputs"]] == [
        f"{base}/media/{job.id}.png",
        f"{base}/media/{job.id}-1.wav",
    ]
    here = f"{base}/api/v1/jobs/{job.id}"
    parts = ("cancel", "events", "history", "logs", "metadata", "retry")
    assert shown["links"] == {
        "self": here,
        "download": f"{base}/api/v1/download/{job.id}",
        **{part: f"{here}/{part}" for part in parts},
    }


async def test_addresses_follow_the_settings(
    rt: Runtime, settings: Settings, complete: Make, client_of: ClientOf
) -> None:
    """Behind a proxy or with a separate media host the service does not know its own name."""
    job = await complete()
    public = settings.model_copy(
        update={"public_url": "https://fleek.example/", "storage_base_url": "https://m.example/x"}
    )

    async with client_of(replace(rt, settings=public)) as client:
        shown = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    assert shown["links"]["self"] == f"https://fleek.example/api/v1/jobs/{job.id}"
    assert shown["result_url"] == f"https://m.example/x/{job.id}.png"


async def test_a_failed_job_contains_its_error(client: httpx2.AsyncClient, make: Make) -> None:
    """A code for programs and a message for people."""
    job = await make(Status.FAILED)

    shown = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    assert shown["error_code"] == "prediction_failed"
    assert shown["error_message"] == "out of memory"


async def test_a_failed_attempt_is_not_shown_as_a_failed_job(
    client: httpx2.AsyncClient, make: Make
) -> None:
    """Another attempt follows."""
    job = await make(retries=1, attempt=1, error=JobError("provider_unavailable", "503"))

    shown = (await client.get(f"/api/v1/jobs/{job.id}")).json()

    assert shown["status"] == "pending"
    assert shown["retry_count"] == 1
    assert shown["error_code"] is None
    assert shown["error_message"] is None


async def test_a_job_says_how_far_it_has_come(
    client: httpx2.AsyncClient, make: Make, subtests: pytest.Subtests
) -> None:
    """Its stage, its attempt, and how long it took."""
    began = (await make()).created_at
    stages: dict[State, str | None] = {
        Status.PENDING: "queued",
        Stage.STARTING: "starting",
        Stage.UNKNOWN: "starting",
        Stage.WAITING: "running",
        Stage.COLLECTING: "collecting",
        Status.COMPLETED: None,
        Status.FAILED: None,
        Status.CANCELLED: None,
    }
    for state, stage in stages.items():
        with subtests.test(state=state.value):
            status = state if isinstance(state, Status) else Status.PROCESSING
            ended = status in TERMINAL
            job = await make(
                status,
                stage=state if isinstance(state, Stage) else None,
                attempt=2,
                started_at=began,
                completed_at=began + timedelta(seconds=1.5) if ended else None,
            )

            shown = (await client.get(f"/api/v1/jobs/{job.id}")).json()

            assert (shown["stage"], shown["attempt"]) == (stage, 2)
            assert shown["seconds"] == (1.5 if ended else None)


@pytest.mark.parametrize(("given", "seed"), [(7, 7), (True, None), ("7", None), (7.5, None)])
def test_a_seed_is_an_integer(given: object, seed: int | None) -> None:
    """A model may call something else by this name."""
    assert seed_of({"seed": given}) == seed


async def test_an_unknown_job_is_not_found(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """On every route."""
    for method, route in [
        ("GET", "/api/v1/jobs/{}"),
        ("GET", "/api/v1/status/{}"),
        ("GET", "/api/v1/jobs/{}/metadata"),
        ("GET", "/api/v1/download/{}"),
        ("GET", "/media/{}.png"),
        ("GET", "/status/{}"),
        ("DELETE", "/api/v1/jobs/{}"),
        ("POST", "/api/v1/jobs/{}/cancel"),
        ("POST", "/api/v1/jobs/{}/retry"),
    ]:
        with subtests.test(method=str(method)[:40], route=str(route)[:40]):
            answer = await client.request(method, route.format(UNKNOWN))

            assert answer.status_code == 404
            assert answer.json()["code"] == "not_found"


async def test_jobs_are_listed_newest_first(client: httpx2.AsyncClient, make: Make) -> None:
    """The latest request is at the top."""
    made = [await make(prompt=f"Cat {number}") for number in range(3)]

    listed = (await client.get("/api/v1/jobs")).json()

    assert [one["id"] for one in listed] == [str(job.id) for job in reversed(made)]
    assert {one["queue_position"] for one in listed} == {None}


async def test_a_list_can_be_followed_to_its_end(client: httpx2.AsyncClient, make: Make) -> None:
    """By the link alone: no page counts the rows before it."""
    made = [str((await make()).id) for _ in range(5)]
    pages = []
    address = "/api/v1/jobs?limit=2"

    while address:
        answer = await client.get(address)
        pages.append([one["id"] for one in answer.json()])
        address = answer.links.get("next", {}).get("url", "")

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page] == made[::-1]


async def test_a_followed_list_keeps_its_filter(client: httpx2.AsyncClient, make: Make) -> None:
    """The second page has the same filter as the first."""
    wanted = [str((await make(Status.CANCELLED)).id) for _ in range(2)]
    await make()

    first = await client.get("/api/v1/jobs?limit=1&status_filter=cancelled")
    second = await client.get(first.links["next"]["url"])

    assert [one["id"] for one in first.json() + second.json()] == wanted[::-1]


async def test_a_list_can_have_an_offset(client: httpx2.AsyncClient, make: Make) -> None:
    """Older clients use offsets."""
    made = [str((await make()).id) for _ in range(3)]

    answer = await client.get("/api/v1/jobs?offset=1&limit=1")

    assert [one["id"] for one in answer.json()] == [made[1]]


@pytest.mark.parametrize(("method", "route"), [("DELETE", "{}"), ("POST", "{}/cancel")])
async def test_a_cancelled_job_can_be_cancelled_again(
    client: httpx2.AsyncClient, make: Make, method: str, route: str
) -> None:
    """After a lost response the repetition gets the same response."""
    job = await make()
    address = "/api/v1/jobs/" + route.format(job.id)

    answers = [await client.request(method, address) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["job"]["status"] for answer in answers] == ["cancelled"] * 2
    assert answers[0].json()["message"] != answers[1].json()["message"]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
async def test_an_ended_job_cannot_be_cancelled(
    client: httpx2.AsyncClient, make: Make, status: Status
) -> None:
    """Its result exists, or never will."""
    job = await make(status)

    answer = await client.delete(f"/api/v1/jobs/{job.id}")

    assert answer.status_code == 409
    assert answer.json()["code"] == "already_ended"


async def test_a_failed_job_can_be_retried(client: httpx2.AsyncClient, make: Make) -> None:
    """As a new job: the old one keeps its history."""
    job = await make(Status.FAILED)

    answer = await client.post(f"/api/v1/jobs/{job.id}/retry")

    again = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/jobs/{again['id']}"
    assert again["retry_of"] == str(job.id)
    assert again["id"] != str(job.id)
    assert again["prompt"] == job.prompt


async def test_a_retry_of_the_same_job_is_one_job(client: httpx2.AsyncClient, make: Make) -> None:
    """A second request gets the existing job, unless another one is requested."""
    job = await make(Status.FAILED)
    route = f"/api/v1/jobs/{job.id}/retry"
    first = await client.post(route)

    second, other = await client.post(route), await client.post(f"{route}?again=true")
    unclear = await client.post(f"{route}?again=1")

    assert [one.status_code for one in (first, second, other, unclear)] == [201, 200, 201, 422]
    assert second.json() == first.json() | {"queue_position": second.json()["queue_position"]}
    assert second.headers["location"] == first.headers["location"]
    assert other.json()["id"] != first.json()["id"]


async def test_a_waiting_job_cannot_be_retried(client: httpx2.AsyncClient, make: Make) -> None:
    """It would be paid for twice."""
    job = await make()

    answer = await client.post(f"/api/v1/jobs/{job.id}/retry")

    assert answer.status_code == 409


async def test_a_job_may_be_scheduled(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """`run_at` is a time with its zone, and is returned in UTC."""
    later = (rt.now() + timedelta(days=3)).replace(microsecond=0)
    body = {"prompt": "A cat", "run_at": later.isoformat(), "deadline_seconds": 60}

    answer = await client.post("/api/v1/generate", json=body)

    assert answer.json()["run_at"] == later.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_the_flat_response_has_both_spellings(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Simple clients read one or the other."""
    job = await complete()

    shown = (await client.get(f"/status/{job.id}")).json()

    assert shown == {
        "job_id": str(job.id),
        "status": "completed",
        "result_url": f"/media/{job.id}.png",
        "result": f"/media/{job.id}.png",
        "error_message": None,
        "error": None,
        "retry_attempts": 0,
    }


async def test_a_flat_job_is_queued(client: httpx2.AsyncClient) -> None:
    """The other routes say `pending`."""
    answer = await client.post("/generate", json={"prompt": "A cat"})

    assert answer.status_code == 200
    assert answer.json()["status"] == "queued"


async def test_flat_addresses_are_absolute_with_a_configured_base(
    rt: Runtime, settings: Settings, complete: Make, client_of: ClientOf
) -> None:
    """Simple clients resolve relative ones against their own base address."""
    job = await complete()
    public = settings.model_copy(update={"public_url": "https://fleek.example"})

    async with client_of(replace(rt, settings=public)) as client:
        shown = (await client.get(f"/status/{job.id}")).json()

    assert shown["result_url"] == f"https://fleek.example/media/{job.id}.png"
