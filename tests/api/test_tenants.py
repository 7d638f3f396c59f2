"""Data of one tenant is not visible to another, on every route."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Mapping
from typing import Any, Final

import httpx2
import pytest
from uuid_utils.compat import uuid7

from event_reader import EventReader
from fakes import PNG
from fleek.api.route_modules import load_routes
from fleek.api.routing import ScopedRoute
from fleek.app import create_app
from fleek.domain.access import Scope
from fleek.domain.batch import Batch
from fleek.domain.budgets import Period
from fleek.domain.idempotency import RequestIdentity
from fleek.domain.job import BatchId, Job, JobId, JobRequest, Status
from fleek.domain.money import Micros
from fleek.engine.access import create_key
from fleek.engine.batches import accept_batch
from fleek.engine.budgets import change_budget
from fleek.engine.bulk import BulkOperations, accept
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit
from fleek.engine.uploads import accept_upload
from fleek.engine.webhooks import create_endpoint, send_test
from fleek.store import listing
from fleek.store.bulk import BulkAction
from in_process_service import serving_on

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

PATH: Final = "/api/v1/events"
PROMPT: Final = "the prompt of the other tenant"
HOOK: Final = "https://example.com/theirs"
PATCH: Final = {"favourite": True, "tags": ["seen"]}

BY_ID: Final[Mapping[str, Mapping[str, Any]]] = {
    "GET /api/v1/jobs/{job_id}": {},
    "GET /api/v1/status/{job_id}": {},
    "GET /status/{job_id}": {},
    "PATCH /api/v1/jobs/{job_id}": {"json": PATCH},
    "DELETE /api/v1/jobs/{job_id}": {"params": {"purge": "true"}},
    "POST /api/v1/jobs/{job_id}/cancel": {},
    "POST /api/v1/jobs/{job_id}/retry": {"headers": {"Prefer": "wait=1"}},
    "POST /api/v1/jobs/{job_id}/collect": {},
    "GET /api/v1/jobs/{job_id}/metadata": {},
    "GET /api/v1/jobs/{job_id}/history": {},
    "GET /api/v1/jobs/{job_id}/logs": {},
    "GET /api/v1/jobs/{job_id}/events": {"headers": {"Accept": "application/json"}},
    "GET /api/v1/download/{job_id}": {},
    "GET /media/{name}": {},
    "GET /api/v1/operations/{operation_id}": {},
    "GET /api/v1/batches/{batch_id}": {},
    "GET /api/v1/batches/{batch_id}/archive": {},
    "GET /api/v1/batches/{batch_id}/outputs.zip": {},
    "POST /api/v1/batches/{batch_id}/cancel": {},
    "POST /api/v1/batches/{batch_id}/retry": {},
    "GET /api/v1/uploads/{upload_id}": {},
    "DELETE /api/v1/uploads/{upload_id}": {},
    "GET /api/v1/webhooks/endpoints/{endpoint_id}": {},
    "PATCH /api/v1/webhooks/endpoints/{endpoint_id}": {"json": {"enabled": False}},
    "DELETE /api/v1/webhooks/endpoints/{endpoint_id}": {},
    "POST /api/v1/webhooks/endpoints/{endpoint_id}/rotate": {},
    "POST /api/v1/webhooks/endpoints/{endpoint_id}/test": {},
    "GET /api/v1/webhooks/deliveries/{delivery_id}": {},
    "POST /api/v1/webhooks/deliveries/{delivery_id}/replay": {},
    "GET /replicate/v1/predictions/{job_id}": {},
    "POST /replicate/v1/predictions/{job_id}/cancel": {},
    "GET /fal-queue/{app:path}/requests/{job_id}/status": {},
    "GET /fal-queue/{app:path}/requests/{job_id}/status/stream": {},
    "GET /fal-queue/{app:path}/requests/{job_id}": {},
    "GET /fal-queue/{app:path}/requests/{job_id}/response": {},
    "PUT /fal-queue/{app:path}/requests/{job_id}/cancel": {},
    "GET /replicate/v1/files/{upload_id}": {},
    "GET /openai/v1/videos/{video_id}": {},
    "GET /openai/v1/videos/{video_id}/content": {},
}
"""Routes that name one thing: how each is called."""

OF_THE_CALLER: Final[Mapping[str, Mapping[str, Any]]] = {
    "GET /api/v1/jobs": {"params": {"count": "true"}},
    "GET /api/v1/jobs/days": {},
    "GET /api/v1/batches": {},
    "POST /api/v1/batches": {"json": {"requests": [{"prompt": "A cat"}]}},
    "GET /api/v1/stats": {},
    "GET /api/v1/me": {},
    "GET /api/v1/usage": {},
    "GET /api/v1/budgets": {},
    "GET /api/v1/webhooks/secret": {},
    "POST /api/v1/webhooks/secret/rotate": {},
    "GET /api/v1/webhooks/endpoints": {},
    "POST /api/v1/webhooks/endpoints": {"json": {"url": "https://example.com/ours"}},
    "GET /api/v1/webhooks/deliveries": {},
    "POST /api/v1/uploads": {"content": PNG},
    "POST /api/v1/generate": {"json": {"prompt": "A cat"}},
    "POST /generate": {"json": {"prompt": "A cat"}},
    "GET /replicate/v1/predictions": {},
    "POST /replicate/v1/predictions": {"json": {"version": "a/b", "input": {"prompt": "A cat"}}},
    "GET /replicate/v1/files": {},
    "POST /replicate/v1/files": {"files": {"content": PNG}},
    "GET /replicate/v1/account": {},
    "GET /replicate/v1/webhooks/default/secret": {},
    "GET /openai/v1/videos": {},
    "POST /openai/v1/videos": {"json": {"prompt": "A cat", "model": "a/b"}},
}
"""Routes about the caller's own things: how each is called."""

