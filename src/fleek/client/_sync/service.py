"""The service of the synchronous client: models, uploads, costs, health."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fleek.client import wire
from fleek.client.models import BudgetRead, ModelRead, UploadRead, UsageRead

if TYPE_CHECKING:
    from fleek.client._sync.connection import Connection


class Service:
    """What a server has besides jobs; part of `Client`."""

    _connection: "Connection"

    def usage(
        self,
        group_by: str = "day",
        *,
        first: date | None = None,
        last: date | None = None,
        tenant: str | None = None,
    ) -> UsageRead:
        """Return what was spent: by "day", "model", "provider", "key" or, for operators, "tenant".

        From the day `first` (None: the first of the month) to `last` (None: today), both in UTC.
        `tenant`, for operators: another one, or "*" for all.

        Raises:
            InvalidInput: The days are in the wrong order, or there is no such `group_by`.
            FleekError: Any other of `fleek.client.errors`.
        """
        params = wire.given(
            {
                "group_by": group_by,
                "tenant": tenant,
                "from": None if first is None else first.isoformat(),
                "to": None if last is None else last.isoformat(),
            }
        )
        answer = self._connection.ask("GET", "/api/v1/usage", params=params)
        return wire.parse(UsageRead, answer.value)

    def budgets(self, tenant: str | None = None) -> list[BudgetRead]:
        """List the budgets of the tenant and its keys, with what is spent in their current periods.

        `tenant`, for operators: another one, or "*" for all.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        params = wire.given({"tenant": tenant})
        answer = self._connection.ask("GET", "/api/v1/budgets", params=params)
        return wire.parse_list(BudgetRead, answer.value)

    def upload(self, file: Path | str | bytes) -> UploadRead:
        """Upload a file, given by its path or its bytes, and return the upload.

        Its `reference` is the value of a parameter, such as `image`. The same bytes are the same
        upload, which is kept for a day unless the server is set up otherwise.

        Raises:
            InvalidInput: The file cannot be read, or is empty.
            TooLarge: The server does not take such large files.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask(
            "POST",
            wire.UPLOADS,
            content=wire.file_content(file),
            headers={"content-type": "application/octet-stream"},
        )
        return wire.parse(UploadRead, answer.value)

    def delete_upload(self, upload_id: UUID | str) -> UploadRead:
        """Remove an uploaded file before its time, and return the upload as it was.

        Raises:
            NotFound: There is no such upload.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask("DELETE", wire.upload_path(upload_id))
        return wire.parse(UploadRead, answer.value)

    def models(
        self,
        *,
        q: str | None = None,
        kind: str | None = None,
        provider: str | None = None,
        available: bool | None = None,
    ) -> list[ModelRead]:
        """List the models of the configured providers, and those of the catalogue.

        Args:
            q: Words that the names or the description contain.
            kind: What they make: "image", "video", "audio", "animation", "text".
            provider: One that runs them.
            available: Whether a configured provider runs them; None: both.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        path = wire.models_path(q=q, kind=kind, provider=provider, available=available)
        return wire.parse_list(ModelRead, (self._connection.ask("GET", path)).value)

    def model(self, name: str) -> ModelRead:
        """Return one model, with the JSON schema of its parameters where it is known.

        Raises:
            NotFound: No provider has it.
            FleekError: Any other of `fleek.client.errors`.
        """
        return wire.parse(ModelRead, (self._connection.ask("GET", wire.model_path(name))).value)

    def health(self) -> dict[str, Any]:
        """Return the server's health, component by component.

        Its ``status`` is "healthy", "degraded", or "unhealthy" if it cannot accept jobs.

        Raises:
            FleekError: See `fleek.client.errors`.
        """
        answer = self._connection.ask("GET", "/health/detailed", accept_statuses=(503,))
        return wire.mapping(answer.value)
