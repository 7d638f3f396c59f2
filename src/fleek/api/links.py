"""Builds every address in responses from ``PUBLIC_URL``, never from a request's headers."""

from fleek.engine.runtime import Runtime
from fleek.schemas import Addresses


def addresses(rt: Runtime) -> Addresses:
    """Return the base addresses for version 1: always absolute."""
    return Addresses(rt.settings.public_base, rt.settings.media_base)


def flat_addresses(rt: Runtime) -> Addresses:
    """Return the base addresses for the flat routes: absolute only if configured."""
    known = rt.settings.storage_base_url or rt.settings.public_url
    return addresses(rt) if known else Addresses("", "/media")


def link(rt: Runtime, path: str) -> str:
    """Return the address of a path, for headers and lists: absolute only if configured."""
    return f"{rt.settings.public_base}{path}" if rt.settings.public_url else path
