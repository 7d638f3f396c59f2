"""Health, readiness, information and metrics of the service."""

import asyncio
import os
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from fleek import __version__
from fleek.api import health
from fleek.diagnosis import Finding
from fleek.domain.errors import (
    DatabaseUnavailable,
    DispatcherUnavailable,
    NotFound,
    ProviderUnavailable,
    StorageError,
    StorageFull,
)
from fleek.domain.job import Job, ModelName, Status
from fleek.engine.coordinator import ROLE
from fleek.engine.heartbeat import process_space
from fleek.engine.runtime import Runtime
from fleek.providers.base import Model
from fleek.store import jobs, provider_health, workers
from fleek.store.updates import apply
from samples import a_job, claims
from service_process import PATIENCE

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

PARTS = {
    "database",
    "dispatcher",
    "storage",
    "workers",
    "clock",
    "coordinator",
    "queue",
    "results",
    "provider",
}

ALIVE = {"status": "healthy", "service": "fleek-media-service", "version": __version__}


@dataclass
class Broken:
    """A part of the service whose checks fail or hang."""

    part: Any
    error: Exception | None = None  # None: never responds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    async def check(self) -> None:
        """Fail, or hang."""
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error

    async def schema(self, _model: Any) -> None:
        """Fail, or return nothing."""
        if self.error is not None:
            raise self.error


@dataclass
class Unlisted:
    """A provider without a list of models, but with the parameters of its default model."""

    parameters: Any  # or the error
    default_model: str = "a/model"

    async def schema(self, _model: Any) -> Any:
        """Return or raise them."""
        if isinstance(self.parameters, Exception):
            raise self.parameters
        return self.parameters


class Listed(Unlisted):
    """A provider with a list of its default model, without parameters."""

    async def models(self) -> list[Model]:
        """Return the list."""
        return [Model(name=ModelName(self.default_model), description="Listed.")]


@pytest.fixture(autouse=True)
def _slow_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow slow checks, because this machine may be busy."""
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", PATIENCE)


@pytest.fixture
async def worker(rt: Runtime) -> None:
    """Register a coordinating worker."""
    await rt.lease.register()
    until = rt.now() + timedelta(hours=1)
    await workers.take_role(rt.db, ROLE, rt.lease.worker_id, until=until)


@pytest.mark.parametrize("route", ["/health", "/health-check", "/livez"])
async def test_liveness_checks_no_dependency(rt: Runtime, client_of: ClientOf, route: str) -> None:
    """Restarting the process during a database outage would make it worse."""
    broken: Any = Broken(None)

    async with client_of(
        replace(rt, db=broken, storage=broken, dispatcher=broken, providers={})
    ) as client:
        answer = await client.get(route)

    assert answer.status_code == 200
    assert answer.json() == ALIVE


@pytest.mark.usefixtures("worker")
async def test_detailed_health_checks_all_parts(client: httpx2.AsyncClient) -> None:
    """Every part is really checked."""
    answer = await client.get("/health/detailed")

    found = answer.json()
    assert answer.status_code == 200
    assert found["status"] == "healthy"
    assert found["timestamp"].endswith("Z")
    assert set(found["checks"]) == PARTS
    assert {check["status"] for check in found["checks"].values()} == {"healthy"}
    assert all(check["latency_ms"] >= 0 for check in found["checks"].values())


@pytest.mark.usefixtures("worker")
async def test_detailed_health_lists_the_workers(
    rt: Runtime, client: httpx2.AsyncClient, second_worker: Callable[[], Runtime]
) -> None:
    """Which processes are alive, since when, who coordinates, and how many jobs each has."""
    other = second_worker()
    await other.lease.register()
    job = a_job()
    await jobs.insert_job(rt.db, job)
    await apply(rt.db, job.id, claims(other.lease.worker_id))

    listed = (await client.get("/health/detailed")).json()["workers"]

    found = {worker["id"]: worker for worker in listed}
    own, second = found[str(rt.lease.worker_id)], found[str(other.lease.worker_id)]
    assert (own["coordinator"], own["here"], own["jobs"]) == (True, True, 0)
    assert (second["coordinator"], second["here"], second["jobs"]) == (False, False, 1)
    assert own["heartbeat_at"] >= own["started_at"]
    assert own["slots"] > 0


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("route", ["/health/detailed", "/readyz"])
async def test_health_reveals_no_host_or_process(client: httpx2.AsyncClient, route: str) -> None:
    """Any caller may read it; the logs contain host and process by the worker's id."""
    answer = await client.get(route)

    assert process_space().split(" ")[0] not in answer.text
    assert not re.search(rf"\b{os.getpid()}\b", answer.text)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("away", [False, True], ids=["ready", "not ready"])
