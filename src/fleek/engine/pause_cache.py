"""What this process knows of accounts that are paused and of models that fail.

Refreshed by each heartbeat of a worker and each turn of `admit`, and asked on the way of every
job: while all is well, that costs a look into an empty dictionary.
"""

from collections.abc import Iterable
from datetime import datetime

from fleek.store.provider_health import ALL_MODELS, ProviderHealth

Key = tuple[str, str]
"""A provider and one of its models, or `WHOLE`."""


class PauseCache:
    """Accounts as they were last seen; those that are not here are well."""

    def __init__(self) -> None:
        self._known: dict[Key, ProviderHealth] = {}

    def replace_all(self, accounts: Iterable[ProviderHealth]) -> None:
        """Replace all that was known."""
        self._known = {(one.provider, one.model): one for one in accounts}

    def add(self, account: ProviderHealth) -> None:
        """Take note of one."""
        self._known[account.provider, account.model] = account

    def all(self) -> list[ProviderHealth]:
        """Return all that are known."""
        return list(self._known.values())

    def for_model(self, provider: str, model: str) -> list[ProviderHealth]:
        """Return what concerns purchases of a model: the account and the model itself."""
        if not self._known:
            return []
        found = (self._known.get((provider, name)) for name in (ALL_MODELS, model))
        return [one for one in found if one is not None]

    def is_paused(self, provider: str, model: str, *, now: datetime) -> bool:
        """Whether none of this may be bought yet."""
        return any(one.paused(now) for one in self.for_model(provider, model))

    def clear(self, provider: str, model: str, *, now: datetime) -> bool:
        """Forget failures as `fleek.store.provider_health.clear` does; returns whether there were any."""
        over = [
            one
            for one in self.for_model(provider, model)
            if one.failures and (one.model != ALL_MODELS or not one.paused(now))
        ]
        for one in over:
            del self._known[one.provider, one.model]
        return bool(over)
