"""Charges: what an attempt is expected to cost, and what it has cost.

A charge is reserved with the job, and again with each further attempt, in the commit of its intent. It is
spent or released by the attempt's verdict, in the commit of the verdict. Which charge a job or an
attempt has follows from the two alone, so a change of both says how money moves.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.budgets import Payer, day_of
from fleek.domain.copies import replace
from fleek.domain.job import Job, JobId
from fleek.domain.money import Micros, usd
from fleek.domain.routing import Routing
from fleek.domain.values import dataclass

MAX_COST: Final = "max_cost_exceeded"
"""The code of a request or a job that would cost more than it may."""


class ChargeState(StrEnum):
    """What has become of a charge."""

    RESERVED = "reserved"
    SPENT = "spent"
    RELEASED = "released"  # nothing was paid for


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The charge of one attempt of a job."""

    job_id: JobId
    number: int  # of the attempt, which may not exist yet
    tenant_id: str
    key_id: str | None
    provider: str
    model: str
    day: str  # on which it was reserved, in UTC
    estimate: int | None  # None: unknown
    actual: int | None = None  # once it is spent; None: unknown
    state: ChargeState = ChargeState.RESERVED

    @property
    def payer(self) -> Payer:
        """Who pays."""
        return Payer(self.tenant_id, self.key_id, self.day)

    @property
    def reserved(self) -> int:
        """What it holds of a budget until it is spent."""
        return self.estimate or 0 if self.state is ChargeState.RESERVED else 0

    @property
    def spent(self) -> int:
        """What it has cost, as far as is known."""
        return self.actual or 0 if self.state is ChargeState.SPENT else 0


@dataclass(frozen=True, slots=True)
class Movement:
    """A charge that was changed."""

    before: Charge | None  # None: it is new
    after: Charge


def over_max_cost(job: Job, estimate: int | None) -> str | None:
    """Return why a job may not make another attempt that is expected to cost this; None: it may."""
    if job.max_cost is None:
        return None
    if estimate is None or job.cost is None:
        return "what it would cost is not known, and it has a max_cost"
    if job.cost + estimate <= job.max_cost:
        return None
    before = f" after {usd(Micros(job.cost))}" if job.cost else ""
    return (
        f"it would cost {usd(Micros(estimate))} USD{before}, more than its max_cost of "
        f"{usd(Micros(job.max_cost))} USD"
    )


def priced_by(job: Job) -> Mapping[str, Any]:
    """Return the parameters that the price of a job depends on, as the caller and its model name them."""
    return priced_with(job.routing, job.input)


def priced_with(routing: Routing | None, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the same of a job that is not made yet."""
    asked = {} if routing is None else routing.request.parameters
    return {**asked, **parameters}


def charge_of(job: Job) -> Charge:
    """Return the charge that a job has reserved for an attempt that does not exist yet."""
    return Charge(
        job_id=job.id,
        number=job.charged,
        tenant_id=job.tenant_id,
        key_id=job.key_id,
        provider=job.provider,
        model=job.model,
        day=job.charged_on or day_of(job.created_at),
        estimate=job.estimate,
    )


def charge_of_attempt(job: Job, attempt: Attempt) -> Charge:
    """Return the charge of an attempt, which its verdict ends."""
    state = ChargeState.SPENT
    if attempt.verdict is None:
        state = ChargeState.RESERVED
    elif attempt.verdict is Verdict.NOT_CREATED:
        state = ChargeState.RELEASED
    day, estimate = attempt.charged_on, attempt.estimate
    if day is None:  # an earlier release made the attempt; its job may have reserved for it
        held = job.charged_on if job.charged == attempt.number else None
        estimate = None if held is None else job.estimate
        day = held or day_of(attempt.submitted_at)
    return Charge(
        job_id=job.id,
        number=attempt.number,
        tenant_id=job.tenant_id,
        key_id=job.key_id,
        provider=attempt.provider,
        model=attempt.model,
        day=day,
        estimate=estimate,
        actual=attempt.cost if state is ChargeState.SPENT else None,
        state=state,
    )


def intended(before: Job, job: Job, attempt: Attempt) -> tuple[Job, Attempt]:
    """Return the job and its new attempt with the charge of that attempt.

    `before` is the job before the intent. The charge that it has reserved is that of the attempt, unless
    the attempt goes to another model.
    """
    if before.charged == attempt.number and _same_route(before, job):
        return job, replace(attempt, estimate=before.estimate, charged_on=before.charged_on)
    day = day_of(attempt.submitted_at)
    charged = replace(job, charged=attempt.number, charged_on=day, estimate=attempt.estimate)
    return charged, replace(attempt, charged_on=day)


def with_cost(job: Job, before: Attempt | None, after: Attempt) -> Job:
    """Return the job with the cost of an attempt whose verdict may have changed."""
    earlier, later = _final_cost(before), _final_cost(after)
    if earlier == later:
        return job
    if job.cost is None or earlier is None or later is None:
        return replace(job, cost=None)
    return replace(job, cost=job.cost + later - earlier)


def _final_cost(attempt: Attempt | None) -> int | None:
    return 0 if attempt is None or attempt.verdict is None else attempt.cost


def holds_reservation(job: Job) -> bool:
    """Whether the job has reserved for an attempt that does not exist yet."""
    return job.charged > job.ordinal and not job.terminal


def movements(
    before: Job, after: Job, was: Attempt | None, attempt: Attempt | None, intent: Attempt | None
) -> Iterator[Movement]:
    """Yield the charges that a change of a job and its attempt changes.

    Args:
        before: The job before it.
        after: The job after it.
        was: The attempt before it.
        attempt: The same attempt after it; None: it stays.
        intent: The new attempt; None: there is none.
    """
    if intent is not None:
        held = charge_of(before) if before.charged == intent.number else None
        charge = charge_of_attempt(after, intent)
        if held != charge:
            yield Movement(held, charge)
    elif holds_reservation(before) and (after.terminal or not _same_route(before, after)):
        held = charge_of(before)
        yield Movement(held, replace(held, state=ChargeState.RELEASED))
    if attempt is not None and was is not None:
        earlier, later = charge_of_attempt(before, was), charge_of_attempt(after, attempt)
        if earlier != later:
            yield Movement(earlier, later)


def moved_route(before: Job, after: Job) -> Job:
    """Return the job after a change; one that goes to another model holds no reservation for it."""
    if not holds_reservation(before) or after.terminal or _same_route(before, after):
        return after
    return replace(after, charged=after.ordinal, estimate=None)


def _same_route(one: Job, other: Job) -> bool:
    return (one.provider, one.model) == (other.provider, other.model)
