"""Routes that declare their scope and read requests strictly.

A route that declares no scope is not served. Whatever a strict route does not
know is refused, never ignored: an ignored parameter hides a typing error, and an ignored
``Idempotency-Key`` pays twice.
"""

import re
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeVar, get_origin

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from fleek.api.access import ACCESS_ERRORS, authorize
from fleek.api.errors import problems
from fleek.api.headers import headers_of
from fleek.api.lazy_route import LazyRoute
from fleek.api.request_body import read_json
from fleek.api.suggestions import HEADERS, Suggestion, fields_at, for_query, model_fields
from fleek.domain.access import ANY_SCOPE, Required
from fleek.domain.errors import (
    ErrorLocation,
    FieldError,
    InvalidInput,
)

SAFE: Final = frozenset({"GET", "HEAD"})
WAIT: Final = re.compile(r"\s*wait\s*(?:[=;]|$)")
NO_KEY: Final = (
    "Idempotency-Key is for requests that create a job: send this one without it; it can be "
    "repeated as it is"
)
NO_WAIT: Final = "Prefer: wait is for requests that create a job: send this one without it"
DOUBLED: Final = Suggestion("each query parameter may be given once")
CHECKED: Final = frozenset({b"idempotency-key", b"prefer", *(name.encode() for name in HEADERS)})
NO_FILES: Final = AsyncExitStack()


