"""What tells a repeated request from a new one."""

import re
from datetime import timedelta
from typing import Final

from fleek.domain.values import dataclass

KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
"""An ``Idempotency-Key``: visible ASCII characters."""


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The identity of a request that creates a job.

    Requests with the same key are one request. Without a key, a request repeats an earlier one
    with the same digest that is not older than `window`, if that had no key either.
    """

    tenant_id: str
    digest: bytes  # SHA-256 of the tenant and the parsed request
    key: str | None = None
    window: timedelta = timedelta(0)
    ordered: bool = False
    """Whether requests with this digest are accepted one after the other, so that one sees another
    that is being accepted; always so with a `window`."""
