"""Limits of the rate of requests, by key, or by address for callers without a key.

Each process takes tokens from the database in advance, see `fleek.store.request_rates`. While the database
cannot be written to, each counts alone: a read must not be refused then.
"""

import asyncio
import math
from collections import OrderedDict
from dataclasses import field
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

import structlog

from fleek.domain.access import ANONYMOUS, Caller
from fleek.domain.errors import HostError, RateLimited
from fleek.domain.request_rate import RequestRate
from fleek.domain.values import dataclass
from fleek.engine.runtime import Runtime
from fleek.store import request_rates
from fleek.store.request_rates import Lease

MOST_BUCKETS: Final = 4096  # in memory; of one that is dropped, the tokens in advance are lost
ALONE_SECONDS: Final = 5.0  # before the database is tried again
ROUNDING: Final = 1e-6  # tokens
IPV6_NETWORK: Final = 64  # bits of the network of one caller

RATE_HEADERS: Final = {
    "RateLimit-Policy": {
        "description": "The limit of the rate of requests: `q` requests in `w` seconds.",
        "schema": {"type": "string", "examples": ['"default";q=600;w=60']},
    },
    "RateLimit": {
        "description": "How many requests may be sent at once (`r`), and in how many seconds it is "
        "the whole burst again (`t`).",
        "schema": {"type": "string", "examples": ['"default";r=99;t=1']},
    },
}
"""The headers, for the OpenAPI document."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a caller may still send, for the headers of the response."""

    rate: RequestRate
    remaining: int  # requests that may be sent at once
    reset: float  # seconds until that is the whole burst again
    wait: timedelta | None = None  # of a request that is refused: until there is a token

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields.

        Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
        """
        seconds = math.ceil(self.reset)
        return [
            (b"ratelimit-policy", f'"default";q={self.rate.per_minute};w=60'.encode()),
            (b"ratelimit", f'"default";r={self.remaining};t={seconds}'.encode()),
        ]


@dataclass(slots=True, eq=False)
class _Bucket:
    """What this process knows of a bucket."""

    name: str
    full_at: datetime
    tokens: int = 0  # taken in advance
    empty_until: float = -math.inf  # steady seconds
    waiting: int = 0  # requests
    filling: asyncio.Task[None] | None = field(default=None, repr=False)


def bucket_of(caller: Caller, address: str | None) -> str | None:
    """Return the name of what a request is counted by; None: it is not limited.

    The address of an upload counts by the key that asked for it.

    Not limited are callers without a key on this machine, signed addresses of files, and monitoring by
    `METRICS_TOKEN` or from this machine.
    """
    if caller.key_id is not None:
        return caller.key_id
    if address is None or caller is not ANONYMOUS:
        return None
    return _network(address)


@lru_cache(MOST_BUCKETS)
def _network(address: str) -> str | None:
    """Return the name of the network of one caller; None: it is this machine."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:  # a socket without an IP address
        return None
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback:
        return None
    if isinstance(parsed, IPv6Address):
        parsed = ip_network((parsed, IPV6_NETWORK), strict=False).network_address
    return f"address:{parsed}"


class RequestRates:
    """The buckets of one process."""

    def __init__(
        self, rt: Runtime, *, patience: timedelta | None = None, most: int = MOST_BUCKETS
    ) -> None:
        self._rt = rt
        self._patience = patience or rt.settings.max_write_wait_seconds
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._alone_until = -math.inf  # steady seconds: while the database cannot be written to

    def __len__(self) -> int:
        return len(self._buckets)

    async def take(self, name: str, rate: RequestRate) -> Quota:
        """Take a token for a request; without one, the quota has a `wait`."""
        bucket = self._bucket(name)
        while bucket.tokens < 1:
            if self._rt.steady() < bucket.empty_until:
                wait = max(rate.wait(bucket.full_at, self._rt.now()), timedelta(0))
                return self._quota(bucket, rate, wait=wait)
            await self._fill(bucket, rate)
        bucket.tokens -= 1
        return self._quota(bucket, rate)

    def _bucket(self, name: str) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            while len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[name] = _Bucket(name, full_at=self._rt.now())
        self._buckets.move_to_end(name)
        return bucket

    def _quota(self, bucket: _Bucket, rate: RequestRate, wait: timedelta | None = None) -> Quota:
        """Return what is known here: other processes may have taken tokens since."""
        interval = rate.interval.total_seconds()
        seconds = (bucket.full_at - self._rt.now()).total_seconds() - bucket.tokens * interval
        reset = max(seconds, 0.0)
        remaining = max(rate.burst - math.ceil(reset / interval - ROUNDING), 0)
        return Quota(rate, remaining if wait is None else 0, reset, wait)

    async def _fill(self, bucket: _Bucket, rate: RequestRate) -> None:
        """Take tokens in advance; requests that come meanwhile wait for the same."""
        bucket.waiting += 1
        try:
            if bucket.filling is None:
                bucket.filling = asyncio.create_task(self._take_lease(bucket, rate))
            await asyncio.shield(bucket.filling)
        finally:
            bucket.waiting -= 1

    async def _take_lease(self, bucket: _Bucket, rate: RequestRate) -> None:
        try:
            await asyncio.sleep(0)  # so that requests that come at once are counted
            lease = await self._lease(bucket, rate, max(rate.lease, bucket.waiting))
            bucket.tokens += lease.tokens
            bucket.full_at = lease.full_at
            if not lease.tokens:
                wait = rate.wait(lease.full_at, self._rt.now())
                bucket.empty_until = self._rt.steady() + wait.total_seconds()
        finally:
            bucket.filling = None

    async def _lease(self, bucket: _Bucket, rate: RequestRate, tokens: int) -> Lease:
        rt = self._rt
        if rt.steady() >= self._alone_until:
            try:
                async with asyncio.timeout(self._patience.total_seconds()):
                    return await request_rates.take(rt.db, bucket.name, rate, tokens, now=rt.now())
            except (TimeoutError, HostError) as error:
                log.warning("rate_limits_not_shared", reason=str(error) or type(error).__name__)
                self._alone_until = rt.steady() + ALONE_SECONDS
        now = rt.now()
        taken = min(tokens, rate.free(bucket.full_at, now))
        return Lease(taken, rate.spend(taken, bucket.full_at, now))


def refusal(quota: Quota) -> RateLimited:
    """Return the error of a request beyond its rate."""
    assert quota.wait is not None
    per_minute = quota.rate.per_minute
    detail = f"more than {per_minute} requests per minute: send this one again later"
    return RateLimited(detail, retry_after=quota.wait)
