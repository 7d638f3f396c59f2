"""The certificate authorities that clients of tests trust."""

import ssl
from functools import cache


@cache
def trusted() -> ssl.SSLContext:
    """Return one TLS context for all clients of a process: each takes 30 ms to read the system's."""
    return ssl.create_default_context()
