"""Authentication and authorization of requests."""

from fastapi.requests import Request

from fleek.domain.access import ANONYMOUS, Scope
from fleek.domain.errors import InsufficientScope


async def authorize(request: Request, scope: Scope) -> None:
    """Find out who calls, for `caller`, and check the scope.

    Raises:
        InsufficientScope: The caller may not do this.
    """
    found = ANONYMOUS
    if not found.may(scope):
        raise InsufficientScope(f"this needs a key with the scope {scope.value}")
    request.scope["fleek.caller"] = found
