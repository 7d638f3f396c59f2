"""``Prefer: wait``: the response comes with the end of the job, and waits block nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import httpx2
import pytest

from fleek.api import hub as hub_module
from fleek.api import waiting
from fleek.api.hub import Hub
from fleek.api.waiting import preferred_seconds
from fleek.domain.job import JobId, Status
from fleek.domain.transitions import cancel
from fleek.engine.runtime import Runtime
from fleek.store import jobs, listing
from fleek.store.updates import Update, apply
from in_process_service import LAST, LIVE, Caller, serving_on

CROWD: Final = 400  # more than the limit of the admission control
AT_ONCE: Final = 50  # fewer than it: a write that does not wait yet counts
LIMIT: Final = 30  # seconds, less than a wait may take; only a failing test takes so long
POST: Final = (
    b"POST /api/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 14\r\nPrefer: wait=60\r\n"
)
BODY: Final = b'\r\n{"prompt":"x"}'


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["wait"], 60),
        (["wait=1"], 1),
        (["wait=60"], 60),
        (["Wait = 7"], 7),
        (['wait="7"'], 7),
        (["wait=7; now"], 7),
        (["respond-async, wait=7"], 7),
        (["respond-async", "wait=7"], 7),
        (["wait=7, wait=9"], 7),
        (['other="a, wait=9", wait=7'], 7),
        (['other="\\", wait=9"'], None),
        (["wait=0"], None),
        (["wait=61"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=1000000"], None),
        (["wait=²"], None),
        (["waiting=7"], None),
        (["respond-async"], None),
        ([], None),
        (['"' * 5000], None),
        (["wait" + ";" * 5000], 60),
    ],
)
def test_preferences_are_parsed_by_rfc_7240(headers: list[str], seconds: int | None) -> None:
    """The first one counts, and unknown ones are ignored."""
    assert preferred_seconds(headers) == seconds


Submit = Callable[..., Coroutine[Any, Any, httpx2.Response]]


@pytest.fixture
def submit(client: httpx2.AsyncClient) -> Submit:
    """Return a function that submits a job and waits for its end."""

    async def submitted(path: str = "/api/v1/generate", **fields: Any) -> httpx2.Response:
        headers = {"Prefer": "wait=60"} | fields.pop("headers", {})
        return await client.post(path, json={"prompt": "x", **fields}, headers=headers)

    return submitted


async def the_job(rt: Runtime, number: int = 1) -> JobId:
    """Return the newest job, once a number of jobs exist."""
    while True:
        found = (await listing.page(rt.db, tenant_id="default", limit=100)).views
        if len(found) == number:
            return found[0].job.id
        await asyncio.sleep(0.01)


async def watched(hub: Hub, number: int) -> None:
    """Wait until a number of requests are waiting."""
    async with asyncio.timeout(LIMIT):
        while len(hub) != number:
            await asyncio.sleep(0.01)


async def end(rt: Runtime, job_id: JobId) -> None:
    """Cancel a job without the service, like another process."""
    await apply(rt.db, job_id, lambda job, _: Update(change=cancel(job, now=rt.now())))


@pytest.mark.parametrize(
    ("path", "status", "key"), [("/api/v1/generate", 201, "id"), ("/generate", 200, "job_id")]
)
async def test_the_response_comes_with_the_end(
    rt: Runtime, submit: Submit, path: str, status: int, key: str
) -> None:
    """With the route's own status and the job's final state, even if another process ended it."""
    answering = asyncio.create_task(submit(path))
    job_id = await the_job(rt)

    await end(rt, job_id)
    answer = await answering

    assert answer.status_code == status
    assert answer.json()[key] == str(job_id)
    assert answer.json()["status"] == "cancelled"
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert "Retry-After" not in answer.headers


async def test_a_retry_can_wait(
    rt: Runtime, client: httpx2.AsyncClient, make: Callable[..., Any]
) -> None:
    """Callers of the same retry wait for the same job."""
    old = await make(Status.FAILED, completed_at=rt.now())
    path, headers = f"/api/v1/jobs/{old.id}/retry", {"Prefer": "wait=60"}
    answering = [
        asyncio.create_task(client.post(path, headers=headers)),
        asyncio.create_task(client.post(path, headers=headers)),
    ]
    job_id = await the_job(rt, 2)

    await end(rt, job_id)
    answers = await asyncio.gather(*answering)

    assert {answer.status_code for answer in answers} <= {200, 201}
    assert {answer.json()["id"] for answer in answers} == {str(job_id)}
    assert {answer.json()["status"] for answer in answers} == {"cancelled"}
    assert {answer.headers["Preference-Applied"] for answer in answers} == {"wait=60"}


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_wait_that_times_out_returns_the_current_job(submit: Submit) -> None:
    """With a Retry-After."""
    answer = await submit(headers={"Prefer": "wait=1"})

    assert (answer.status_code, answer.json()["status"]) == (201, "pending")
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.headers["Retry-After"] == "1"


async def test_a_wait_ends_before_the_proxy_times_out(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 504 would look like a refusal, and the job would be submitted again."""
    monkeypatch.setattr(waiting, "ENDS_SECONDS", 0.05)

    answer = await submit()

    assert (answer.status_code, answer.json()["status"]) == (201, "pending")
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.headers["Retry-After"] == "1"


async def test_without_a_free_place_the_response_comes_at_once(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The missing Preference-Applied header shows it."""
    monkeypatch.setattr(hub_module, "MAX_WAITING", 0)

    answer = await submit()

    assert (answer.status_code, answer.json()["status"]) == (201, "pending")
    assert "Preference-Applied" not in answer.headers


async def test_without_a_valid_preference_the_response_comes_at_once(submit: Submit) -> None:
    """An invalid preference counts as none."""
    answer = await submit(headers={"Prefer": "wait=61"})

    assert answer.status_code == 201
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("later", [b"", LIVE + b"\r\n"], ids=["alone", "another behind it"])
async def test_a_disconnected_caller_cancels_nothing(rt: Runtime, later: bytes) -> None:
    """The wait ends, the job does not."""
    async with serving_on(rt) as service:
        caller = await service.call(POST + BODY + later)
        await watched(service.hub, 1)
        caller.close()
        await watched(service.hub, 0)

        job = await jobs.get_any_tenant(rt.db, await the_job(rt))

    assert job.status is Status.PENDING


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_many_waiting_requests_block_no_other(rt: Runtime) -> None:
    """Waits are no writes in progress; all get a response when the service stops."""
    async with serving_on(rt, max_connections=2 * CROWD) as service:
        crowd: list[Caller] = []
        while len(crowd) < CROWD:
            crowd += [await service.call(POST + LAST[:-2] + BODY) for _ in range(AT_ONCE)]
            await watched(service.hub, len(crowd))
        quick = await service.exchange(LIVE + LAST)
        other = await service.exchange(POST.replace(b"60", b"0") + LAST[:-2] + BODY)
        service.stop()
        answers = await asyncio.gather(*(caller.read() for caller in crowd))
        for caller in crowd:
            caller.close()

    assert quick.statuses == [200]
    assert other.statuses == [201]
    assert [answer.statuses for answer in answers] == [[201]] * CROWD
    assert all(b'"status":"pending"' in answer.data for answer in answers)
