"""Errors among ourselves: somebody else was first, or may have been. The engine acts on them.

Their place in the tree is drawn in `fleek.domain.errors`.
"""

from fleek.domain.errors import InternalError


class IllegalTransition(InternalError):
    """The job's state forbids this change."""

    code = "illegal_transition"


class StaleJob(InternalError):
    """Somebody has changed the job since it was read; nothing was written."""

    code = "stale_job"


class PredictionTaken(InternalError):
    """This prediction is already bound to another attempt."""

    code = "prediction_taken"


class AttemptClosed(InternalError):
    """The attempt has its verdict or another prediction: what was bought for it is one too many."""

    code = "attempt_settled"


class WorkerSuspended(InternalError):
    """The worker could not say that it is alive for so long that it must not buy."""

    code = "worker_suspended"
    retryable = True
