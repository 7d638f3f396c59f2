"""The facade as the application installs it."""

from typing import Final

from fleek.api.facades.fal import direct, queue, storage
from fleek.api.facades.fal.errors import present_error

ROUTES: Final = (queue, storage, direct)
"""The modules with its routes, the busiest first."""

__all__ = ["ROUTES", "present_error"]