WITHOUT_VERSION: Final = re.compile("^/replicate/(?!v1/)")
"""The same routes again."""

BULK: Final = {
    "POST /api/v1/jobs/cancel",
    "POST /api/v1/jobs/retry",
    "POST /api/v1/jobs/purge",
}
"""Routes that name many jobs."""

STREAMED: Final = {
    *("GET /api/v1/events", "GET /api/v1/batches/{batch_id}/events"),
    "GET /replicate/v1/streams/{name}",
}
"""Routes that send what happens to the caller's own things; for facades, see their own tests."""

SAME: Final = {
    *("POST /fal-queue/{app:path}", "POST /fal/{app:path}", "POST /fal/{app:path}/stream"),
    *("POST /fal/files/upload", "POST /fal/storage/auth/token"),
    "PUT /fal/storage/files/{name}",  # for the tenant that its address names; see its own tests
    "DELETE /replicate/v1/files/{upload_id}",
    *("POST /openai/v1/images/generations", "POST /openai/v1/images/edits"),
    *("POST /openai/v1/audio/speech", "DELETE /openai/v1/videos/{video_id}"),
    "POST /replicate/v1/models/{owner}/{name}/predictions",
    "POST /replicate/v1/deployments/{owner}/{name}/predictions",
}
"""Routes that do the same as another one."""

