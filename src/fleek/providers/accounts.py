"""Several accounts at one provider, one for each of several keys.

Each account is an adapter of its own. The engine decides which one starts an attempt, writes that with
the intent, and makes all further calls about its prediction with the same key. An account is named by a
part of its key's hash, so that the order of the keys has no meaning.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import Protocol, TypeVar

from pydantic import SecretStr

from fleek.providers.base import Provider


class _WithAccounts(Provider, Protocol):
    accounts: Mapping[str, Provider]


AdapterT = TypeVar("AdapterT", bound=_WithAccounts)


def account_name(key: str) -> str:
    """Return what stands for a key in the database, in logs and for the operator."""
    return sha256(f"account {key}".encode()).hexdigest()[:8]


def keys_of(setting: SecretStr | None) -> list[str]:
    """Return the keys of a setting that holds several, separated by blanks; each one once."""
    return [] if setting is None else list(dict.fromkeys(setting.get_secret_value().split()))


@asynccontextmanager
async def open_accounts(
    keys: Sequence[str], open_one: Callable[[str], AbstractAsyncContextManager[AdapterT]]
) -> AsyncGenerator[AdapterT]:
    """Open an adapter for each key, and return the first one, which has the others as `accounts`."""
    async with AsyncExitStack() as stack:
        opened = {
            account_name(key): await stack.enter_async_context(open_one(key)) for key in keys
        }
        first = next(iter(opened.values()))
        first.accounts = opened
        yield first