async def test_readiness_contains_the_statuses_only(
    rt: Runtime, client_of: ClientOf, *, away: bool
) -> None:
    """Any caller may read it, but not the numbers of workers, debts and versions."""
    broken: Any = Broken(rt.db, DatabaseUnavailable("secret"))

    async with client_of(replace(rt, db=broken) if away else rt) as client:
        answer = await client.get("/readyz")

    found = answer.json()
    assert answer.status_code == (503 if away else 200)
    assert found["status"] == ("unhealthy" if away else "healthy")
    assert set(found) == {"status", "checks"}
    assert set(found["checks"]) == PARTS
    assert set(found["checks"].values()) <= {"healthy", "warning", "unhealthy"}


OPTIONAL = {
    "dispatcher": DispatcherUnavailable("redis://secret"),
    "storage": StorageError("/secret"),
}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("part", "error"), OPTIONAL.items(), ids=OPTIONAL.keys())
async def test_an_optional_part_degrades_the_service(
    rt: Runtime, client_of: ClientOf, part: str, error: Exception
) -> None:
    """Jobs are accepted and safe, so traffic must not be redirected."""
    broken: dict[str, Any] = {part: Broken(getattr(rt, part), error)}

    async with client_of(replace(rt, **broken)) as client:
        answer = await client.get("/health/detailed")

    found = answer.json()
    assert answer.status_code == 200
    assert found["status"] == "degraded"
    assert found["checks"][part]["status"] == "unhealthy"
    assert "secret" not in answer.text


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("error", [ProviderUnavailable("secret"), None], ids=["away", "silent"])
async def test_an_unreachable_provider_degrades_the_service(
    rt: Runtime, client_of: ClientOf, error: Exception | None
) -> None:
    """Its jobs wait for it."""
    provider: Any = Broken(rt.providers["placeholder"], error)

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert found["checks"]["provider"]["status"] == "unhealthy"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("provider_payment_required", "pay the provider"),
        ("provider_unauthorized", "set a token"),
        ("provider_rate_limited", "nothing, if it is rare"),
    ],
)
async def test_a_paused_account_degrades_the_service(
    rt: Runtime, client: httpx2.AsyncClient, code: str, advice: str
) -> None:
    """The report contains the reason."""
    until = rt.now() + timedelta(minutes=5)
    await provider_health.pause(
        rt.db, "placeholder", until=until, reason=code, trial=True, now=rt.now()
    )

    found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert code in found["checks"]["provider"]["message"]
    assert found["checks"]["provider"]["advice"].startswith(advice)


async def test_predictions_of_a_removed_provider_are_reported(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """The service works, but their outcome stays unknown until the operator acts."""
    job = a_job(provider="removed")
    await jobs.insert_job(rt.db, job)
    await apply(rt.db, job.id, claims())

    found = (await client.get("/health/detailed")).json()

    assert found["checks"]["provider"]["status"] == "warning"
    assert "1 open predictions of removed" in found["checks"]["provider"]["message"]
    assert "fleek providers abandon removed" in found["checks"]["provider"]["advice"]


async def test_pauses_are_metrics(rt: Runtime, client_of: ClientOf) -> None:
    """Alerts can use them; an ended pause disappears."""
    now = rt.now()
    rt = replace(rt, now=lambda: now)
    until, text = now + timedelta(minutes=5), {"Accept": "text/plain"}
    await provider_health.pause(rt.db, "fake", until=until, reason="why", trial=True, now=now)
    pauses = {1: None, 2: timedelta(hours=1)}
    for _ in pauses:
        await provider_health.fail(rt.db, "fake", "a/b", reason="x", pauses=pauses.get, now=now)

    async with client_of(rt) as client:
        during = (await client.get("/metrics", headers=text)).text
        async with rt.db.write() as tx:
            await tx.exec_driver_sql("DELETE FROM accounts")
        after = (await client.get("/metrics", headers=text)).text

    assert 'fleek_breaker_open{model="a/b",provider="fake"} 1.0' in during
    assert 'paused_seconds{provider="fake",reason="why"} 300.0' in during
    assert "breaker_open{" not in after
    assert "paused_seconds{" not in after


async def test_a_missing_worker_degrades_the_service(client: httpx2.AsyncClient) -> None:
    """Jobs would wait for ever."""
    found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert found["checks"]["workers"]["status"] == "unhealthy"
    assert found["checks"]["workers"]["advice"] == "start one: fleek worker, or fleek serve"


async def test_a_missing_coordinator_degrades_the_service(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """Workers start nothing without one."""
    await rt.lease.register()

    found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert found["checks"]["workers"]["status"] == "healthy"
    assert found["checks"]["coordinator"]["status"] == "unhealthy"


@pytest.mark.usefixtures("worker")
async def test_a_long_queue_is_a_warning(rt: Runtime, make: Make) -> None:
    """Jobs are safe but late, and more workers help."""
    job = await make()
    late = replace(rt, now=lambda: job.run_at + timedelta(minutes=11))
    await late.lease.beat()

    result = await health._run(late, "queue", health.PROBES["queue"], seconds=PATIENCE)

    assert result.check.status == "warning"
    assert result.check.message == "1 wait to be started, the first for 0:11:00"
    assert "more workers" in (result.check.advice or "")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("db", DatabaseUnavailable("secret")),
        ("db", StorageFull("/secret")),
        ("storage", StorageFull("/secret")),
    ],
    ids=["database away", "no room for rows", "no room for files"],
)
async def test_a_failure_of_a_required_part_is_not_ready(
    rt: Runtime, client_of: ClientOf, part: str, error: Exception
) -> None:
    """Traffic has to be redirected."""
    broken: dict[str, Any] = {part: Broken(getattr(rt, part), error)}

    async with client_of(replace(rt, **broken)) as client:
        answer = await client.get("/health/detailed")

    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert "secret" not in answer.text


