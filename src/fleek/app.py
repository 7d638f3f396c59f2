"""The web application on an open runtime."""

from collections.abc import Iterable, Mapping
from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from fleek import __version__
from fleek.api import errors
from fleek.api.access import RefusedKeys
from fleek.api.admin_refusals import AdminRefusals
from fleek.api.admission import Admission, WriteLimits
from fleek.api.application import Application
from fleek.api.deps import addresses
from fleek.api.facades import registry
from fleek.api.facades.headers import REQUEST_HEADERS, RESPONSE_HEADERS
from fleek.api.facades.repeats import Repeats
from fleek.api.feed import Feed
from fleek.api.hosts import HostOriginMiddleware
from fleek.api.hub import Hub
from fleek.api.metrics import ApiMetrics
from fleek.api.middleware import RequestIdMiddleware
from fleek.api.peers import Peers
from fleek.api.queue_positions import QueuePositions
from fleek.api.request_rates import RequestRates
from fleek.api.route_modules import RouteModules
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

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "/api/v1/jobs": ("lists", "jobs", "bulk", "events", "job_logs", "media"),
    "/api/v1/generate": ("jobs",),
    "/api/v1/status": ("jobs",),
    "/api/v1/batches": ("batches", "batch_events", "batch_outputs"),
    "/api/v1/operations": ("bulk",),
    "/api/v1/events": ("tenant_events",),
    "/api/v1/download": ("media",),
    "/media": ("media",),
    "/generate": ("flat",),
    "/status": ("flat",),
    "/webhooks": ("callbacks",),
    "/api/v1/models": ("models",),
    **dict.fromkeys(("/health", "/health-check", "/livez", "/readyz"), ("health",)),
    "/api/v1/uploads": ("uploads",),
    "/api/v1/webhooks": ("webhooks",),
    "/api/v1/keys": ("keys",),
    "/api/v1/me": ("keys",),
    "/api/v1/tenants": ("tenants",),
    **dict.fromkeys(("/api/v1/estimate", "/api/v1/usage", "/api/v1/budgets"), ("costs",)),
    "/api/v1/queue": ("queue",),
    "/api/v1/stats": ("stats",),
    **dict.fromkeys(("/", "/info", "/metrics"), ("system",)),
    **dict.fromkeys(("/docs", "/redoc", "/openapi.json", "/static"), ("pages",)),
}
"""The modules of `fleek.api` by how the paths of their routes begin."""

AT_START: Final = ("/api/v1/generate", "/generate")
"""Beginnings of the routes that most requests are for: they are in a table."""

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
    ours = {begins: [f"fleek.api.{name}" for name in names] for begins, names in MODULES.items()}
    api = RouteModules(ours, prepare=_prepare, documented=True)
    facades = RouteModules(registry.modules(), prepare=_prepare, documented=False)
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
        routes=[api, facades],
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
    errors.install(app, registry.error_forms())
    api.load(app, *AT_START)
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
