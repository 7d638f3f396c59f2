"""Costs in responses: decimal strings in US dollars."""

from pydantic import BaseModel, Field

from fleek.schemas.read import ProblemField

COST = "Decimal number of US dollars, such as `0.003`; null: unknown."


class RouteRead(BaseModel):
    """Where a job runs."""

    provider: str
    model_name: str


class EstimateRead(BaseModel):
    """What a request will cost."""

    cost: str | None = Field(description=f"Of one attempt. {COST}")
    route: RouteRead | None = Field(description="Null: the provider is not configured.")
    queue_position: int | None = Field(
        description="Number of due jobs before it, at most 1,000; null: it would be refused."
    )
    problems: list[ProblemField] = Field(
        description="Why the request would be refused; empty: it would be accepted."
    )