async def test_a_hanging_check_times_out(rt: Runtime) -> None:
    """A check that hangs is worse than one that fails."""

    async def silent(_rt: Runtime) -> Finding:
        await asyncio.Event().wait()
        return Finding("storage", "ok", "never")

    result = await health._run(rt, "storage", silent, seconds=0.01)

    assert result.check.status == "unhealthy"
    assert result.check.message == "no answer within 0.01 s"


async def test_service_information_is_json_by_default(client: httpx2.AsyncClient) -> None:
    """Earlier clients rely on this form."""
    answer = await client.get("/")

    assert answer.json() == {
        "service": "Fleek Media Service",
        "version": __version__,
        "description": "Generates media from prompts, and never loses a job.",
        "docs": "/docs",
        "status": "running",
    }


async def test_service_information_contains_no_secret(rt: Runtime, client_of: ClientOf) -> None:
    """Any caller may read it."""
    settings = rt.settings.model_copy(
        update={"database_url": "postgresql://user:secret@db/x", "api_debug": True}
    )

    async with client_of(replace(rt, settings=settings)) as client:
        answer = await client.get("/info")

    assert answer.json()["environment"]["database"] == "sqlite"
    assert answer.json()["environment"]["debug"] is True
    assert answer.json()["endpoints"]["generate"] == "/api/v1/generate"
    assert answer.json()["monitoring"]["metrics"] == "/metrics"
    assert "secret" not in answer.text


async def test_metrics_are_available_as_json(client: httpx2.AsyncClient, make: Make) -> None:
    """For a quick look."""
    await make()
    await make(Status.FAILED)

    figures = (await client.get("/metrics")).json()

    assert figures["service"] == "fleek-media-service"
    assert figures["metrics"]["jobs_total"] == 2
    assert figures["metrics"]["jobs_by_status"] == {
        "pending": 1,
        "processing": 0,
        "completed": 0,
        "failed": 1,
        "cancelled": 0,
    }
    assert figures["metrics"]["queue_depth"] == 1
    assert figures["metrics"]["in_flight"] == 0
    assert figures["metrics"]["oldest_pending_seconds"] >= 0


SCRAPERS = {
    "text": ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4"),
    "openmetrics": (
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        "application/openmetrics-text; version=1.0.0",
    ),
}


@pytest.mark.parametrize(("accept", "kind"), SCRAPERS.values(), ids=SCRAPERS.keys())
async def test_scrapers_get_an_exposition(
    client: httpx2.AsyncClient, make: Make, accept: str, kind: str
) -> None:
    """In the requested format, with requests counted by route and not by address."""
    job = await make()
    await client.get(f"/api/v1/jobs/{job.id}")
    await client.get("/no/such/place")

    answer = await client.get("/metrics", headers={"Accept": accept})

    assert answer.headers["content-type"].startswith(kind)
    assert 'fleek_jobs{status="pending"} 1.0' in answer.text
    assert 'route="/api/v1/jobs/{job_id}",status="200"' in answer.text
    assert 'route="none",status="404"' in answer.text
    assert "fleek_job_steps_total" in answer.text
    assert str(job.id) not in answer.text


