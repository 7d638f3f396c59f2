"""Authentication and authorization of requests."""

from fastapi.requests import Request

from fleek.domain.access import ANONYMOUS, Caller, Scope
from fleek.domain.errors import InsufficientScope
from fleek.engine.runtime import Runtime


async def authorize(request: Request, scope: Scope) -> None:
    """Find out who calls, for `caller`, and check the scope.

    Raises:
        InsufficientScope: The caller may not do this.
    """
    found = ANONYMOUS
    if not found.may(scope):
        raise InsufficientScope(f"this needs a key with the scope {scope.value}")
    request.scope["fleek.caller"] = found


async def is_current(_rt: Runtime, caller: Caller) -> bool:
    """Whether a caller whose request goes on may keep it: the key is not revoked or expired.

    Asked twice a second for each key with open event streams.
    """
    return caller.key_id is None  # there are no keys yet
