"""What the service says about itself: its address book and its figures."""

import platform
from typing import Any, Final

from fastapi.requests import Request
from fastapi.responses import Response
from pydantic import BaseModel

from fleek import __version__
from fleek.api.deps import RuntimeDep
from fleek.api.errors import problems
from fleek.api.health import SERVICE
from fleek.api.links import link
from fleek.api.metrics import ApiMetrics
from fleek.api.pages import PAGE_POLICY, WEB, PageFile
from fleek.api.routing import router as strict_router
from fleek.domain.errors import DatabaseUnavailable
from fleek.store import provider_health, queue, workers
from fleek.store.counters import count_jobs

DESCRIPTION: Final = "Generates media from prompts, and never loses a job."


class Root(BaseModel):
    """Who answers here."""

    service: str = "Fleek Media Service"
    version: str = __version__
    description: str = DESCRIPTION
    docs: str = "/docs"
    status: str = "running"


class Environment(BaseModel):
    """What the service runs on. Never an address or a secret."""

    python: str
    system: str
    database: str
    dispatch: str
    provider: str
    storage: str
    debug: bool


class Info(BaseModel):
    """Where things are."""

    service: str = SERVICE
    version: str = __version__
    description: str = DESCRIPTION
    environment: Environment
    endpoints: dict[str, str]
    monitoring: dict[str, str]


class Figures(BaseModel):
    """How many jobs there are."""

    jobs_total: int
    jobs_by_status: dict[str, int]
    queue_depth: int
    oldest_pending_seconds: float | None
    in_flight: int
    workers: int


class MetricsRead(BaseModel):
    """The figures for people; scrapers ask for text."""

    service: str = SERVICE
    metrics: Figures


ENDPOINTS: Final = {
    "generate": "/api/v1/generate",
    "status": "/api/v1/status/{job_id}",
    "jobs": "/api/v1/jobs",
    "job": "/api/v1/jobs/{job_id}",
    "metadata": "/api/v1/jobs/{job_id}/metadata",
    "cancel": "/api/v1/jobs/{job_id}/cancel",
    "retry": "/api/v1/jobs/{job_id}/retry",
    "collect": "/api/v1/jobs/{job_id}/collect",
    "download": "/api/v1/download/{job_id}",
    "media": "/media/{name}",
    "models": "/api/v1/models",
    "docs": "/docs",
    "openapi": "/openapi.json",
}
MONITORING: Final = {
    "health": "/health",
    "health_detailed": "/health/detailed",
    "readiness": "/readyz",
    "liveness": "/livez",
    "metrics": "/metrics",
}

router = strict_router(tag="system")


@router.get(
    "/",
    operation_id="root",
    summary="Who is there?",
    response_description="The service's name.",
    response_model=Root,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def root(request: Request, rt: RuntimeDep) -> Root | Response:
    """Show the start page to a browser, and name the service to everyone else."""
    if "text/html" in request.headers.get("accept", ""):
        return PageFile(WEB / "index.html", headers=PAGE_POLICY | {"Vary": "Accept"})
    return Root(docs=link(rt, Root().docs))


@router.get(
    "/info",
    operation_id="info",
    summary="What is it made of?",
    response_description="What the service is made of.",
)
async def info(rt: RuntimeDep) -> Info:
    """Return what the service runs on and where things are."""
    settings = rt.settings
    return Info(
        environment=Environment(
            python=platform.python_version(),
            system=platform.system(),
            database=rt.db.kind,
            dispatch=settings.dispatch,
            provider=settings.provider,
            storage=settings.storage_backend,
            debug=settings.api_debug,
        ),
        endpoints={name: link(rt, path) for name, path in ENDPOINTS.items()},
        monitoring={name: link(rt, path) for name, path in MONITORING.items()},
    )


METRICS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }
    }
}


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="How is it going?",
    response_description="The figures.",
    response_model=MetricsRead,
    responses=METRICS | problems(DatabaseUnavailable),
)
async def metrics(request: Request, rt: RuntimeDep) -> MetricsRead | Response:
    """Return figures: for a scraper, which asks for text, in Prometheus' form; else as JSON."""
    tally = await count_jobs(rt.db, now=rt.now())
    alive = len(await workers.alive(rt.db, since=rt.now() - rt.lease.dead_after))
    accept = request.headers.get("accept", "")
    if "text/plain" in accept or "application/openmetrics-text" in accept:
        figures: ApiMetrics = request.app.state.metrics
        now = rt.now()
        impaired = await provider_health.impaired(rt.db, now=now)
        postponed = await queue.postponed(rt.db)
        figures.show(tally, workers=alive, postponed=postponed, impaired=impaired, now=now)
        body, content_type = figures.expose(accept)
        return Response(body, headers={"Content-Type": content_type, "Vary": "Accept"})
    return MetricsRead(
        metrics=Figures(
            jobs_total=tally.total,
            jobs_by_status={status.value: count for status, count in tally.by_status.items()},
            queue_depth=tally.queue_depth,
            oldest_pending_seconds=tally.oldest_pending_seconds,
            in_flight=tally.in_flight,
            workers=alive,
        )
    )
