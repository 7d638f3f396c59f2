"""What a request will cost, without making a job."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleek.domain.errors import FieldError, InvalidInput
from fleek.domain.job import Job, JobRequest, ModelName
from fleek.domain.money import Micros
from fleek.engine.routes import route_of
from fleek.engine.runtime import Runtime
from fleek.engine.submit import checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The expected cost of a request."""

    cost: Micros | None  # of one attempt; None: unknown
    route: tuple[str, ModelName] | None  # provider and model; None: there is no such provider
    job: Job | None = None  # that it would make; None: it would be refused
    problems: Sequence[FieldError] = ()


async def estimate(rt: Runtime, request: JobRequest) -> Estimate:
    """Return what a request will cost, and why it would be refused.

    Raises:
        StorageFull: No request is accepted now.
    """
    try:
        route = route_of(rt, request)
    except InvalidInput as error:
        return Estimate(cost=None, route=None, problems=_problems(error))
    try:
        job = await checked(rt, request)
    except InvalidInput as error:
        cost = rt.prices.estimate(*route, request.parameters)
        return Estimate(cost=cost, route=route, problems=_problems(error))
    cost = rt.prices.estimate(job.provider, job.model, {**request.parameters, **job.input})
    return Estimate(cost=cost, route=(job.provider, job.model), job=job)


def _problems(error: InvalidInput) -> Sequence[FieldError]:
    return error.errors or (FieldError(pointer="", code=error.code, detail=str(error)),)
