"""Whether a paid result that cannot be collected now is given up.

Only if the provider says that it is gone, or if the bytes themselves are wrong again and again.
Everything else is waited for, however long: hosts, disks and networks come back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
from fleek.engine.provider_limits import TokenBucket
from fleek.engine.runtime import Runtime
from fleek.providers.base import EXPIRED, Failed, Succeeded, SupportsRecall, budget_of
from fleek.store import events

RECALL_SHARE: Final = 0.2  # of a provider's budget of calls
UNKNOWN_PREDICTION: Final = "prediction_gone"
BETWEEN_TRIES: Final = frozenset({"collecting", "released", "rescheduled"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often in a row, and for how long at least, the same failure is borne."""

    tries: int
    period: timedelta = timedelta(0)


WRONG_BYTES: Final = Patience(8)
ERROR_PAGES: Final = Patience(8, timedelta(minutes=15))  # a host in maintenance sends them, too
UNKNOWN: Final = Patience(3)  # neither the file nor the prediction is there
MISSING: Final = Patience(8, timedelta(minutes=15))  # and the provider cannot be asked
MISTAKES: Final = Patience(20, timedelta(hours=1))  # of ours: time to start another release

PATIENCE: Final[Mapping[type[FleekError], Patience | None]] = {  # the first that fits counts
    ErrorPage: ERROR_PAGES,
    OutputInterrupted: None,
    OutputBroken: WRONG_BYTES,
    InternalError: MISTAKES,
}


async def recall(rt: Runtime, attempt: Attempt, error: ProviderError) -> tuple[Output, ...] | None:
    """Ask the provider again for the outputs that could not be fetched; None: it tells nothing.

    Raises:
        OutputGone: The provider has removed them.
        OutputMissing: It knows the prediction no more than the output.
    """
    provider = recalls(rt, attempt.provider)
    if provider is None or attempt.prediction_id is None or not _may_call(rt, attempt.provider):
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
    """Return the provider if it can be asked again."""
    provider: object = rt.providers.get(name)
    return provider if isinstance(provider, SupportsRecall) else None


def _may_call(rt: Runtime, name: str) -> bool:
    """Take one call from the share of a provider's budget that is for this."""
    budget = budget_of(rt.providers[name]).calls_per_minute
    return rt.recalls.setdefault(name, TokenBucket(budget and budget * RECALL_SHARE)).take()


async def is_final(rt: Runtime, job: Job, error: FleekError) -> bool:
    """Whether trying again is no use, or was no use often enough."""
    if isinstance(error, HostError):
        return False
    if not (error.retryable or isinstance(error, InternalError)):
        return True
    patience = _patience(error, askable=recalls(rt, job.provider) is not None)
    if patience is None:
        return False
    try:
        tries, period = await _in_a_row(rt, job, error.code)
    except DatabaseUnavailable:  # whoever cannot look gives nothing up
        return False
    return tries >= patience.tries and period >= patience.period


def _patience(error: FleekError, *, askable: bool) -> Patience | None:
    """Return how long a failure is borne; None: for ever."""
    if isinstance(error, OutputMissing):
        if error.code == UNKNOWN_PREDICTION:
            return UNKNOWN
        return None if askable else MISSING
    return next((one for kind, one in PATIENCE.items() if isinstance(error, kind)), None)


async def _in_a_row(rt: Runtime, job: Job, code: str) -> tuple[int, timedelta]:
    """Return how many tries in a row have failed with this code, the latest included, and for how long."""
    tries, since = await events.streak(
        rt.db, job.id, "postponed", code=code, ignored=BETWEEN_TRIES
    )
    now = rt.now()
    return tries + 1, rt.clock.lived(since or now, now)
