"""The facade as the application installs it."""

from typing import Final

from fleek.api.facades.fal import direct, queue
from fleek.api.facades.fal.errors import present_error

ROUTES: Final = (queue, direct)
"""The modules with its routes, the busiest first."""

REQUEST_HEADERS: Final = (
    *("X-Fal-No-Retry", "X-Fal-Object-Lifecycle-Preference", "X-Fal-Queue-Priority"),
    *("X-Fal-Request-Timeout", "X-Fal-Runner-Hint", "X-Fal-Target-Url"),
)
"""What its client sends, in a browser, too."""

RESPONSE_HEADERS: Final = ("x-fal-request-id",)
"""What its client reads."""

__all__ = ["REQUEST_HEADERS", "RESPONSE_HEADERS", "ROUTES", "present_error"]
