"""API keys and the queue in the synchronous client, for operators."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from fleek.client import wire
from fleek.client.models import KeyCreated, KeyRead, QueueRead

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection


class Keys:
    """The API keys of all tenants; needs a key with the scope `admin`.

    All methods raise errors of `fleek.client.errors`.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def list(self, *, tenant: str | None = None) -> list[KeyRead]:
        """Return the latest 1,000 keys, newest first, with those that were revoked."""
        params = wire.given({"tenant": tenant})
        answer = self._connection.ask("GET", wire.KEYS, params=params)
        return wire.parse_list(KeyRead, answer.value)

    def create(
        self,
        name: str,
        *,
        tenant: str | None = None,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> KeyCreated:
        """Create a key, and its tenant if that is new. The key itself is in this result only.

        Args:
            name: What the key is for.
            tenant: Whose jobs it is for; None: the tenant of the key that is used here.
            scopes: What it may do; None: all but `admin`.
            expires_at: When it becomes invalid; None: never.

        Raises:
            InvalidInput: A value is invalid.
            Conflict: The tenant has as many keys as it may have.
        """
        fields = {
            "name": name,
            "tenant": tenant,
            "scopes": None if scopes is None else list(scopes),
            "expires_at": None if expires_at is None else expires_at.isoformat(),
        }
        answer = self._connection.ask(
            "POST", wire.KEYS, content=wire.body(fields), idempotent=False
        )
        return wire.parse(KeyCreated, answer.value)

    def revoke(self, key: str) -> KeyRead:
        """Make a key invalid for good, given by its id, its beginning or all of it; its jobs go on.

        Raises:
            NotFound: There is no such key.
        """
        answer = self._connection.ask("DELETE", wire.key_path(key))
        return wire.parse(KeyRead, answer.value)


class Queue:
    """The queue of all tenants; needs a key with the scope `admin`.

    All methods raise errors of `fleek.client.errors`.
    """

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def show(self) -> QueueRead:
        """Return how many jobs wait and run, and what is paused."""
        return wire.parse(QueueRead, (self._connection.ask("GET", wire.QUEUE)).value)

    def pause(self, *, provider: str | None = None, model: str | None = None) -> QueueRead:
        """Start no more predictions of a provider or a model, or of all; return the queue.

        Raises:
            InvalidInput: There is no such provider.
        """
        return self._change("pause", provider, model)

    def resume(self, *, provider: str | None = None, model: str | None = None) -> QueueRead:
        """End the pause of exactly this part, if there is one; return the queue."""
        return self._change("resume", provider, model)

    def _change(self, change: str, provider: str | None, model: str | None) -> QueueRead:
        content = wire.body({"provider": provider, "model": model})
        answer = self._connection.ask("POST", f"{wire.QUEUE}/{change}", content=content)
        return wire.parse(QueueRead, answer.value)
