"""The facade as the application takes it."""

from typing import Final

from fleek.api.facades.openai import catalogue, images, speech, videos
from fleek.api.facades.openai.errors import present_error

__all__ = ["ROUTES", "present_error"]

ROUTES: Final = (images, videos, speech, catalogue)
"""Modules, each with a `router`."""
