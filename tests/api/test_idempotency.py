"""A repeated request gets the job of the first one, by its key or by its content."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import update

from fleek.bootstrap import open_runtime
from fleek.domain.job import Job, JobFilter, Status
from fleek.engine.purge import Retention
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store import listing
from fleek.store.tables import JobRow

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]
V1: Final = "/api/v1/generate"
CAT: Final = {"prompt": "A cat"}
KEY: Final = {"Idempotency-Key": "order-17"}
RETRIED: Final = {"x-stainless-retry-count": "1"}


async def post(
    client: httpx2.AsyncClient, path: str = V1, *, headers: Any = KEY, **fields: Any
) -> httpx2.Response:
    """Submit a request."""
    return await client.post(path, json={**CAT, **fields}, headers=headers)


async def number_of_jobs(rt: Runtime) -> int:
    """Return the number of jobs."""
    return await listing.count(rt.db, JobFilter(), tenant_id="default")


@pytest.mark.parametrize(("path", "status"), [(V1, 201), ("/generate", 200)])
async def test_the_same_key_returns_the_same_job(
    client: httpx2.AsyncClient, rt: Runtime, path: str, status: int
) -> None:
    """With the same status, and a header that marks the repetition."""
    first = await post(client, path)
    second = await post(client, path)

    assert (first.status_code, second.status_code) == (status, status)
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers.get("location") == first.headers.get("location")
    assert first.json() == second.json()
    assert await number_of_jobs(rt) == 1


async def test_both_forms_of_the_route_are_one_request(client: httpx2.AsyncClient) -> None:
    """Each responds in its own form."""
    first = await post(client)
    second = await post(client, "/generate")

    assert second.json()["job_id"] == first.json()["id"]


EQUAL: Final = {
    "order and space": b'{"metadata": {"b": 1, "a": "\\u00e9"},\n"prompt": " A cat " }',
    "defaults": b'{"prompt":"A cat","metadata":{"a":"\xc3\xa9","b":1},"priority":5,"tags":[]}',
    "null": b'{"prompt":"A cat","metadata":{"a":"\xc3\xa9","b":1},"run_at":null}',
    "as a string": b'{"prompt":"A cat","metadata":{"a":"\xc3\xa9","b":1},"parameters":"{}"}',
}


@pytest.mark.parametrize("body", EQUAL.values(), ids=EQUAL.keys())
async def test_the_spelling_of_a_request_does_not_matter(
    client: httpx2.AsyncClient, body: bytes
) -> None:
    """Its parsed values count."""
    first = await post(client, metadata={"a": "é", "b": 1})

    headers = {**KEY, "Content-Type": "application/json"}
    second = await client.post(V1, content=body, headers=headers)

    assert second.json()["id"] == first.json()["id"]


async def test_both_names_of_the_model_are_one_field(client: httpx2.AsyncClient) -> None:
    """`model` is `model_name`."""
    first = await post(client, model="fleek/art")
    second = await post(client, model_name="fleek/art")

    assert first.status_code == 201
    assert second.json()["id"] == first.json()["id"]


async def test_a_key_with_another_request_is_refused(
    client: httpx2.AsyncClient, rt: Runtime, subtests: pytest.Subtests
) -> None:
    """For any different field: the caller would take one job for another."""
    cases: list[dict[str, Any]] = [
        {"prompt": "A dog"},
        {"parameters": {"seed": 1}},
        {"priority": 6},
        {"metadata": {"a": 1}},
        {"tags": ["sea"]},
        {"deadline_seconds": 60},
        {"max_attempts": 1},
        {"provider": "placeholder"},
        {"model": "fleek/art"},
        {"run_at": "2100-01-01T00:00:00Z"},
        {"webhook_url": "https://example.com/hook"},
    ]
    for fields in cases:
        with subtests.test(fields=str(fields)[:40]):
            await post(client)

            answer = await post(client, **fields)

            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
            assert await number_of_jobs(rt) == 1


BAD: Final[dict[str, Any]] = {
    "empty": [("Idempotency-Key", "")],
    "too long": [("Idempotency-Key", "k" * 256)],
    "space": [("Idempotency-Key", "order 17")],
    "not ASCII": [("Idempotency-Key", b"\xe9")],
    "control": [("Idempotency-Key", "a\x01b")],
    "two": [("Idempotency-Key", "a"), ("Idempotency-Key", "a")],
}


async def test_an_invalid_key_is_refused(
    client: httpx2.AsyncClient, rt: Runtime, make: Make, subtests: pytest.Subtests
) -> None:
    """With an ignored key the caller would pay twice; one validator serves all routes."""
    job = await make(Status.FAILED)
    retry = f"/api/v1/jobs/{job.id}/retry"

    for path, name in [*((V1, name) for name in BAD), ("/generate", "two"), (retry, "empty")]:
        with subtests.test(path=path, name=name):
            answer = await post(client, path, headers=BAD[name])

            assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")
            assert await number_of_jobs(rt) == 1


async def test_the_longest_key_is_accepted(client: httpx2.AsyncClient) -> None:
    """All visible ASCII characters are allowed."""
    key = "".join(map(chr, range(0x21, 0x7F)))
    headers = {"Idempotency-Key": key + "k" * (255 - len(key))}

    first = await post(client, headers=headers)
    second = await post(client, headers=headers)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json()["id"] == first.json()["id"]


async def test_a_refused_request_leaves_nothing(client: httpx2.AsyncClient) -> None:
    """The corrected request may use its key."""
    refused = await post(client, provider="nobody")
    mended = await post(client)

    assert (refused.status_code, mended.status_code) == (422, 201)
    assert "idempotent-replayed" not in mended.headers


async def test_a_repetition_is_not_validated_again(
    client: httpx2.AsyncClient, rt: Runtime, client_of: ClientOf
) -> None:
    """The provider was removed, but the job was accepted before."""
    first = await post(client)

    async with client_of(replace(rt, providers={})) as without:
        repeated = await post(without)
        other = await post(without, headers={"Idempotency-Key": "order-18"})

    assert (repeated.status_code, repeated.json()["id"]) == (201, first.json()["id"])
    assert other.status_code == 422


async def test_a_repetition_returns_the_current_job(client: httpx2.AsyncClient) -> None:
    """A purged job is still the response: its files are removed, and no new job is created."""
    first = await post(client)
    url = f"/api/v1/jobs/{first.json()['id']}"
    await client.delete(url, params={"purge": "true"})

    repeated = await post(client)

    assert repeated.status_code == 201
    assert repeated.json() == (await client.get(url)).json()
    assert repeated.json()["status"] == "cancelled"
    assert repeated.json()["purged_at"] is not None


async def test_a_repetition_returns_a_completed_job_with_its_files(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """Also for a retry that has found it."""
    done = await complete()
    old = (await post(client, headers={})).json()["id"]
    await client.post(f"/api/v1/jobs/{old}/cancel")
    await _is_a_retry_of(rt, done, old)

    answers = [await client.post(f"/api/v1/jobs/{old}/retry", headers=KEY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["id"] for answer in answers] == [str(done.id)] * 2
    assert all(answer.json()["outputs"] for answer in answers)
    assert answers[1].headers["idempotent-replayed"] == "true"


async def _is_a_retry_of(rt: Runtime, job: Job, old: str) -> None:
    async with rt.db.write() as tx:
        await tx.execute(update(JobRow).where(JobRow.id == job.id).values(retry_of=UUID(old)))


async def test_duplicates_in_two_processes_are_one_job(
    rt: Runtime, settings: Settings, client_of: ClientOf
) -> None:
    """For any number of concurrent requests."""
    async with (
        open_runtime(settings) as other,
        client_of(rt) as here,
        client_of(other) as there,
    ):
        answers = await asyncio.gather(*(post(each) for each in (here, there) * 20))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert ["idempotent-replayed" in answer.headers for answer in answers].count(False) == 1
    assert await number_of_jobs(rt) == 1


async def test_a_repeated_retry_creates_one_job(
    client: httpx2.AsyncClient, rt: Runtime, make: Make
) -> None:
    """Although the caller has requested another job in any case."""
    job = await make(Status.FAILED)
    url = f"/api/v1/jobs/{job.id}/retry"
    again = {"again": "true"}

    answers = await asyncio.gather(
        *(client.post(url, params=again, headers=KEY) for _ in range(9))
    )
    without = await client.post(url, headers=KEY)
    other = await client.post(url, params=again, headers={"Idempotency-Key": "order-18"})

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert without.json()["code"] == "idempotency_key_reused"
    assert other.json()["id"] != answers[0].json()["id"]
    assert await number_of_jobs(rt) == 3


async def test_a_repetition_may_wait(client: httpx2.AsyncClient) -> None:
    """The two headers work together."""
    job_id = (await post(client)).json()["id"]
    await client.post(f"/api/v1/jobs/{job_id}/cancel")

    answer = await post(client, headers={**KEY, "Prefer": "wait=60"})

    assert answer.headers["preference-applied"] == "wait=60"
    assert (answer.json()["id"], answer.json()["status"]) == (job_id, "cancelled")


@pytest.mark.parametrize(
    "request_line",
    ["POST /api/v1/jobs/{}/cancel", "POST /api/v1/jobs/{}/collect", "DELETE /api/v1/jobs/{}"],
)
async def test_a_key_on_other_routes_is_refused(
    client: httpx2.AsyncClient, make: Make, request_line: str
) -> None:
    """The error explains that no key is needed there."""
    method, path = request_line.format((await make()).id).split()

    answer = await client.request(method, path, headers=KEY)

    assert answer.status_code == 422
    assert "can be repeated as it is" in answer.json()["detail"]


async def test_an_announced_client_retry_is_the_same_job(
    client: httpx2.AsyncClient, rt: Runtime
) -> None:
    """Clients generated by Stainless repeat without a key, but send a counter."""
    first = await post(client, headers={"x-stainless-retry-count": "0"})
    repeated = await post(client, headers=RETRIED)
    other = await post(client, headers=RETRIED, prompt="A dog")

    assert repeated.json()["id"] == first.json()["id"]
    assert repeated.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in other.headers
    assert await number_of_jobs(rt) == 2


@pytest.mark.parametrize("count", ["0", "00", "", "-1", "x", "1.0"])
async def test_a_first_attempt_is_another_job(
    client: httpx2.AsyncClient, rt: Runtime, count: str
) -> None:
    """Equal requests may be intended."""
    for _ in range(2):
        await post(client, headers={"x-stainless-retry-count": count})

    assert await number_of_jobs(rt) == 2


async def test_an_announced_retry_has_a_window(
    client: httpx2.AsyncClient, rt: Runtime, client_of: ClientOf
) -> None:
    """After two minutes it is another request."""
    first = await post(client, headers={})
    later = rt.now() + timedelta(seconds=121)

    async with client_of(replace(rt, now=lambda: later)) as then:
        repeated = await post(then, headers=RETRIED)

    assert repeated.json()["id"] != first.json()["id"]


async def test_equal_requests_can_be_deduplicated_by_setting(
    rt: Runtime, settings: Settings, client_of: ClientOf
) -> None:
    """For clients that repeat without a sign; a key still separates requests."""
    window = settings.model_copy(update={"dedupe_window_seconds": timedelta(seconds=60)})
    async with open_runtime(window) as opened, client_of(opened) as client:
        answers = await asyncio.gather(*(post(client, headers={}) for _ in range(9)))
        keyed = await post(client)

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert "idempotent-replayed" not in keyed.headers
    assert await number_of_jobs(rt) == 2


async def test_a_key_expires(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """Retention of jobs includes their keys."""
    first = await post(client)
    begin = rt.now()

    await Retention(replace(rt, now=lambda: begin + timedelta(hours=23))).turn()
    kept = await post(client)
    await Retention(replace(rt, now=lambda: begin + timedelta(hours=25))).turn()
    expired = await post(client)

    assert kept.json()["id"] == first.json()["id"]
    assert expired.json()["id"] != first.json()["id"]