SHARED: Final = {
    *("GET /api/v1/models", "GET /api/v1/models/{name}", "GET /api/v1/models/{owner}/{name:path}"),
    "POST /api/v1/estimate",
    *("GET /metrics", "GET /info", "GET /health/detailed"),
    *("GET /api/v1/queue", "POST /api/v1/queue/pause", "POST /api/v1/queue/resume"),
    *("GET /api/v1/keys", "POST /api/v1/keys", "DELETE /api/v1/keys/{key_id}"),
    *("GET /api/v1/tenants", "GET /api/v1/tenants/{tenant_id}"),
    "PATCH /api/v1/tenants/{tenant_id}",
    *("GET /openai/v1/models", "GET /openai/v1/models/{name:path}"),
    *("GET /replicate/v1/models", "QUERY /replicate/v1/models"),
    "GET /replicate/v1/models/{owner}/{name}",
    "GET /replicate/v1/models/{owner}/{name}/versions",
    "GET /replicate/v1/models/{owner}/{name}/versions/{version}",
    "GET /replicate/v1/models/{owner}/{name}/examples",
    *("GET /replicate/v1/collections", "GET /replicate/v1/hardware"),
    *("GET /replicate/v1/deployments", "GET /replicate/v1/trainings"),
    "POST /api/v1/budgets",
    *("POST /fal/storage/upload/initiate", "POST /fal/storage/upload/initiate-multipart"),
    "POST /fal/files/upload/multipart",
}
"""Routes about nothing of a tenant, or for operators of the whole installation."""


@pytest.fixture
async def theirs(rt: Runtime, complete: Make) -> Mapping[str, str]:
    """Return the ids of a job, its file, an endpoint and so on of the tenant `default`."""
    job = await complete()
    await submit(rt, JobRequest(prompt=PROMPT, tags=("secret-tag", "openai-video")))
    operation = await accept(rt, BulkAction.CANCEL, tenant_id="default", ids=[job.id])
    endpoint, _ = await create_endpoint(
        rt, tenant_id="default", url=HOOK, events=["job.completed"], description=""
    )
    delivery = await send_test(rt, endpoint.id, tenant_id="default")
    upload = await accept_upload(rt, _bytes(PNG), tenant_id="default")
    batch = Batch(id=BatchId(uuid7()), tenant_id="default", total=1, created_at=rt.now())
    identity = RequestIdentity(tenant_id="default", digest=b"")
    await accept_batch(rt, batch, _one_job, identity)
    await change_budget(
        rt, tenant_id="default", key_id=None, period=Period.DAY, limit=Micros(10**9)
    )
    return {
        "upload_id": str(upload.id),
        "batch_id": str(batch.id),
        "endpoint_id": str(endpoint.id),
        "delivery_id": delivery.message_id,
        "job_id": str(job.id),
        "video_id": f"video_{job.id}",
        "name": f"{job.id}.png",
        "operation_id": str(operation.id),
    }