SECURITY_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer KEY`. Needed once the installation has keys; the scopes "
        "of an operation are those that the key must have, and `admin` includes all.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "`X-API-Key: KEY`, the same.",
    },
}
"""How a caller shows a key, for the OpenAPI document."""


Handle = Callable[[Request], Coroutine[Any, Any, Response]]
Handler = TypeVar("Handler", bound=Callable[..., Any])


class ScopedRoute(LazyRoute):
    """A route that only callers with its scope may use."""

    scope: ClassVar[Required | None]  # None: anybody may
    words: frozenset[str] = frozenset()
    """Paths of other routes, without parameters, that are no values of this one's parameters."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether this route is meant. A path of words is never that of a parameter.

        Else a method that such a path does not support would lead here: to an invalid id, not 405.
        Most routes are told apart by how a path begins, at a tenth of the cost of their pattern.
        """
        if not scope["path"].startswith(self.beginning):
            return Match.NONE, {}
        match, found = super().matches(scope)
        if self.words and match is not Match.NONE:
            path = self.path_format.format_map(found["path_params"])
            if path in self.words:
                return Match.NONE, {}
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; FastAPI asks for a place for files of forms, which no route takes."""
        scope["fastapi_middleware_astack"] = NO_FILES
        await super().handle(scope, receive, send)

    def get_route_handler(self) -> Handle:
        """Return the handler with the checks before it."""
        handle = self.checked(self.handler())
        scope = self.scope
        if scope is None:
            return handle

        async def authorize_and_handle(request: Request) -> Response:
            await authorize(request, scope)
            return await handle(request)

        return authorize_and_handle

    def handler(self) -> Handle:
        """Return the handler alone, with its parameters read by FastAPI."""
        described = self.dependant
        self.dependant = _without_described_headers(described)
        handle = super().get_route_handler()
        self.dependant = described
        return handle

    def checked(self, handle: Handle) -> Handle:
        """Return the handler with the checks of what the request holds before it."""
        return handle


class StrictRoute(ScopedRoute):
    """A route that refuses what it does not know, and takes its body only as strict JSON."""

    def checked(self, handle: Handle) -> Handle:
        """Return the handler with the checks of query, headers and body before it."""
        known = known_query(self.dependant)
        names = {field.alias for field in get_flat_params(self.dependant)}
        creates = "Idempotency-Key" in names
        waits = "Prefer" in names
        has_body = self.body_field is not None
        body = fields_at(self.body_field.field_info.annotation, ()) if self.body_field else ()

        async def check_and_handle(request: Request) -> Response:
            check_query(request, known, body)
            _check_headers(request, creates=creates, waits=waits)
            return await handle(await read_json(request) if has_body else request)

        return check_and_handle


def _without_described_headers(dependant: Dependant) -> Dependant:
    """Return a route without the headers that it declares for the description of the API alone.

    Their names begin with ``_``: what needs them reads them from the request. To read and validate them
    here as well costs a tenth of a submission.
    """
    read = [header for header in dependant.header_params if not header.name.startswith("_")]
    return replace(dependant, header_params=read)


def _requiring(kind: type[ScopedRoute], scope: Required | None) -> type[ScopedRoute]:
    return type(kind.__name__, (kind,), {"scope": scope})


class Router:
    """Declares routes, each with its scope."""

    def __init__(
        self, prefix: str, *, tag: str, kind: type[ScopedRoute], documented: bool = True
    ) -> None:
        self._kind = kind
        self._router = APIRouter(prefix=prefix, tags=[tag], include_in_schema=documented)

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes that were declared."""
        return self._router.routes

    def get(
        self, path: str, *, scope: Required | None, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Declare a route. `options` are those of ``APIRouter.add_api_route``."""
        return self.declare("GET", path, scope=scope, **options)

    def post(
        self, path: str, *, scope: Required | None, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Declare a route, see `get`."""
        return self.declare("POST", path, scope=scope, **options)

    def patch(
        self, path: str, *, scope: Required | None, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Declare a route, see `get`."""
        return self.declare("PATCH", path, scope=scope, **options)

    def delete(
        self, path: str, *, scope: Required | None, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Declare a route, see `get`."""
        return self.declare("DELETE", path, scope=scope, **options)

    def declare(
        self, method: str, path: str, *, scope: Required | None, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Declare a route of any method, see `get`; `kind`: another one than the router's."""
        kind: type[ScopedRoute] = options.pop("kind", self._kind)
        responses = options.pop("responses", {})
        if issubclass(kind, StrictRoute):
            responses = problems(InvalidInput) | responses
        if scope is not None:
            responses = problems(*ACCESS_ERRORS) | responses
            options["openapi_extra"] = {
                **options.get("openapi_extra", {}),
                "security": [{scheme: _scopes(scope)} for scheme in SECURITY_SCHEMES],
            }

        def declare(handler: Handler) -> Handler:
            """Add the route, and return its handler as it is."""
            self._router.add_api_route(
                path,
                handler,
                methods=[method],
                responses=responses,
                route_class_override=_requiring(kind, scope),
                **options,
            )
            return handler

        return declare


def router(prefix: str = "", *, tag: str) -> Router:
    """Return an empty router of strict routes, all below `prefix`."""
    return Router(prefix, tag=tag, kind=StrictRoute)


def lenient_router(*, tag: str) -> Router:
    """Return an empty router of routes that ignore what they do not know."""
    return Router("", tag=tag, kind=ScopedRoute)


def without_scope(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the routes that declare no scope, of which there must be none."""
    return [route for route in routes if not isinstance(route, ScopedRoute)]


def knowing_words(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the routes, those with parameters knowing the paths without that would fit them."""
    ours = list(routes)
    known = [route for route in ours if isinstance(route, ScopedRoute)]
    plain = [route.path for route in known if not route.param_convertors]
    for route in known:
        if route.param_convertors:
            near = (path for path in plain if path.startswith(route.beginning))
            route.words = frozenset(path for path in near if route.path_regex.match(path))
    return ours


def answering_head(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """Return the routes with a HEAD beside each GET, behind all others and not documented."""
    ours = list(routes)
    heads: list[BaseRoute] = []
    for route in ours:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            head = copy(route)
            head.methods, head.include_in_schema = {"HEAD"}, False
            heads.append(head)
    return ours + heads


def _scopes(scope: Required) -> list[str]:
    return [] if scope == ANY_SCOPE else [str(scope)]


def known_query(dependant: Dependant) -> dict[str, bool]:
    """Return the names of all query parameters, and whether each may be given several times."""
    known: dict[str, Any] = {}
    for parameter in dependant.query_params:
        annotation = parameter.field_info.annotation
        fields = model_fields(annotation)  # a parameter of its own, or a model of several
        known |= {name: field.annotation for name, field in fields.items()} or {
            parameter.alias: annotation
        }
    repeatable = {name: get_origin(annotation) is list for name, annotation in known.items()}
    for inner in dependant.dependencies:
        repeatable |= known_query(inner)
    return repeatable


def check_query(request: Request, known: Mapping[str, bool], body: Collection[str]) -> None:
    """Refuse query parameters that are not `known`; `body`: the names of the body's fields.

    Raises:
        InvalidInput: There is one, or one that is given twice.
    """
    if not request.scope["query_string"]:
        return
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise _refusal("query", name, "unknown", for_query(name, known.keys(), body))
        if name in seen and not known[name]:  # readers would disagree about which one counts
            raise _refusal("query", name, "duplicate", DOUBLED)
        seen.add(name)


def _check_headers(request: Request, *, creates: bool, waits: bool) -> None:
    if request.method in SAFE:
        return
    if CHECKED.isdisjoint(headers_of(request.scope)):
        return  # as in most requests
    if not creates and "idempotency-key" in request.headers:
        raise _refusal("header", "Idempotency-Key", "unsupported", Suggestion(NO_KEY))
    for name in HEADERS.keys() & request.headers.keys():
        raise _refusal("header", name, "unsupported", HEADERS[name])
    preferences = ",".join(request.headers.getlist("prefer")).lower()
    if not waits and any(WAIT.match(preference) for preference in preferences.split(",")):
        raise _refusal("header", "Prefer", "unsupported", Suggestion(NO_WAIT))


def _refusal(
    location: ErrorLocation, name: str, code: str, suggestion: Suggestion
) -> InvalidInput:
    detail, target = suggestion.detail, suggestion.target
    problem = FieldError(f"/{name}", code, detail, location=location, suggestion=target)
    return InvalidInput(detail, errors=[problem])
