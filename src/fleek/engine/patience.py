"""How long a provider is waited for: one that hangs must not hold up a loop for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fleek.domain.errors import ProviderUnavailable
from fleek.providers.base import UNREACHABLE


@asynccontextmanager
async def in_time(provider: str, limit: timedelta) -> AsyncIterator[None]:
    """Bound one call of a provider that costs nothing, or may be repeated.

    Raises:
        ProviderUnavailable: It has not answered in time; ``code`` is ``provider_unreachable``.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()):
            yield
    except TimeoutError:
        message = f"{provider} did not answer within {limit.total_seconds():g} s"
        raise ProviderUnavailable(message, code=UNREACHABLE) from None