def _one_job() -> Generator[JobRequest]:
    yield JobRequest(prompt=PROMPT)


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
async def them(
    rt: Runtime, client_of: ClientOf, theirs: Mapping[str, str]
) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a key of the tenant that owns the data."""
    assert theirs
    async with client_of(rt) as client:
        client.headers["Authorization"] = await _bearer(rt, "default")
        yield client


@pytest.fixture
async def us(
    rt: Runtime, client_of: ClientOf, theirs: Mapping[str, str]
) -> AsyncGenerator[httpx2.AsyncClient]:
    """Open a client with a key of another tenant."""
    assert theirs
    async with client_of(rt) as client:
        client.headers["Authorization"] = await _bearer(rt, "acme")
        yield client


async def _bearer(rt: Runtime, tenant_id: str) -> str:
    scopes = [scope for scope in Scope if scope is not Scope.ADMIN]
    _, key = await create_key(rt, name="test", tenant_id=tenant_id, scopes=scopes)
    return f"Bearer {key}"


def comparable(answer: httpx2.Response) -> tuple[int, Mapping[str, Any], frozenset[str]]:
    """Return a refusal without its request id."""
    body = {**answer.json(), "request_id": "", "instance": ""}
    return answer.status_code, body, frozenset(answer.headers)


def test_every_route_is_covered_here(rt: Runtime) -> None:
    """A new route needs a decision about tenants.

    List it in `BY_ID` or `OF_THE_CALLER` with a valid request, or in `SHARED`.
    """
    app = create_app(rt)
    load_routes(app)
    routes = {
        f"{method} {WITHOUT_VERSION.sub('/replicate/v1/', route.path)}"
        for route in app.routes
        if isinstance(route, ScopedRoute) and route.scope is not None
        for method in (route.methods or set()) - {"HEAD"}
    }

    known = BY_ID.keys() | OF_THE_CALLER.keys() | BULK | STREAMED | SAME | SHARED
    assert routes == known


async def test_foreign_resources_are_not_found(
    us: httpx2.AsyncClient,
    them: httpx2.AsyncClient,
    theirs: Mapping[str, str],
    subtests: pytest.Subtests,
) -> None:
    """The response equals that for an unknown id, while the owner finds them."""
    for route in sorted(BY_ID, key=lambda route: route.startswith("DELETE")):  # which go last
        with subtests.test(route=str(route)[:40]):
            method, path = route.replace("{app:path}", "owner/app").split()
            absent_id = uuid7()
            absent = {
                **dict.fromkeys(("job_id", "operation_id", "endpoint_id"), absent_id),
                **dict.fromkeys(("upload_id", "batch_id"), absent_id),
                "name": f"{absent_id}.png",
                "video_id": f"video_{absent_id}",
                "delivery_id": f"msg_{absent_id.hex}",
            }
            request = BY_ID[route]

            foreign = await us.request(method, path.format(**theirs), **request)
            unknown = await us.request(method, path.format(**absent), **request)
            own = await them.request(method, path.format(**theirs), **request)

            assert foreign.status_code == 404
            assert comparable(foreign) == comparable(unknown)
            assert own.status_code != 404


async def test_a_foreign_batch_cannot_be_followed(
    us: httpx2.AsyncClient, theirs: Mapping[str, str]
) -> None:
    """It looks like an unknown one."""
    answers = [
        await us.get(f"/api/v1/batches/{batch_id}/events")
        for batch_id in (theirs["batch_id"], uuid7())
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert comparable(answers[0]) == comparable(answers[1])


async def test_lists_contain_own_resources_only(
    us: httpx2.AsyncClient,
    them: httpx2.AsyncClient,
    theirs: Mapping[str, str],
    subtests: pytest.Subtests,
) -> None:
    """Neither foreign jobs nor their number."""
    for route in OF_THE_CALLER:
        with subtests.test(route=str(route)[:40]):
            method, path = route.split()

            answer = await us.request(method, path, **OF_THE_CALLER[route])
            own = await them.request(method, path, **OF_THE_CALLER[route])

            assert answer.status_code in {200, 201}
            assert not any(
                secret in answer.text for secret in (PROMPT, HOOK, "secret-tag", *theirs.values())
            )
            assert answer.text != own.text
            assert answer.headers.get("x-total-count", "0") == "0"


@pytest.mark.parametrize("named", ["endpoint", "job"])
async def test_no_filter_finds_foreign_deliveries(
    us: httpx2.AsyncClient, them: httpx2.AsyncClient, theirs: Mapping[str, str], named: str
) -> None:
    """By a foreign endpoint or job."""
    path = f"/api/v1/webhooks/deliveries?{named}={theirs[f'{named}_id']}"

    ours, others = [await each.get(path) for each in (us, them)]

    assert ours.json() == []
    assert len(others.json()) == (named == "endpoint")


async def test_statistics_count_own_jobs_only(
    us: httpx2.AsyncClient, them: httpx2.AsyncClient
) -> None:
    """Waiting and ended ones, too."""
    ours, others = [(await client.get("/api/v1/stats")).json() for client in (us, them)]

    assert (ours["ended"]["jobs"], ours["pending"], ours["bytes"]) == (0, 0, 0)
    assert others["pending"] == 2
    assert others["bytes"] > 0


async def test_no_filter_finds_foreign_jobs(
    us: httpx2.AsyncClient, them: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Each filter uses its own index."""
    for query in [
        "q=prompt",
        "tag=secret-tag",
        "status=pending",
        "favourite=false",
        "order=oldest",
    ]:
        with subtests.test(query=str(query)[:40]):
            ours, others = [
                (await each.get(f"/api/v1/jobs?{query}")).json() for each in (us, them)
            ]

            assert ours == []
            assert others


