"""What the providers know of a job that its restored database does not: predictions after the backup.

The backup of a database is older than the ledger of the provider. So a job that had not ended in the
backup may have been paid for since, at any of its routes, by attempts of which there is no row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, ModelName
from fleek.domain.values import dataclass
from fleek.engine.accounts import Account, accounts_of
from fleek.engine.runtime import Runtime
from fleek.providers.base import Failed, History, Prediction, SupportsHistory
from fleek.store import attempts

UNSEEN: Final = History(complete=True, blind=True)
NOTHING: Final = History(complete=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is known after one search at all providers of a job."""

    prediction: Prediction | None = None  # the best one of this job, at its current provider
    elsewhere: bool = False  # there is one, at another account of its current provider
    uncertain: bool = False  # it may have been paid for, and nobody can tell
    complete: bool = True  # without a prediction: whether this search counts


async def search_history(rt: Runtime, job: Job, attempt: Attempt) -> Trace:
    """Search each route of a restored job once.

    A prediction at another account is adopted by an attempt that is made there. One at another provider
    cannot be adopted; it makes the outcome uncertain, so that the job is not paid for again.

    Raises:
        ProviderUnavailable: A provider could not be read.
    """
    complete = True
    for variant, account in _places(rt, job):
        here = variant.provider == attempt.provider and variant.model == attempt.model
        history = await _history(account, variant, attempt, now=rt.now())
        own, alike = await _unbound(rt, variant, history)
        if here and (own or alike):
            if not own and await attempts.duplicate_in_flight(rt.db, attempt):
                return Trace(complete=False)  # it may be that of a job which is just being started
            if account is not None and _is_another(rt, account, attempt):
                return Trace(elsewhere=True)
            return Trace(prediction=(own or alike)[0])
        if own or alike or history.blind or await _unreadable(rt, variant, history):
            return Trace(uncertain=True)
        complete &= history.complete
    return Trace(complete=complete)


def _variants(job: Job) -> Iterator[Job]:
    """Yield the job as it is, then as it would be on each of its other routes."""
    yield job
    for route in () if job.routing is None else job.routing.routes:
        if (route.provider, route.model) != (job.provider, job.model):
            yield replace(
                job, provider=route.provider, model=ModelName(route.model), input=route.input
            )


def _places(rt: Runtime, job: Job) -> Iterator[tuple[Job, Account | None]]:
    """Yield each account at which a route of the job may have been started; None: not configured."""
    for variant in _variants(job):
        if variant.provider in rt.providers:
            yield from ((variant, account) for account in accounts_of(rt, variant.provider))
        else:
            yield variant, None


def _is_another(rt: Runtime, account: Account, attempt: Attempt) -> bool:
    """Whether calls about a prediction of `attempt` are made with another account than this one."""
    return len(accounts_of(rt, attempt.provider)) > 1 and account.name != attempt.account


async def _history(
    account: Account | None, job: Job, attempt: Attempt, *, now: datetime
) -> History:
    if account is None:
        return UNSEEN
    provider = account.provider
    if provider.reconcile_by == "repeat":
        return NOTHING  # our own server, which is not paid
    if job.inputs and job.provider != attempt.provider:
        return UNSEEN  # its files were handed to the current provider only
    if not isinstance(provider, SupportsHistory):
        return UNSEEN
    assert job.search_since is not None
    return await provider.history(job, attempt, since=job.search_since, now=now)


async def _unbound(
    rt: Runtime, job: Job, history: History
) -> tuple[list[Prediction], list[Prediction]]:
    """Return the own and the alike predictions that belong to no attempt, the best ones first."""
    ids = [prediction.id for prediction in (*history.own, *history.alike)]
    bound = await attempts.bound_ids(rt.db, job.provider, ids) if ids else set()

    def left(predictions: Sequence[Prediction]) -> list[Prediction]:
        return sorted((one for one in predictions if one.id not in bound), key=_rank)

    return left(history.own), left(history.alike)


async def _unreadable(rt: Runtime, job: Job, history: History) -> bool:
    if not history.unreadable:
        return False
    bound = await attempts.bound_ids(rt.db, job.provider, history.unreadable)
    return not bound.issuperset(history.unreadable)


def _rank(prediction: Prediction) -> int:
    """Order by use: with a result, running, failed."""
    if prediction.outcome is None:
        return 1
    return 2 if isinstance(prediction.outcome, Failed) else 0
