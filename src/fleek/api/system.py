"""Service information and metrics."""

import platform
from typing import Any, Final

from fastapi.requests import Request
from fastapi.responses import Response

from fleek import __version__
from fleek.api.deps import RuntimeDep, link
from fleek.api.errors import problems
from fleek.api.health import SERVICE
from fleek.api.metrics import ApiMetrics
from fleek.api.pages import OURS, WEB, PageFile, page_policy
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable
from fleek.schemas.base import Schema
from fleek.store import provider_health, queue, workers
from fleek.store.counters import count_jobs

DESCRIPTION: Final = "Generates media from prompts, and never loses a job."


class Root(Schema):
    """The name and version of the service."""

    service: str = "Fleek Media Service"
    version: str = __version__
    description: str = DESCRIPTION
    docs: str = "/docs"
    status: str = "running"


class Environment(Schema):
    """The environment of the service, without addresses and secrets."""

    python: str
    system: str
    database: str
    dispatch: str
    provider: str
    storage: str
    debug: bool


class Info(Schema):
    """The environment and the routes of the service."""

    service: str = SERVICE
    version: str = __version__
    description: str = DESCRIPTION
    environment: Environment
    endpoints: dict[str, str]
    monitoring: dict[str, str]


class Figures(Schema):
    """Numbers of jobs and workers."""

    jobs_total: int
    jobs_by_status: dict[str, int]
    queue_depth: int
    oldest_pending_seconds: float | None
    in_flight: int
    workers: int


class MetricsRead(Schema):
    """Metrics as JSON."""

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
    scope=None,
    operation_id="root",
    summary="Service name",
    response_description="The name and version of the service.",
    response_model=Root,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def root(request: Request, rt: RuntimeDep) -> Root | Response:
    """Return the web page to a browser, and the name of the service to other clients."""
    if "text/html" in request.headers.get("accept", ""):
        policy = await page_policy(rt)
        return PageFile(WEB / "index.html", headers=policy | OURS | {"Vary": "Accept"})
    return Root(docs=link(rt, Root().docs))


@router.get(
    "/info",
    scope=Scope.METRICS_READ,
    operation_id="info",
    summary="Service information",
    response_description="The environment and the routes of the service.",
)
async def info(rt: RuntimeDep) -> Info:
    """Return the environment of the service and its routes."""
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
    scope=Scope.METRICS_READ,
    operation_id="metrics",
    summary="Metrics",
    response_description="The metrics.",
    response_model=MetricsRead,
    responses=METRICS | problems(DatabaseUnavailable),
)
async def metrics(request: Request, rt: RuntimeDep) -> MetricsRead | Response:
    """Return metrics: in Prometheus or OpenMetrics format if `Accept` asks for text, else as JSON."""
    counts = await count_jobs(rt.db, now=rt.now())
    alive = len(await workers.alive(rt.db, since=rt.now() - rt.lease.dead_after))
    accept = request.headers.get("accept", "")
    if "text/plain" in accept or "application/openmetrics-text" in accept:
        figures: ApiMetrics = request.app.state.metrics
        now = rt.now()
        impaired = await provider_health.impaired(rt.db, now=now)
        postponed = await queue.postponed(rt.db)
        figures.show(counts, workers=alive, postponed=postponed, impaired=impaired, now=now)
        body, content_type = figures.expose(accept)
        return Response(body, headers={"Content-Type": content_type, "Vary": "Accept"})
    return MetricsRead(
        metrics=Figures(
            jobs_total=counts.total,
            jobs_by_status={status.value: count for status, count in counts.by_status.items()},
            queue_depth=counts.queue_depth,
            oldest_pending_seconds=counts.oldest_pending_seconds,
            in_flight=counts.in_flight,
            workers=alive,
        )
    )
