"""The web application on an open runtime."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from fleek import __version__
from fleek.api import (
    batch_events,
    batch_outputs,
    batches,
    bulk,
    callbacks,
    costs,
    errors,
    events,
    flat,
    health,
    job_logs,
    jobs,
    keys,
    lists,
    media,
    models,
    pages,
    queue,
    stats,
    system,
    tenant_events,
    tenants,
    uploads,
    webhooks,
)
from fleek.api.access import RefusedKeys
from fleek.api.admin_refusals import AdminRefusals
from fleek.api.admission import Admission, WriteLimits
from fleek.api.application import Application
from fleek.api.deps import addresses
from fleek.api.facades.headers import REQUEST_HEADERS, RESPONSE_HEADERS
from fleek.api.facades.lazy import LazyFacade
from fleek.api.facades.repeats import Repeats
from fleek.api.feed import Feed
from fleek.api.hosts import HostOriginMiddleware
from fleek.api.hub import Hub
from fleek.api.metrics import ApiMetrics
from fleek.api.middleware import RequestIdMiddleware
from fleek.api.peers import Peers
from fleek.api.queue_positions import QueuePositions
from fleek.api.request_rates import RequestRates
from fleek.api.routing import answering_head, knowing_words, without_scope
from fleek.api.short_cache import NegativeCache, ShortCache
from fleek.api.streams import Streams
from fleek.domain.errors import InternalError
from fleek.engine.runtime import Runtime

DESCRIPTION: Final = """\
Create jobs from prompts, and download the generated media.

`POST /api/v1/generate` accepts a job and responds at once. Poll the address in `Location` until
`status` is `completed`, `failed` or `cancelled`; a completed job has its file at `result_url`.

Every error is a problem document (RFC 9457) with a stable `code`.
"""

TAGS: Final = [
    {"name": "jobs", "description": "Create, read, list, cancel, purge and retry jobs."},
    {"name": "batches", "description": "Many jobs in one call."},
    {"name": "events", "description": "What happens to jobs, as it happens."},
    {"name": "media", "description": "Download files and metadata documents."},
    {"name": "uploads", "description": "Files that jobs take as inputs."},
    {"name": "webhooks", "description": "Where events are sent, and what became of them."},
    {"name": "models", "description": "Available models and their parameters."},
    {"name": "costs", "description": "What jobs cost."},
    {"name": "flat", "description": "The same jobs with flat responses, for simple clients."},
    {"name": "keys", "description": "API keys and tenants, for operators."},
    {"name": "system", "description": "Health, metrics and service information."},
]

# FastAPI looks for a tracer at each request: a tenth of the cost of a status request.
UNTRACED: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

ROUTERS: Final = (  # the busiest first
    *(
        lists,
        jobs,
        bulk,
        batches,
        batch_events,
        batch_outputs,
        events,
        tenant_events,
        job_logs,
        media,
        flat,
        callbacks,
        models,
        health,
        uploads,
        webhooks,
        keys,
        tenants,
        costs,
        queue,
        stats,
        system,
        pages,
    ),
)

FACADES: Final[Mapping[str, Sequence[str]]] = {
    "replicate": ["replicate"],
    "fal": ["fal", "fal-queue"],
    "openai": ["openai"],
}
"""The first parts of the paths of each facade."""

ALLOWED: Final = (
    *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer"),
    *("X-API-Key", "X-Request-ID"),
    *REQUEST_HEADERS,
)
"""The headers that pages of other origins may send."""

EXPOSED: Final = (
    *("Content-Disposition", "Content-Range", "ETag", "Idempotent-Replayed", "Link", "Location"),
    *("Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Fleek-Adjusted"),
    *("X-Fleek-Ignored", "X-Fleek-Job", "X-Request-ID", "X-Total-Count"),
    *RESPONSE_HEADERS,
)
"""The headers that pages of other origins may read."""


def create_app(rt: Runtime) -> FastAPI:
    """Return the application. It does not close `rt`, which must stay open while it serves."""
    facades = [LazyFacade(name, *parts, prepare=_prepare) for name, parts in FACADES.items()]
    routes = _prepare(route for module in ROUTERS for route in module.router.routes)
    metrics, proxies = ApiMetrics(rt.metrics.registry), Peers(rt.settings.forwarded_allow_ips)
    limits = WriteLimits()
    app = Application(
        title="Fleek",
        summary="The media-generation service that never loses a job and never pays twice",
        description=DESCRIPTION,
        version=__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        openapi_tags=TAGS,
        servers=[{"url": rt.settings.public_base}] if rt.settings.public_url else None,
        openapi_url=None,  # see fleek.api.pages
        telemetry=UNTRACED,
        redirect_slashes=False,  # a redirect would be made from the caller's Host header
        routes=[*routes, *facades],
        middleware=[
            Middleware(RequestIdMiddleware, metrics=metrics.http, proxies=proxies),
            Middleware(HostOriginMiddleware, settings=rt.settings),
            *_cors(rt),
            Middleware(Admission, limits=limits),
        ],
    )
    _add_state(app, rt)
    app.state.metrics = metrics
    app.state.write_limits = limits
    app.state.proxies = proxies
    forms = (form for facade in facades for form in facade.error_forms.items())
    errors.install(app, dict(forms))
    return app


def _add_state(app: FastAPI, rt: Runtime) -> None:
    """Add what handlers share from one request to the next."""
    app.state.runtime = rt
    app.state.addresses = addresses(rt)
    app.state.queue_positions = QueuePositions()
    app.state.health = ShortCache()
    app.state.hub = Hub(rt)
    app.state.streams = Streams(rt)
    app.state.feed = Feed(rt)
    app.state.unknown_tokens = NegativeCache()
    app.state.refused_keys = RefusedKeys()
    app.state.admin_refusals = AdminRefusals(rt)
    app.state.request_rates = RequestRates(rt)
    app.state.repeats = Repeats()


def _prepare(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    declared = list(routes)
    if missing := without_scope(declared):
        raise InternalError(f"these routes declare no scope: {missing}")
    return answering_head(knowing_words(declared))


def _cors(rt: Runtime) -> list[Middleware]:
    if not rt.settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=rt.settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=ALLOWED,
            expose_headers=EXPOSED,
        )
    ]
