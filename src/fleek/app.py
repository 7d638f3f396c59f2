"""The web application over an open runtime."""

from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from fleek import __version__
from fleek.api import callbacks, flat, handlers, health, jobs, media, models, pages, system
from fleek.api.admission import Admission
from fleek.api.metrics import ApiMetrics
from fleek.api.middleware import Gate, RequestIdMiddleware
from fleek.api.queue_positions import QueuePositions
from fleek.api.routing import answering_head
from fleek.api.short_cache import NegativeCache, ShortCache
from fleek.engine.runtime import Runtime

DESCRIPTION: Final = """\
A prompt goes in, media comes out, and nothing is lost in between.

`POST /api/v1/generate` accepts a job and answers at once. Ask for it at `Location` until its
`status` is `completed`, `failed` or `cancelled`; then `result_url` is where the file is.

Every error is a problem document (RFC 9457) with a stable `code`.
"""

TAGS: Final = [
    {"name": "jobs", "description": "Ask for media and follow it."},
    {"name": "media", "description": "The files, and what is known about them."},
    {"name": "models", "description": "What can be asked for."},
    {"name": "flat", "description": "The same with flat answers, for simple clients."},
    {"name": "system", "description": "Health, figures, addresses."},
]

# FastAPI looks for a tracer at each request, found or not; that costs a tenth of a status read.
UNTRACED: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

ROUTERS: Final = (jobs, media, flat, callbacks, models, health, system, pages)  # the busiest first

EXPOSED: Final = (
    *("Content-Disposition", "Content-Range", "ETag", "Link", "Location"),
    *("Retry-After", "X-Request-ID"),
)


def create_app(rt: Runtime) -> FastAPI:
    """Return the application; `rt` stays open as long as it serves, and is not closed by it."""
    metrics = ApiMetrics(rt.metrics.registry)
    app = FastAPI(
        title="Fleek",
        summary="The media-generation service that never loses a job and never pays twice",
        description=DESCRIPTION,
        version=__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        openapi_tags=TAGS,
        servers=[{"url": rt.settings.public_base}] if rt.settings.public_url else None,
        openapi_url=None,  # we serve it, and the pages that show it: see fleek.api.pages
        telemetry=UNTRACED,
        redirect_slashes=False,  # a redirect would be made from the caller's Host header
        routes=answering_head(route for module in ROUTERS for route in module.router.routes),
        middleware=[
            Middleware(RequestIdMiddleware, metrics=metrics.http),
            Middleware(Gate, settings=rt.settings),
            *_cors(rt),
            Middleware(Admission),
        ],
    )
    app.state.runtime = rt
    app.state.metrics = metrics
    app.state.line = QueuePositions()
    app.state.health = ShortCache()
    app.state.unknown_tokens = NegativeCache()
    handlers.install(app)
    return app


def _cors(rt: Runtime) -> list[Middleware]:
    if not rt.settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=rt.settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "X-API-Key", "X-Request-ID"),
            expose_headers=EXPOSED,
        )
    ]
