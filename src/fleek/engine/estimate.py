"""What a request will cost, without making a job."""

from collections.abc import Sequence

from fleek.domain.budgets import EVERYBODY, Budget
from fleek.domain.charges import charge_of
from fleek.domain.errors import BudgetExceeded, FieldError, InvalidInput
from fleek.domain.job import Job, JobRequest, ModelName
from fleek.domain.values import dataclass
from fleek.engine.budgets import list_budgets
from fleek.engine.routes import route_of
from fleek.engine.runtime import Runtime
from fleek.engine.submit import checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The expected cost of a request."""

    cost: int | None  # in 10^-6 USD, of one attempt; None: unknown
    route: tuple[str, ModelName] | None  # provider and model; None: there is no such provider
    job: Job | None = None  # that it would make; None: it would be refused
    problems: Sequence[FieldError] = ()


async def estimate(rt: Runtime, request: JobRequest) -> Estimate:
    """Return what a request will cost, and why it would be refused.

    Raises:
        StorageFull: No request is accepted now.
        DatabaseUnavailable: What is left of the budgets is not known.
    """
    try:
        route = route_of(rt, request)
    except InvalidInput as error:
        return Estimate(cost=None, route=None, problems=_problems(error))
    try:
        job = await checked(rt, request)
    except (InvalidInput, BudgetExceeded) as error:
        cost = rt.prices.estimate(*route, request.parameters)
        return Estimate(cost=cost, route=route, problems=_problems(error))
    budget = await _exhausted(rt, job)
    if budget is not None:
        detail = f"{budget.describe()}, has no room for it"
        field = FieldError(pointer="", code=BudgetExceeded.code, detail=detail)
        return Estimate(cost=job.estimate, route=(job.provider, job.model), problems=[field])
    return Estimate(cost=job.estimate, route=(job.provider, job.model), job=job)


async def _exhausted(rt: Runtime, job: Job) -> Budget | None:
    """Return a budget that has no room for a job now."""
    charge = charge_of(job)
    if not charge.reserved:
        return None
    scopes = set(charge.payer.scopes())
    for tenant_id in (EVERYBODY.tenant_id, job.tenant_id):
        for spent in await list_budgets(rt, tenant_id=tenant_id):
            if spent.budget.scope in scopes and spent.left < charge.reserved:
                return spent.budget
    return None


def _problems(error: InvalidInput | BudgetExceeded) -> Sequence[FieldError]:
    if isinstance(error, BudgetExceeded):
        return (FieldError(pointer="/max_cost", code=error.code, detail=str(error)),)
    return error.errors or (FieldError(pointer="", code=error.code, detail=str(error)),)
