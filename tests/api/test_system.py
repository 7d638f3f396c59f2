"""What the service says about itself, and that it is true."""

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
    """A part that does what it does, and fails when it is asked how it is."""

    part: Any
    error: Exception | None = None  # None: never answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    async def check(self) -> None:
        """Fail, or hang."""
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error

    async def schema(self, _model: Any) -> None:
        """Fail, or know nothing."""
        if self.error is not None:
            raise self.error


@dataclass
class Unlisted:
    """A provider that lists no models, and knows the parameters of its default model."""

    parameters: Any  # or why they cannot be had
    default_model: str = "a/model"

    async def schema(self, _model: Any) -> Any:
        """Return or raise them."""
        if isinstance(self.parameters, Exception):
            raise self.parameters
        return self.parameters


class Listed(Unlisted):
    """A provider that lists its default model, without parameters."""

    async def models(self) -> list[Model]:
        """List it."""
        return [Model(name=ModelName(self.default_model), description="Listed.")]


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every part take its time to answer: this machine may be busy."""
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", PATIENCE)


@pytest.fixture
async def worker(rt: Runtime) -> None:
    """Register a worker, which coordinates."""
    await rt.lease.register()
    until = rt.now() + timedelta(hours=1)
    await workers.take_role(rt.db, ROLE, rt.lease.worker_id, until=until)


@pytest.mark.parametrize("route", ["/health", "/health-check", "/livez"])
async def test_being_alive_asks_nobody(rt: Runtime, client_of: ClientOf, route: str) -> None:
    """A probe that restarts us because the database is away makes everything worse."""
    broken: Any = Broken(None)

    async with client_of(
        replace(rt, db=broken, storage=broken, dispatcher=broken, providers={})
    ) as client:
        answer = await client.get(route)

    assert answer.status_code == 200
    assert answer.json() == ALIVE


@pytest.mark.usefixtures("worker")
async def test_all_is_well(client: httpx2.AsyncClient) -> None:
    """Every part has really been asked, and says so."""
    answer = await client.get("/health/detailed")

    found = answer.json()
    assert answer.status_code == 200
    assert found["status"] == "healthy"
    assert found["timestamp"].endswith("Z")
    assert set(found["checks"]) == PARTS
    assert {check["status"] for check in found["checks"].values()} == {"healthy"}
    assert all(check["latency_ms"] >= 0 for check in found["checks"].values())


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("route", ["/health/detailed", "/readyz"])
async def test_strangers_learn_no_machine(client: httpx2.AsyncClient, route: str) -> None:
    """Anybody may ask: host names and process ids are in the logs, by the worker's id."""
    answer = await client.get(route)

    assert process_space().split(" ")[0] not in answer.text
    assert not re.search(rf"\b{os.getpid()}\b", answer.text)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("away", [False, True], ids=["ready", "not ready"])
