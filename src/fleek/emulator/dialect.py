"""A dialect: the wire protocol of one provider. All dialects share one account and one ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction

ErrorForm = Callable[[Plan, int, str, str | None, Mapping[str, str] | None], Response]
"""Writes an error as the provider does: from the plan, the status, a text, a short name of the
error, and headers."""


class Present(Protocol):
    """Writes a prediction as the provider does."""

    def __call__(
        self, prediction: Prediction, plan: Plan, now: float, *, delivery: str | None = None
    ) -> dict[str, Any]:
        """Return its JSON as of `now`; `delivery` is the host of its files, None: that of the API."""
        ...


class SignCallback(Protocol):
    """Signs a callback as the provider does."""

    def __call__(
        self, prediction_id: str, timestamp: str, body: bytes, *, seed: int, forged: bool
    ) -> Mapping[str, str]:
        """Return the headers of the signature; `forged`: by another key than the provider's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The routes of one provider, and the forms of its responses.

    Args:
        name: Of the provider; written to the ledger.
        prefix: Of all paths of its API, e.g. ``/v1``.
        routes: Returns its routes, including those outside the prefix.
        creates: Whether a POST to a path creates a prediction.
        error: Writes errors.
        present: Writes predictions.
        is_open: Whether a request needs no token, e.g. because its address is signed.
        schemes: Of authorization, in lower case.
        notify: Writes the content of callbacks; None: as `present` does.
        sign: Signs callbacks; None: as Replicate does.
    """

    name: str
    prefix: str
    routes: Callable[[], Sequence[BaseRoute]]
    creates: Callable[[str], bool]
    error: ErrorForm
    present: Present
    is_open: Callable[[Scope], bool] = lambda _: False
    schemes: frozenset[str] = frozenset({"bearer", "token"})
    notify: Present | None = None
    sign: SignCallback | None = None