async def test_a_foreign_cursor_leads_to_own_jobs(
    us: httpx2.AsyncClient, them: httpx2.AsyncClient
) -> None:
    """It contains the position in a list, not its owner."""
    own = (await us.post("/api/v1/generate", json={"prompt": "A cat"})).json()["id"]
    link = (await them.get("/api/v1/jobs?limit=1&order=oldest")).links["next"]["url"]

    answer = await us.get(link)

    assert [job["id"] for job in answer.json()] == [own]


@pytest.mark.parametrize("route", sorted(BULK))
async def test_bulk_operations_leave_foreign_jobs(
    rt: Runtime, us: httpx2.AsyncClient, theirs: Mapping[str, str], route: str
) -> None:
    """Foreign ids count as unknown, and filters do not find them."""
    path = route.split()[1]
    before = await _everything(rt)

    by_ids = await us.post(path, json={"ids": [theirs["job_id"]]})
    unknown = await us.post(path, json={"ids": [str(uuid7())]})
    by_filter = await us.post(path, json={"filter": {}})
    turns = BulkOperations(rt)
    for _ in range(8):
        await turns.turn()
    ended = [(await us.get(answer.headers["location"])).json() for answer in (by_ids, unknown)]

    counts = [{name: end[name] for name in ("matched", "changed", "skipped")} for end in ended]
    assert counts == [{"matched": 1, "changed": 0, "skipped": 1}] * 2
    assert by_filter.json()["matched"] == 0
    assert await _everything(rt) == before


async def _everything(rt: Runtime) -> list[tuple[JobId, Status, bool]]:
    page = await listing.page(rt.db, tenant_id="default", limit=100)
    return [(view.job.id, view.job.status, view.job.purged_at is None) for view in page.views]


@pytest.mark.parametrize("last", [None, "theirs"])
async def test_foreign_events_are_not_streamed(
    rt: Runtime, us: httpx2.AsyncClient, them: httpx2.AsyncClient, last: str | None
) -> None:
    """Also after the id of a foreign event."""
    headers = {"Authorization": us.headers["authorization"]}
    async with serving_on(rt) as service:
        if last is not None:
            async with EventReader(
                service.port, PATH, Authorization=them.headers["authorization"]
            ) as stream:
                await stream.until("hello")
                await submit(rt, JobRequest(prompt=PROMPT))
                last = (await stream.until("job.created"))[-1].id
        async with EventReader(service.port, PATH, last=last, **headers) as stream:
            await stream.until("hello")
            await submit(rt, JobRequest(prompt=PROMPT))
            own = await submit(rt, JobRequest(prompt="A cat", tenant_id="acme"))
            received = await stream.until("job.created")

    created = [event for event in received if event.type.startswith("job.")]
    assert [event.data["id"] for event in created] == [str(own.id)]
    assert PROMPT not in stream.text.decode()


async def test_a_new_job_belongs_to_the_tenant_of_its_key(
    rt: Runtime, us: httpx2.AsyncClient, them: httpx2.AsyncClient
) -> None:
    """On both routes that create one."""
    first = (await us.post("/api/v1/generate", json={"prompt": "A cat"})).json()["id"]
    second = (await us.post("/generate", json={"prompt": "A cat"})).json()["job_id"]

    for job_id in (first, second):
        assert (await us.get(f"/api/v1/jobs/{job_id}")).status_code == 200
        assert (await them.get(f"/api/v1/jobs/{job_id}")).status_code == 404
    listed = await listing.page(rt.db, tenant_id="acme", limit=10)
    assert {str(view.job.id) for view in listed.views} == {first, second}


async def test_webhook_secrets_are_separate_per_tenant(
    us: httpx2.AsyncClient, them: httpx2.AsyncClient
) -> None:
    """Otherwise one tenant could sign for another."""
    ours, others = [await each.get("/api/v1/webhooks/secret") for each in (us, them)]

    assert ours.json()["secret"] != others.json()["secret"]
