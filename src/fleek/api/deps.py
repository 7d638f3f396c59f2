"""Dependencies of handlers: the runtime, strict types for parameters, addresses for responses."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Path
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from pydantic import BeforeValidator

from fleek.api.hub import Hub
from fleek.api.queue_positions import QueuePositions
from fleek.api.streams import Streams
from fleek.domain.access import Caller
from fleek.domain.audit import Actor
from fleek.domain.job import JobId
from fleek.engine import media_links
from fleek.engine.runtime import Runtime
from fleek.schemas import Addresses

JOB_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")


def runtime(request: Request) -> Runtime:
    """Return the runtime. The busiest routes call this directly: a dependency costs 50 µs."""
    rt: Runtime = request.app.state.runtime
    return rt


def caller(request: Request) -> Caller:
    """Return who calls; for routes that declare a scope."""
    found: Caller = request.scope["fleek.caller"]
    return found


def actor(request: Request) -> Actor:
    """Return who calls, for the audit log."""
    return Actor(caller(request).key_id, str(request.scope.get("fleek.request_id", "")))


def queue_positions(request: Request) -> QueuePositions:
    """Return the cached queue positions."""
    positions: QueuePositions = request.app.state.queue_positions
    return positions


def hub(request: Request) -> Hub:
    """Return what tells waiting requests of changes."""
    found: Hub = request.app.state.hub
    return found


def streams(request: Request) -> Streams:
    """Return the open event streams of this process."""
    found: Streams = request.app.state.streams
    return found


async def _runtime(request: Request) -> Runtime:
    return runtime(request)


RuntimeDep = Annotated[Runtime, Depends(_runtime)]
"""The runtime of this process."""


def _job_id(value: Any) -> UUID:
    if not isinstance(value, str) or JOB_ID.fullmatch(value) is None:
        raise ValueError("must be a UUID in lower case, with hyphens")
    return UUID(value)


def read_job_id(request: Request) -> JobId:
    """Return the id in the path, for handlers that are called directly; see `JobIdPath`.

    Raises:
        RequestValidationError: It is none.
    """
    given = request.path_params["job_id"]
    try:
        return JobId(_job_id(given))
    except ValueError as error:
        message = f"Value error, {error}"
        problem = {"type": "value_error", "loc": ("path", "job_id"), "msg": message}
        raise RequestValidationError([problem]) from error


JobIdPath = Annotated[
    JobId,
    BeforeValidator(_job_id),
    Path(description="Id of the job.", json_schema_extra={"pattern": f"^{JOB_ID.pattern}$"}),
]
"""A job's id in the path. Only its canonical form is accepted."""


def _strict_int(value: Any) -> Any:
    if not isinstance(value, str) or WHOLE_NUMBER.fullmatch(value) is None:
        raise ValueError("must be a whole number")
    return int(value)


StrictInt = BeforeValidator(_strict_int)
"""For an int: ASCII digits only, without plus sign, spaces, exponent or digits of other scripts."""


def _strict_bool(value: Any) -> Any:
    if value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value == "true"


StrictBool = BeforeValidator(_strict_bool)
"""For a bool: `true` and `false` only."""


def addresses(rt: Runtime) -> Addresses:
    """Return the base addresses for version 1: always absolute."""
    return Addresses(rt.settings.public_base, rt.settings.media_base, _signed(rt))


def own_addresses(request: Request) -> Addresses:
    """Return what `addresses` does; for the busiest routes, made once."""
    found: Addresses = request.app.state.addresses
    return found


def _signed(rt: Runtime) -> Callable[[str], str]:
    """Return what signs the addresses of files, once callers need keys."""

    def query(name: str) -> str:
        return media_links.query(rt.keys.media_secret, name, now=rt.now())

    return query


def flat_addresses(rt: Runtime) -> Addresses:
    """Return the base addresses for the flat routes: absolute only if configured."""
    known = rt.settings.storage_base_url or rt.settings.public_url
    return addresses(rt) if known else Addresses("", "/media", _signed(rt))


def link(rt: Runtime, path: str) -> str:
    """Return the address of a path, for headers and lists: absolute only if configured."""
    return f"{rt.settings.public_base}{path}" if rt.settings.public_url else path


def location_of(what: str) -> dict[str, Any]:
    """Describe the header `Location` that holds the address of something."""
    schema = {"type": "string", "format": "uri-reference"}
    return {"Location": {"description": f"The address of the {what}.", "schema": schema}}


NEXT_LINK: Final = {
    "Link": {
        "description": 'The next page (`rel="next"`), if there may be one.',
        "schema": {"type": "string"},
    }
}
"""Describes the header of a list that has pages."""
