"""The tenants of a run: each has a key, an endpoint for webhooks, and a follower of its events.

All of them are created over HTTP, with repetitions until there is a response.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx2

from chaos.follower import Follower
from fleek.schemas.events import PUBLIC
from service_process import Service, until

NAMES: Final = ("north", "south")
ADMIN: Final = "the-operator-of-all-tests-has-this-key"
SETTINGS: Final = {"API_KEYS": f"operator:{ADMIN}"}  # of the tenant `default`
ENDS: Final = {"completed", "failed", "cancelled"}
ANNOUNCED: Final = {  # history entries with public events
    line: str(PUBLIC[line]) for line in ("submitted", *sorted(ENDS))
}
BUDGETS: Final[Sequence[Mapping[str, Any]]] = (
    {"period": "total", "limit": "1000"},
    {"tenant": "", "period": "day", "limit": "1000"},
    {"tenant": "", "period": "month", "limit": "1000"},
)
"""Of the whole service and of each tenant: they are kept up to date, and never exhausted."""

PATIENCE: Final = 180.0
ANSWER_SECONDS: Final = 60.0  # for a busy machine; a killed process disconnects at once
LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant that is ready."""

    name: str
    key: str
    secrets: tuple[str, ...]  # of its endpoint, the latest last
    follower: Follower


class TenantSetup:
    """Creates one tenant."""

    def __init__(self, service: Service, name: str, url: str) -> None:
        self._service = service
        self._name = name
        self._url = url
        self._secrets: list[str] = []

    def made(self) -> Tenant:
        """Return the tenant when it is complete."""
        key = self.key()
        for budget in BUDGETS:
            body = {**budget, "tenant": self._name} if "tenant" in budget else budget
            self._until(partial(self._budget, body))
        endpoint_id = self._until(lambda: self._endpoint(key))
        if not self._secrets:  # the response with the first one was lost
            self._until(lambda: self._rotated(key, endpoint_id))
        follower = Follower(self._service.port, {"X-API-Key": key})
        until(follower.ready.is_set, seconds=PATIENCE, why=self._service.tails)
        return Tenant(self._name, key, tuple(self._secrets), follower)

    def key(self) -> str:
        """Return a new key of the tenant."""
        return self._until(self._key)

    def _key(self) -> str | None:
        made = self._call("POST", "/api/v1/keys", ADMIN, {"name": "run", "tenant": self._name})
        return None if made is None else str(made["key"])

    def _budget(self, budget: Mapping[str, Any]) -> str | None:
        """Set a budget; setting it again changes nothing."""
        made = self._call("POST", "/api/v1/budgets", ADMIN, budget)
        return None if made is None else str(made["limit"])

    def _endpoint(self, key: str) -> str | None:
        """Return the id of the endpoint; create it if it is missing."""
        listed = self._call("GET", "/api/v1/webhooks/endpoints", key)
        if listed:
            return str(listed[0]["id"])
        if listed is not None:
            body = {"url": self._url, "events": sorted(ANNOUNCED.values())}
            made = self._call("POST", "/api/v1/webhooks/endpoints", key, body)
            self._secrets += [] if made is None else [made["secret"]]
        return None

    def _rotated(self, key: str, endpoint_id: str) -> str | None:
        """Rotate the secret until a response contains the new one."""
        path = f"/api/v1/webhooks/endpoints/{endpoint_id}/rotate"
        made = self._call("POST", path, key)
        self._secrets += [] if made is None else [made["secret"]]
        return None if made is None else str(made["secret"])

    def _call(
        self, method: str, path: str, key: str, body: Mapping[str, Any] | None = None
    ) -> Any:
        headers = {"X-API-Key": key}
        try:
            answer = self._service.http.request(
                method, path, json=body, headers=headers, timeout=ANSWER_SECONDS
            )
        except httpx2.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def _until(self, step: Callable[[], str | None]) -> str:
        found: list[str] = []

        def done() -> bool:
            result = step()
            found.extend([] if result is None else [result])
            return result is not None

        until(done, seconds=PATIENCE, look_seconds=LOOK_SECONDS, why=self._service.tails)
        return found[0]
