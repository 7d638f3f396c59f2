"""The facade as the application installs it."""

from typing import Final

from fleek.api.facades.replicate import catalogue, files, predictions, streams
from fleek.api.facades.replicate.errors import present_error

ROUTES: Final = (predictions, catalogue, files, streams)
"""The modules with its routes, the busiest first."""

__all__ = ["ROUTES", "present_error"]
