"""Budgets: how much may be spent within a period."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from fleek.domain.money import Micros, usd
from fleek.domain.values import dataclass


class Period(StrEnum):
    """What a budget is for; periods are those of UTC."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"  # all time

    def start(self, day: str) -> str:
        """Return the name of the period that a day is in: ``2026-11-29``, ``2026-11`` or nothing."""
        return day[: self.characters]

    @property
    def characters(self) -> int:
        """How many characters of a day name the period that it is in."""
        return {Period.DAY: 10, Period.MONTH: 7, Period.TOTAL: 0}[self]


def day_of(at: datetime) -> str:
    """Return the day of a time in UTC, such as ``2026-11-29``."""
    return at.astimezone(UTC).date().isoformat()


class Scope(NamedTuple):
    """Who pays: everybody, one tenant, or one of its keys. Empty: all of them."""

    tenant_id: str = ""
    key_id: str = ""


EVERYBODY: Final = Scope()


class Payer(NamedTuple):
    """Who pays for a job, and on which day it counts."""

    tenant_id: str
    key_id: str | None
    day: str

    def scopes(self) -> Iterator[Scope]:
        """Yield the scopes whose budgets it counts in."""
        yield EVERYBODY
        yield Scope(self.tenant_id)
        if self.key_id is not None:
            yield Scope(self.tenant_id, self.key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that may be spent in each period."""

    scope: Scope
    period: Period
    limit: Micros

    def describe(self) -> str:
        """Return it in words."""
        tenant_id, key_id = self.scope
        whose = f"the key {key_id}" if key_id else f"the tenant {tenant_id}"
        owner = whose if tenant_id else "the whole service"
        per = "in all" if self.period is Period.TOTAL else f"per {self.period}"
        return f"the budget of {owner}, {usd(self.limit)} USD {per}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """A budget, and what was spent and is reserved in its current period."""

    budget: Budget
    start: str  # of the period
    reserved: Micros
    spent: Micros

    @property
    def left(self) -> Micros:
        """What may still be reserved; not below 0."""
        return Micros(max(self.budget.limit - self.reserved - self.spent, 0))
