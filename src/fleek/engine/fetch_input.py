"""Fetch a media input from an address, through the guard for outbound calls."""

from collections.abc import AsyncIterator
from typing import Final

from fleek.domain.errors import InputUnreachable, InputUnusable
from fleek.outbound.addresses import Policy, UnsafeAddress, normalized, parse
from fleek.outbound.client import CallFailed, Client

MAY_COME: Final = frozenset({408, 425, 429})  # and all of 5xx


def check_address(address: str, policy: Policy) -> None:
    """Check an address before anything is sent there.

    Raises:
        InputUnusable: It may not be called.
    """
    try:
        parse(normalized(address), policy)
    except UnsafeAddress as error:
        raise InputUnusable(str(error), code="input_unsafe") from error


async def fetch_input(client: Client, address: str) -> AsyncIterator[bytes]:
    """Stream the file at an address; redirects are followed, and checked likewise.

    Raises:
        InputUnusable: It may not be called, or has no file.
        InputUnreachable: It cannot be fetched now.
    """
    try:
        async with client.follow(normalized(address)) as response:
            status = response.status
            if status in MAY_COME or status >= 500:
                raise InputUnreachable(f"the host of an input responded with {status}")
            if status != 200:
                message = f"the host of an input responded with {status}"
                raise InputUnusable(message, code="input_gone")
            async for chunk in response.body:
                yield chunk
    except UnsafeAddress as error:
        raise InputUnusable(f"an input: {error}", code="input_unsafe") from error
    except CallFailed as error:
        raise InputUnreachable(f"an input cannot be fetched: {error}") from error
