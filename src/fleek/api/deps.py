"""What handlers ask for: the runtime, and parts of the address that are read strictly."""

import re
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Path
from fastapi.requests import Request
from pydantic import BeforeValidator

from fleek.api.queue_positions import QueuePositions
from fleek.domain.job import JobId
from fleek.engine.runtime import Runtime

JOB_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")


def runtime(request: Request) -> Runtime:
    """Return the open collaborators; the busiest routes call this, as a dependency costs 50 µs."""
    found: Runtime = request.app.state.runtime
    return found


def line(request: Request) -> QueuePositions:
    """Return who waits in front of whom."""
    found: QueuePositions = request.app.state.line
    return found


async def _runtime(request: Request) -> Runtime:
    return runtime(request)


RuntimeDep = Annotated[Runtime, Depends(_runtime)]
"""The open collaborators of this process."""


def _job_id(value: Any) -> UUID:
    if not isinstance(value, str) or JOB_ID.fullmatch(value) is None:
        raise ValueError("must be a UUID in lower case, with hyphens")
    return UUID(value)


JobIdPath = Annotated[
    JobId,
    BeforeValidator(_job_id),
    Path(description="The job's id.", json_schema_extra={"pattern": f"^{JOB_ID.pattern}$"}),
]
"""A job's id in the address. Only the canonical spelling is taken."""


def _whole(value: Any) -> Any:
    if not isinstance(value, str) or WHOLE_NUMBER.fullmatch(value) is None:
        raise ValueError("must be a whole number")
    return int(value)


StrictInt = BeforeValidator(_whole)
"""For an int: only plain ASCII digits are one, no plus, spaces, exponent or other script's."""


def _yes_or_no(value: Any) -> Any:
    if value not in {"true", "false"}:
        raise ValueError("must be true or false")
    return value == "true"


StrictBool = BeforeValidator(_yes_or_no)
"""For a bool: what destroys something is asked for in one spelling."""