async def test_a_scraper_may_request_any_version(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """An invalid version gets an exposition, too, and no traceback."""
    for kind in ["text/plain", "application/openmetrics-text"]:
        for version in ["x", "1.x", "1..0", "²", "9" * 5000, ""]:
            with subtests.test(kind=str(kind)[:40], version=str(version)[:40]):
                accept = f"{kind};version={version};escaping=x".encode("latin-1")

                answer = await client.get("/metrics", headers=[(b"accept", accept)])

                assert answer.status_code == 200
                assert "fleek_jobs" in answer.text


async def test_two_applications_count_separately(rt: Runtime, client_of: ClientOf) -> None:
    """Tests and embedding programs open several in one process."""
    text = {"Accept": "text/plain"}

    async with client_of(rt) as one, client_of(rt) as other:
        await one.get("/livez")
        counted = await one.get("/metrics", headers=text)
        not_counted = await other.get("/metrics", headers=text)

    assert 'route="/livez"' in counted.text
    assert 'route="/livez"' not in not_counted.text


async def test_models_are_listed_with_their_schemas(client: httpx2.AsyncClient) -> None:
    """A form can be built from it."""
    models = (await client.get("/api/v1/models")).json()

    default = [model for model in models if model["default"]]
    assert len(default) == 1
    assert default[0]["provider"] == "placeholder"
    assert default[0]["parameters"]["properties"]["width"]["maximum"] == 4096


@pytest.mark.parametrize("name", ["black-forest-labs/flux-schnell", "some/model:v1.0"])
async def test_a_model_is_found_by_its_name(client: httpx2.AsyncClient, name: str) -> None:
    """Also an unlisted one, and one with a version."""
    answer = await client.get(f"/api/v1/models/{name}")

    assert answer.status_code == 200
    assert answer.json()["name"] == name
    assert answer.json()["parameters"]["properties"]


@pytest.mark.parametrize("name", ["a/b:c;rm", "a/%2e%2e", "-/-", "a/" + "b" * 500, "a/b:"])
async def test_a_malformed_model_name_is_not_found(client: httpx2.AsyncClient, name: str) -> None:
    """Providers are not called for it."""
    answer = await client.get(f"/api/v1/models/{name}")

    assert answer.status_code == 404


async def test_a_listed_model_is_found_as_it_is_listed(client: httpx2.AsyncClient) -> None:
    """With its description and its kind of output."""
    listed = (await client.get("/api/v1/models")).json()

    found = [(await client.get(f"/api/v1/models/{one['name']}")).json() for one in listed]

    assert found == listed
    assert all(one["output"] for one in found)


async def test_an_unknown_model_is_not_found(rt: Runtime, client_of: ClientOf) -> None:
    """Although its name is well-formed."""
    provider: Any = Broken(rt.providers["placeholder"], NotFound("there is no such model"))

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        answer = await client.get("/api/v1/models/some/model")

    assert answer.status_code == 404


async def test_models_of_an_unreachable_provider_are_unavailable(
    rt: Runtime, client_of: ClientOf
) -> None:
    """This is neither the caller's mistake nor an internal error."""
    provider: Any = Broken(rt.providers["placeholder"], ProviderUnavailable("secret"))

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        answer = await client.get("/api/v1/models/a/b")

    assert answer.status_code == 503
    assert answer.json()["code"] == "provider_unavailable"
    assert "secret" not in answer.text


async def test_a_provider_without_a_list_offers_its_default_model(
    rt: Runtime, client_of: ClientOf
) -> None:
    """With its parameters, or without them if the provider cannot be reached."""
    schema = {"type": "object", "properties": {"seed": {"type": "integer"}}}
    there, away = Unlisted(schema), Unlisted(ProviderUnavailable("secret"))
    providers: dict[str, Any] = {"placeholder": there, "away": away}

    async with client_of(replace(rt, providers=providers)) as client:
        listed = (await client.get("/api/v1/models?limit=2")).json()

    shown = [(one["provider"], one["name"], one["parameters"]) for one in listed]
    assert shown == [("placeholder", "a/model", schema), ("away", "a/model", None)]


async def test_a_listed_model_is_found_with_its_parameters(
    rt: Runtime, client_of: ClientOf
) -> None:
    """The list omits them where each would cost a call."""
    schema = {"type": "object", "properties": {"seed": {"type": "integer"}}}
    provider: Any = Listed(schema)

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        model = (await client.get("/api/v1/models/a/model")).json()

    assert (model["description"], model["parameters"]) == ("Listed.", schema)
