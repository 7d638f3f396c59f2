"""Pages for browsers and the files they load, all our own: nothing comes from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from fleek.api.links import addresses
from fleek.api.routing import router as strict_router
from fleek.domain.errors import NotFound
from fleek.schemas import Problem, example

WEB: Final = Path(__file__).parent.parent / "web"
STATIC: Final[Mapping[str, Path]] = {
    path.relative_to(WEB).as_posix(): path
    for path in sorted(WEB.rglob("*"))
    if path.is_file() and path.suffix in {".css", ".js", ".svg", ".txt"}
}
"""What may be loaded, by name. An address is looked up here and never made into a path."""

PAGE_POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
DOCS_POLICY: Final = PAGE_POLICY | {
    # The two readers of the API's description write styles into the page and search in a worker.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
}
VENDORED: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
OURS: Final = {"Cache-Control": "no-cache"}

router = strict_router(tag="pages")


class StrictInt(FileResponse):
    """A file that is sent whole, whatever part of it is asked for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self.headers["Accept-Ranges"] = "none"
        headers = [field for field in scope["headers"] if field[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """Show the API in Swagger UI."""
    return StrictInt(WEB / "docs.html", headers=DOCS_POLICY)


@router.get("/redoc", include_in_schema=False)
async def redoc() -> Response:
    """Show the API in Redoc."""
    return StrictInt(WEB / "redoc.html", headers=DOCS_POLICY)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Return the description of the API for programs."""
    return JSONResponse(describe(request.app))


@router.get("/static/{name:path}", include_in_schema=False)
async def static(name: str) -> Response:
    """Return a file that a page loads. Those of others have their version in their name."""
    path = STATIC.get(name)
    if path is None:
        raise NotFound("there is no such file")
    caching = VENDORED if name.startswith("vendor/") else OURS
    return StrictInt(path, headers=caching | {"X-Content-Type-Options": "nosniff"})


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document, made once."""
    if app.openapi_schema is None:
        document = app.openapi()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas.update(schema.pop("$defs"))
        schemas["Problem"] = schema
        # The framework has left out the nulls of the example.
        schemas["JobRead"]["examples"] = [example(addresses(app.state.runtime))]
        _drop_defaults(document)
    return app.openapi()


def _drop_defaults(document: dict[str, Any]) -> None:
    """Take out the framework's own form of a refusal, which we never answer with."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            refusal = operation["responses"].get("422", {})
            if "application/json" in refusal.get("content", {}):
                del operation["responses"]["422"]
