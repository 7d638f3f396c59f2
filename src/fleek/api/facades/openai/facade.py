"""The facade as the application takes it."""

from typing import Final

from fleek.api.facades.openai import catalogue, images, speech, videos
from fleek.api.facades.openai.errors import present_error

__all__ = ["REQUEST_HEADERS", "RESPONSE_HEADERS", "ROUTES", "present_error"]

ROUTES: Final = (images, videos, speech, catalogue)
"""Modules, each with a `router`."""

REQUEST_HEADERS: Final = (
    *("OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch", "X-Stainless-Helper-Method"),
    *("X-Stainless-Lang", "X-Stainless-OS", "X-Stainless-Package-Version"),
    *("X-Stainless-Poll-Helper", "X-Stainless-Custom-Poll-Interval", "X-Stainless-Retry-Count"),
    *("X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout"),
)
"""What its client sends, in a browser, too."""

RESPONSE_HEADERS: Final = ("openai-poll-after-ms", "x-should-retry")
"""What its client reads."""
