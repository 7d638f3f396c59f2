"""When to give up a paid result that cannot be collected now.

Only if the provider says that it is gone, or if the bytes themselves stay wrong. Every other
failure is waited for, however long: outages of hosts, disks and networks end.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from fleek.domain.attempt import Attempt
from fleek.domain.errors import (
    DatabaseUnavailable,
    ErrorPage,
    FleekError,
    HostError,
    InternalError,
    OutputBroken,
    OutputGone,
    OutputInterrupted,
    OutputMissing,
    ProviderError,
    ProviderUnavailable,
)
from fleek.domain.job import Job
from fleek.domain.media import Output
from fleek.domain.values import dataclass
from fleek.engine.accounts import Account, account_of
from fleek.engine.provider_limits import TokenBucket
from fleek.engine.runtime import Runtime
from fleek.providers.base import EXPIRED, Failed, Succeeded, SupportsRecall, budget_of
from fleek.store import events

RECALL_SHARE: Final = 0.2  # of a provider's budget of calls
UNKNOWN_PREDICTION: Final = "prediction_gone"
PAID: Final = "The result is paid for, and can be collected again"
BETWEEN_TRIES: Final = frozenset({"collecting", "released", "rescheduled"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many tries in a row, and for how long at least, may fail in the same way."""

    tries: int
    period: timedelta = timedelta(0)


WRONG_BYTES: Final = Patience(8)
ERROR_PAGES: Final = Patience(8, timedelta(minutes=15))  # a host in maintenance sends them, too
UNKNOWN: Final = Patience(3)  # the file is missing, and the provider has no such prediction
MISSING: Final = Patience(8, timedelta(minutes=15))  # and the provider cannot be asked again
MISTAKES: Final = Patience(20, timedelta(hours=1))  # defects of ours: time for another release

PATIENCE: Final[Mapping[type[FleekError], Patience | None]] = {  # the first match counts
    ErrorPage: ERROR_PAGES,
    OutputInterrupted: None,
    OutputBroken: WRONG_BYTES,
    InternalError: MISTAKES,
}


async def recall(rt: Runtime, attempt: Attempt, error: ProviderError) -> tuple[Output, ...] | None:
    """Ask the provider again for outputs that could not be fetched; None: it has no answer.

    Raises:
        OutputGone: The provider has removed them.
        OutputMissing: It has neither the output nor the prediction.
    """
    if recalls(rt, attempt.provider) is None or attempt.prediction_id is None:
        return None
    account = account_of(rt, attempt.provider, attempt.account)
    provider: object = account.provider
    if not isinstance(provider, SupportsRecall) or not _may_call(rt, account):
        return None
    try:
        prediction = await provider.recall(attempt.prediction_id)
    except ProviderUnavailable as failure:
        log.warning("recall_failed", attempt_id=str(attempt.id), reason=str(failure))
        return None
    if prediction is None:
        if isinstance(error, OutputMissing):
            message = "the provider has neither the output nor the prediction"
            raise OutputMissing(message, code=UNKNOWN_PREDICTION) from error
        return None
    outcome = prediction.outcome
    if isinstance(outcome, Failed) and outcome.code == EXPIRED:
        raise OutputGone(outcome.message) from error
    return (outcome.outputs or None) if isinstance(outcome, Succeeded) else None


def recalls(rt: Runtime, name: str) -> SupportsRecall | None:
    """Return the provider if it can be asked again for a prediction that has ended."""
    provider: object = rt.providers.get(name)
    return provider if isinstance(provider, SupportsRecall) else None


def _may_call(rt: Runtime, account: Account) -> bool:
    """Take one call from the share of an account's budget that recalls have."""
    budget = budget_of(account.provider).calls_per_minute
    return rt.recalls.setdefault(account.key, TokenBucket(budget and budget * RECALL_SHARE)).take()


async def is_final(rt: Runtime, job: Job, error: FleekError) -> bool:
    """Whether to give up: another try cannot help, or enough of them have failed."""
    if isinstance(error, HostError):
        return False
    if not (error.retryable or isinstance(error, InternalError)):
        return True
    patience = _patience(error, askable=recalls(rt, job.provider) is not None)
    if patience is None:
        return False
    try:
        tries, period = await _in_a_row(rt, job, error.code)
    except DatabaseUnavailable:  # the history cannot be read: do not give up
        return False
    return tries >= patience.tries and period >= patience.period


def _patience(error: FleekError, *, askable: bool) -> Patience | None:
    """Return how long a failure may last; None: for ever."""
    if isinstance(error, OutputMissing):
        if error.code == UNKNOWN_PREDICTION:
            return UNKNOWN
        return None if askable else MISSING
    return next((patience for kind, patience in PATIENCE.items() if isinstance(error, kind)), None)


async def _in_a_row(rt: Runtime, job: Job, code: str) -> tuple[int, timedelta]:
    """Return how many tries in a row failed with this code, this one included, and for how long."""
    tries, since = await events.streak(
        rt.db, job.id, "postponed", code=code, ignored=BETWEEN_TRIES
    )
    now = rt.now()
    return tries + 1, rt.clock.lived(since or now, now)