async def test_readiness_is_the_status_of_each_part_and_nothing_else(
    rt: Runtime, client_of: ClientOf, *, away: bool
) -> None:
    """Anybody may read it, unlike how many workers there are, what is owed, and which versions run."""
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
async def test_a_part_that_jobs_can_wait_for_degrades(
    rt: Runtime, client_of: ClientOf, part: str, error: Exception
) -> None:
    """Jobs are accepted and safe: traffic must go on coming here."""
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
async def test_a_provider_that_cannot_be_seen_degrades(
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
async def test_an_account_that_is_paused_degrades(
    rt: Runtime, client: httpx2.AsyncClient, code: str, advice: str
) -> None:
    """Whoever looks here first learns why nothing goes on."""
    until = rt.now() + timedelta(minutes=5)
    await provider_health.pause(
        rt.db, "placeholder", until=until, reason=code, trial=True, now=rt.now()
    )

    found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert code in found["checks"]["provider"]["message"]
    assert found["checks"]["provider"]["advice"].startswith(advice)


async def test_predictions_of_a_removed_provider_are_named(
    rt: Runtime, client: httpx2.AsyncClient
) -> None:
    """Nobody asks for them any more; the service works, and somebody has to decide."""
    job = a_job(provider="removed")
    await jobs.insert_job(rt.db, job)
    await apply(rt.db, job.id, claims())

    found = (await client.get("/health/detailed")).json()

    assert found["checks"]["provider"]["status"] == "warning"
    assert "1 open predictions of removed" in found["checks"]["provider"]["message"]
    assert "fleek providers abandon removed" in found["checks"]["provider"]["advice"]


async def test_pauses_are_figures(rt: Runtime, client_of: ClientOf) -> None:
    """An alarm can be set on them; what is over is gone."""
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


async def test_no_worker_degrades(client: httpx2.AsyncClient) -> None:
    """Jobs would wait for ever, and somebody should know."""
    found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert found["checks"]["workers"]["status"] == "unhealthy"
    assert found["checks"]["workers"]["advice"] == "start one: fleek worker, or fleek serve"


async def test_no_coordinator_degrades(rt: Runtime, client: httpx2.AsyncClient) -> None:
    """Workers that wait for each other start nothing."""
    await rt.lease.register()

    found = (await client.get("/health/detailed")).json()

    assert found["status"] == "degraded"
    assert found["checks"]["workers"]["status"] == "healthy"
    assert found["checks"]["coordinator"]["status"] == "unhealthy"


@pytest.mark.usefixtures("worker")
async def test_a_long_line_is_a_warning(rt: Runtime, make: Make) -> None:
    """Jobs are safe and late: more workers help."""
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
async def test_what_keeps_jobs_out_is_not_ready(
    rt: Runtime, client_of: ClientOf, part: str, error: Exception
) -> None:
    """Callers must be sent elsewhere."""
    broken: dict[str, Any] = {part: Broken(getattr(rt, part), error)}

    async with client_of(replace(rt, **broken)) as client:
        answer = await client.get("/health/detailed")

    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert "secret" not in answer.text


async def test_a_part_that_does_not_answer_is_not_waited_for(rt: Runtime) -> None:
    """A check that hangs is worse than one that fails."""

    async def silent(_rt: Runtime) -> Finding:
        await asyncio.Event().wait()
        return Finding("storage", "ok", "never")

    result = await health._run(rt, "storage", silent, seconds=0.01)

    assert result.check.status == "unhealthy"
    assert result.check.message == "no answer within 0.01 s"


async def test_programs_are_told_who_is_there(client: httpx2.AsyncClient) -> None:
    """In the form that they know."""
    answer = await client.get("/")

    assert answer.json() == {
        "service": "Fleek Media Service",
        "version": __version__,
        "description": "Generates media from prompts, and never loses a job.",
        "docs": "/docs",
        "status": "running",
    }


async def test_info_has_no_secret(rt: Runtime, client_of: ClientOf) -> None:
    """Everybody may read it."""
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


async def test_people_get_figures_as_json(client: httpx2.AsyncClient, make: Make) -> None:
    """A glance is enough."""
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
    """In the form that they ask for; with requests counted by route, not by address."""
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


@pytest.mark.parametrize("version", ["x", "1.x", "1..0", "²", "9" * 5000, ""])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
async def test_a_scraper_may_name_any_version(
    client: httpx2.AsyncClient, kind: str, version: str
) -> None:
    """Whoever sends nonsense gets some exposition, and nobody a traceback."""
    accept = f"{kind};version={version};escaping=x".encode("latin-1")

    answer = await client.get("/metrics", headers=[(b"accept", accept)])

    assert answer.status_code == 200
    assert "fleek_jobs" in answer.text


async def test_two_applications_count_for_themselves(rt: Runtime, client_of: ClientOf) -> None:
    """Tests, and whoever embeds us, open several in one process."""
    text = {"Accept": "text/plain"}

    async with client_of(rt) as one, client_of(rt) as other:
        await one.get("/livez")
        counted = await one.get("/metrics", headers=text)
        not_counted = await other.get("/metrics", headers=text)

    assert 'route="/livez"' in counted.text
    assert 'route="/livez"' not in not_counted.text


async def test_models_are_listed_with_their_schemas(client: httpx2.AsyncClient) -> None:
    """A form can be made from it."""
    models = (await client.get("/api/v1/models")).json()

    default = [model for model in models if model["default"]]
    assert len(default) == 1
    assert default[0]["provider"] == "placeholder"
    assert default[0]["parameters"]["properties"]["width"]["maximum"] == 4096


@pytest.mark.parametrize("name", ["black-forest-labs/flux-schnell", "some/model:v1.0"])
async def test_a_model_is_found_by_its_name(client: httpx2.AsyncClient, name: str) -> None:
    """Also one that is not listed, and one of a certain version."""
    answer = await client.get(f"/api/v1/models/{name}")

    assert answer.status_code == 200
    assert answer.json()["name"] == name
    assert answer.json()["parameters"]["properties"]


@pytest.mark.parametrize("name", ["a/b:c;rm", "a/%2e%2e", "-/-", "a/" + "b" * 500, "a/b:"])
async def test_a_name_that_no_model_can_have_is_not_found(
    client: httpx2.AsyncClient, name: str
) -> None:
    """Providers are not asked for it."""
    answer = await client.get(f"/api/v1/models/{name}")

    assert answer.status_code == 404


async def test_a_listed_model_is_found_as_it_is_listed(client: httpx2.AsyncClient) -> None:
    """With its description and what it makes."""
    listed = (await client.get("/api/v1/models")).json()

    found = [(await client.get(f"/api/v1/models/{one['name']}")).json() for one in listed]

    assert found == listed
    assert all(one["output"] for one in found)


async def test_a_model_that_no_provider_has_is_not_found(rt: Runtime, client_of: ClientOf) -> None:
    """Although its name is well-formed."""
    provider: Any = Broken(rt.providers["placeholder"], NotFound("there is no such model"))

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        answer = await client.get("/api/v1/models/some/model")

    assert answer.status_code == 404


async def test_a_provider_out_of_reach_is_unavailable(rt: Runtime, client_of: ClientOf) -> None:
    """Not a mistake of the caller, nor of ours."""
    provider: Any = Broken(rt.providers["placeholder"], ProviderUnavailable("secret"))

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        answer = await client.get("/api/v1/models/a/b")

    assert answer.status_code == 503
    assert answer.json()["code"] == "provider_unavailable"
    assert "secret" not in answer.text


async def test_a_provider_without_a_list_offers_its_default_model(
    rt: Runtime, client_of: ClientOf
) -> None:
    """With its parameters; without them if the provider cannot be reached."""
    schema = {"type": "object", "properties": {"seed": {"type": "integer"}}}
    there, away = Unlisted(schema), Unlisted(ProviderUnavailable("secret"))
    providers: dict[str, Any] = {"placeholder": there, "away": away}

    async with client_of(replace(rt, providers=providers)) as client:
        listed = (await client.get("/api/v1/models")).json()

    shown = [(one["provider"], one["name"], one["parameters"]) for one in listed]
    assert shown == [("placeholder", "a/model", schema), ("away", "a/model", None)]


async def test_a_listed_model_is_found_with_its_parameters(
    rt: Runtime, client_of: ClientOf
) -> None:
    """The list leaves them out where each would cost a call."""
    schema = {"type": "object", "properties": {"seed": {"type": "integer"}}}
    provider: Any = Listed(schema)

    async with client_of(replace(rt, providers={"placeholder": provider})) as client:
        model = (await client.get("/api/v1/models/a/model")).json()

    assert (model["description"], model["parameters"]) == ("Listed.", schema)
