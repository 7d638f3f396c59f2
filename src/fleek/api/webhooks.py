"""Version 1: outgoing webhooks."""

from fastapi.requests import Request

from fleek.api.deps import caller, runtime
from fleek.api.errors import problems
from fleek.api.routing import router as strict_router
from fleek.domain.access import Scope
from fleek.domain.errors import DatabaseUnavailable
from fleek.engine.webhooks import signing_secrets
from fleek.schemas.webhooks import SecretRead

router = strict_router("/api/v1/webhooks", tag="webhooks")


@router.get(
    "/secret",
    scope=Scope.WEBHOOKS_READ,
    operation_id="get_webhook_secret",
    summary="Get the secret of webhooks of jobs",
    response_description="The secret.",
    responses=problems(DatabaseUnavailable),
)
async def get_webhook_secret(request: Request) -> SecretRead:
    """Return what signs webhooks that go to the `webhook_url` of a job."""
    secrets = await signing_secrets(runtime(request), tenant_id=caller(request).tenant_id)
    return SecretRead(secret=secrets[0])
