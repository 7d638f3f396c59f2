"""Every address that is given out is made here: it follows ``PUBLIC_URL``, its path included.

Nothing that a caller or a proxy sends has a part in it.
"""

from fleek.engine.runtime import Runtime
from fleek.schemas import Addresses


def addresses(rt: Runtime) -> Addresses:
    """Return where callers of version 1 find things: always absolute."""
    return Addresses(rt.settings.public_base, rt.settings.media_base)


def flat_addresses(rt: Runtime) -> Addresses:
    """Return where callers of the flat routes find files: absolute only if the operator says."""
    known = rt.settings.storage_base_url or rt.settings.public_url
    return addresses(rt) if known else Addresses("", "/media")


def link(rt: Runtime, path: str) -> str:
    """Return the address of a path of ours, for headers and lists of addresses.

    It is absolute only if the operator says where we are: else callers know better.
    """
    return f"{rt.settings.public_base}{path}" if rt.settings.public_url else path
