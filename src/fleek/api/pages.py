"""Pages for browsers and the files they load, all our own: nothing comes from elsewhere.

Query parameters are ignored here: trackers and caches add theirs to the addresses of pages.
"""

import asyncio
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send
from yarl import URL

from fleek.api.deps import addresses
from fleek.api.lazy_route import LazyRoute
from fleek.api.media import unchanged
from fleek.api.request_rates import RATE_HEADERS
from fleek.api.route_modules import load_documented_beside
from fleek.api.routing import SECURITY_SCHEMES, lenient_router
from fleek.api.webhook_events import describe_webhooks
from fleek.domain.errors import NotFound, StorageError
from fleek.domain.media import Key
from fleek.domain.values import dataclass
from fleek.engine.runtime import Runtime
from fleek.schemas import Problem, example

WEB: Final = Path(__file__).parent.parent / "web"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
STATIC: Final[Mapping[str, Path]] = {
    path.relative_to(WEB).as_posix(): path
    for path in sorted(WEB.rglob("*"))
    if path.is_file() and path.suffix in TYPES
}
"""What may be loaded, by name. An address is looked up here and never made into a path."""

SAFETY: Final = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
DOCS_POLICY: Final = SAFETY | {
    # The two readers of the API's description write styles into the page and search in a worker.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
}
VENDORED: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
OURS: Final = {"Cache-Control": "no-cache"}

ANY_FILE: Final = Key("media/any")

router = lenient_router(tag="pages")


async def page_policy(rt: Runtime) -> dict[str, str]:
    """Return the headers of the web page: it loads nothing but this service's own files.

    A storage that serves its files itself is the only exception, for pictures, sound and film.
    """
    try:
        link = await rt.storage.url(ANY_FILE)
    except StorageError:
        link = None
    files = "" if link is None else f" {URL(link.address).origin()}"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' blob: data:{files}; media-src 'self'{files}; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )
    return SAFETY | {"Content-Security-Policy": policy}


class PageFile(FileResponse):
    """A file that is always sent as a whole: Range is ignored."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self.headers["Accept-Ranges"] = "none"
        headers = [field for field in scope["headers"] if field[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


@router.get("/docs", scope=None, include_in_schema=False)
async def docs() -> Response:
    """Show the API in Swagger UI."""
    return PageFile(WEB / "docs.html", headers=DOCS_POLICY)


@router.get("/redoc", scope=None, include_in_schema=False)
async def redoc() -> Response:
    """Show the API in Redoc."""
    return PageFile(WEB / "redoc.html", headers=DOCS_POLICY)


@router.get("/openapi.json", scope=None, include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Return the OpenAPI document; its bytes are made once."""
    document = await description(request.app)
    headers = OURS | {"ETag": document.etag}
    if unchanged(request.headers, document.etag):
        return Response(status_code=304, headers=headers)
    return Response(document.data, headers=headers, media_type="application/json")


@router.get("/static/{name:path}", scope=None, include_in_schema=False)
async def static(name: str, request: Request) -> Response:
    """Return a file that a page loads. Those of others have their version in their name.

    It is compressed for whoever accepts that, and not sent to whoever has it.
    """
    if name not in STATIC:
        raise NotFound("there is no such file")
    file = await asyncio.to_thread(StaticFile.of, STATIC[name])
    caching = VENDORED if name.startswith("vendor/") else OURS
    headers = caching | {
        "Accept-Ranges": "none",
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if unchanged(request.headers, file.etag):
        return Response(status_code=304, headers=headers)
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.data, headers=headers, media_type=file.content_type)
    headers["Content-Encoding"] = "gzip"
    return Response(file.compressed, headers=headers, media_type=file.content_type)


def accepts_gzip(said: str) -> bool:
    """Whether a header Accept-Encoding names gzip, and not with the weight 0."""
    for one in said.lower().split(","):
        name, _, weight = one.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that a page loads, as it is sent; read again only when it was changed."""

    data: bytes
    compressed: bytes
    etag: str
    content_type: str

    @classmethod
    def of(cls, path: Path) -> "StaticFile":
        """Return a file of `STATIC`."""
        return _static_file(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _static_file(path: Path, _changed: int) -> StaticFile:
    data = path.read_bytes()
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return StaticFile(data, gzip.compress(data, 9, mtime=0), etag, TYPES[path.suffix])


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document as it is sent, with its entity tag."""

    data: bytes
    etag: str

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """Serialize a value."""
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(data, f'"{hashlib.sha256(data).hexdigest()}"')


async def description(app: FastAPI) -> Document:
    """Return the OpenAPI document as it is sent, made by the first request; others are answered meanwhile."""
    making: asyncio.Future[Document] | None = getattr(app.state, "openapi_document", None)
    if making is None:
        making = app.state.openapi_document = asyncio.ensure_future(_describe_beside(app))
    try:
        return await asyncio.shield(making)  # a caller that goes away ends it for no other
    except Exception:
        if app.state.openapi_document is making:
            app.state.openapi_document = None  # the next request tries again
        raise


async def _describe_beside(app: FastAPI) -> Document:
    """Load and build all routes, one at a time, and describe them in a thread: a third of a second in all."""
    await load_documented_beside(app)
    for route in list(app.routes):
        if isinstance(route, LazyRoute) and route.include_in_schema:
            route.build()
            await asyncio.sleep(0)
    return await asyncio.to_thread(lambda: Document.of(describe(app)))


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document, made once."""
    if app.openapi_schema is None:
        document = app.openapi()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas.update(schema.pop("$defs"))
        schemas["Problem"] = schema
        document["components"]["securitySchemes"] = SECURITY_SCHEMES
        document["components"]["headers"] = RATE_HEADERS
        document["webhooks"] = describe_webhooks()
        _describe_rates(document)
        # The framework has left out the nulls of the example.
        schemas["JobRead"]["examples"] = [example(addresses(app.state.runtime))]
        _drop_defaults(document)
    return app.openapi()


def _describe_rates(document: dict[str, Any]) -> None:
    """Add the headers with the rate limit to the responses of operations that it applies to."""
    references = {name: {"$ref": f"#/components/headers/{name}"} for name in RATE_HEADERS}
    for path in document["paths"].values():
        for operation in path.values():
            if "security" not in operation:
                continue
            for status, response in operation["responses"].items():
                if status.startswith("2") or status == "429":
                    response["headers"] = response.get("headers", {}) | references


def _drop_defaults(document: dict[str, Any]) -> None:
    """Take out the framework's own form of a refusal, which we never answer with."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            refusal = operation["responses"].get("422", {})
            if "application/json" in refusal.get("content", {}):
                del operation["responses"]["422"]
