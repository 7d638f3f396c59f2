"""Costs in requests and responses: decimal strings in US dollars."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fleek.domain.api_keys import NAME
from fleek.domain.budgets import Period, Spent
from fleek.domain.money import Micros, read_usd, usd
from fleek.domain.usage import GroupBy, Usage
from fleek.schemas.base import Schema
from fleek.schemas.read import ProblemField, RouteRead

COST = "Decimal number of US dollars, such as `0.003`; null: unknown."


class EstimateRead(Schema):
    """What a request will cost."""

    cost: str | None = Field(description=f"Of one attempt. {COST}")
    route: RouteRead | None = Field(description="Null: the provider is not configured.")
    queue_position: int | None = Field(
        description="Number of due jobs before it, at most 1,000; null: it would be refused."
    )
    problems: list[ProblemField] = Field(
        description="Why the request would be refused; empty: it would be accepted."
    )


def _amount(value: str | None) -> str | None:
    if value is not None:
        read_usd(value)
    return value


KEY_PATTERN = r"^(setting:)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class BudgetChange(BaseModel):
    """A budget to be set or removed. Unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {"period": "month", "limit": "100"},
                {"tenant": "acme", "period": "day", "limit": "2.50"},
            ]
        },
    )

    tenant: str | None = Field(
        default=None,
        pattern=f"^{NAME.pattern}$",
        description="The tenant that it limits; null, without a key: the whole service.",
    )
    key: str | None = Field(
        default=None,
        pattern=KEY_PATTERN,
        description="The id of the key that it limits; null: all keys, and requests without one.",
    )
    period: Annotated[Period, Field(strict=False)] = Field(
        description="`day` and `month` are those of UTC; `total` is all time."
    )
    limit: Annotated[str | None, AfterValidator(_amount)] = Field(
        max_length=40,
        description="Most that may be spent in each period, in US dollars; null removes the budget.",
    )

    @property
    def micros(self) -> Micros | None:
        """The limit as an amount."""
        return None if self.limit is None else read_usd(self.limit)


class BudgetRead(Schema):
    """A budget, and what is spent in its current period, in US dollars."""

    tenant: str | None = Field(description="Null: the whole service.")
    key: str | None = Field(description="Null: all keys, and requests without one.")
    period: Period
    start: str | None = Field(
        description="The current period, `2026-11-29` or `2026-11`; null for `total`."
    )
    limit: str
    spent: str
    reserved: str = Field(description="For attempts that have not ended, as estimated.")
    left: str = Field(description="What may still be reserved.")

    @classmethod
    def of(cls, spent: Spent) -> Self:
        """Present a budget."""
        scope = spent.budget.scope
        return cls(
            tenant=scope.tenant_id or None,
            key=scope.key_id or None,
            period=spent.budget.period,
            start=spent.start or None,
            limit=usd(spent.budget.limit),
            spent=usd(spent.spent),
            reserved=usd(spent.reserved),
            left=usd(spent.left),
        )


class UsageRow(Schema):
    """The attempts that have something in common."""

    name: str | None = Field(description="The day, the model …; null: requests without a key.")
    attempts: int = Field(description="Those that were paid for.")
    unknown: int = Field(description="Those of them whose cost is not known.")
    cost: str = Field(description="In US dollars.")
    reserved: str = Field(description="For attempts that have not ended, in US dollars.")

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """Present usage."""
        return cls(
            name=usage.name,
            attempts=usage.attempts,
            unknown=usage.unknown,
            cost=usd(usage.cost),
            reserved=usd(usage.reserved),
        )


class UsageRead(Schema):
    """What was spent within some days."""

    first: str = Field(description="The first day.")
    last: str = Field(description="The last day.")
    group_by: GroupBy
    cost: str = Field(description="In all, in US dollars.")
    rows: list[UsageRow]
