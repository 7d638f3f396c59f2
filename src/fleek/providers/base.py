"""The provider's port: what the engine asks of a host of models."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol, runtime_checkable

from fleek.conformance import misfits
from fleek.domain.attempt import Attempt
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output

RATE_LIMITED: Final = "provider_rate_limited"
PAYMENT_REQUIRED: Final = "provider_payment_required"
UNAUTHORIZED: Final = "provider_unauthorized"
UNREACHABLE: Final = "provider_unreachable"
"""Codes of `ProviderUnavailable` that say more: all but the last are about the whole account."""

EXPIRED: Final = "output_expired"
"""The code of a `Failed` that once succeeded and whose data the provider has removed."""

OPERATOR_ACTION_CODES: Final[Mapping[str, str]] = {
    PAYMENT_REQUIRED: "pay the provider",
    UNAUTHORIZED: "set a token that the provider takes, and start the service anew",
}
"""Codes that nobody but the operator can do something about, and what: until then jobs wait."""

MAX_ANSWER_BYTES: Final = 256 * 1_048_576
"""Of an answer that may hold its outputs, whichever way it comes: as an answer, or as a callback.

One limit for both: what is refused one way would be bought again for the other.
"""

Schema = Mapping[str, Any]
"""A JSON schema (draft 2020-12) of a model's parameters, the prompt not among them."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The prediction ended well. No output at all counts as failed, decided by the engine."""

    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The prediction ended without a result."""

    code: str  # stable, snake_case, e.g. "prediction_failed"
    message: str  # the provider's words
    retryable: bool  # whether another attempt can help


Outcome = Succeeded | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The provider's run of an attempt, as it was last seen."""

    id: PredictionId
    progress: float | None = None  # 0.0-1.0; None: not told
    outcome: Outcome | None = None  # None while it runs
    metrics: Mapping[str, Any] = field(default_factory=dict)
    age: timedelta | None = None  # since it was created, by the provider's clock alone, if told
    eta: timedelta | None = None  # when a first look is worth while, if the provider knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a provider offers."""

    name: ModelName
    description: str
    schema: Schema | None = None  # None: not known now
    output: str | None = None  # what it makes: "image", "animation", "audio", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one look for a lost purchase brought.

    - ``prediction`` is set: it carries the attempt's nonce. Bind it.
    - Else any of ``candidates`` that is bound to no attempt may be bound, once no attempt with
      the same ``request_hash`` stands between intent and verdict except unknown ones: these are
      interchangeable, so it does not matter which of them gets it.
    - Else nothing was bought, if three looks in a row, spread over ``RECONCILE_SECONDS``, were
      ``complete`` and none was ``wiped``. A look that failed, or was not complete, starts the
      count again.
    - ``wiped``: never buy again because of this look.
    """

    prediction: Prediction | None  # bought for this attempt, beyond doubt
    complete: bool  # whether everything that might be it was seen
    candidates: tuple[Prediction, ...] = ()  # the same request, for nobody known; oldest first
    wiped: bool = False  # one that may be it has lost the data that would tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A provider's message about a prediction, its signature checked.

    It says where to look: what it tells of the prediction may be old by now, unless it is final.
    """

    webhook_id: str  # the message's own; the same whenever it is sent again
    prediction: Prediction  # as it was when the message was written
    final: bool = False  # the end that it tells of counts: the provider cannot be asked for it
    address: str | None = None  # where it says that it was to be sent; None: it does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a provider's account may be asked for; None: as much as one likes.

    The engine keeps to it, so that a provider need not count.
    """

    creates_per_minute: float | None = None  # calls of `start`
    calls_per_minute: float | None = None  # all others
    concurrency: int | None = None  # predictions that were bought and have not ended
    sweeps_above: int | None = None
    """`poll` makes a call for each prediction, but never more than so many; None: one in all."""


UNLIMITED: Final = Budget()


class Provider(Protocol):
    """A host of models: what every adapter has. The capabilities below are optional.

    `start` is the only call that costs money, and the engine calls it at most once for an
    attempt, unless ``settles`` is "repeat".
    """

    settles: Literal["repeat", "find", "none"]
    """How an unknown outcome of `start` is settled: by starting the same attempt again, which is
    the same prediction; by a search with `SupportsFind.find`; not at all."""

    default_model: ModelName
    """The model of a request that names none."""

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Buy one prediction. No retries inside.

        Raises:
            ProviderRejected: Not bought, and asking again is no use.
            ProviderUnavailable: Not bought; may be tried again.
            OutcomeUnknown: Something was sent and no readable answer came back.
        """
        ...

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Look at predictions. One that is missing in the answer could not be seen this time.

        Raises:
            ProviderUnavailable: None could be seen.
        """
        ...

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Ask the provider to stop a prediction; one that has ended is left as it is.

        Returns the prediction if the answer tells how it is now, else None. The engine asks on,
        with growing pauses, until an answer or `poll` says that it has ended.

        Raises:
            ProviderUnavailable: Could not be asked.
        """
        ...

    def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:
        """Stream one output's bytes.

        Raises:
            ProviderUnavailable: Could not be reached; the same output may be read again.
            OutputInterrupted: The bytes ended early; the same output may be read again.
            OutputBroken: They came whole and are not what was announced.
            OutputMissing: Its address gives nothing now.
            OutputUnsafe: The address is not one to fetch from.
            OutputGone: The provider says that it does not have it any more.
        """
        ...

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema of a model's parameters, or None if it cannot be had now.

        Raises:
            NotFound: The name is not well-formed, or the provider has no such model.
        """
        ...


@runtime_checkable
class SupportsBudget(Protocol):
    """A provider whose account has limits."""

    budget: Budget


@runtime_checkable
class SupportsFind(Protocol):
    """A provider whose list of predictions can be searched; ``settles`` is "find"."""

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:
        """Search for the prediction of an attempt whose outcome is unknown.

        `now` is the time by the clock that wrote ``attempt.submitted_at``.

        Raises:
            ProviderUnavailable: The list could not be read.
        """
        ...


@runtime_checkable
class SupportsCallbacks(Protocol):
    """A provider that posts to the callback URL of an attempt."""

    async def callback(self, headers: Mapping[str, str], body: bytes) -> Callback:
        """Verify and read a callback.

        The engine checks the token in the URL.

        Raises:
            CallbackRejected: The signature is wrong, or the body cannot be read.
            ProviderUnavailable: It cannot be verified now; the provider should send it again.
        """
        ...


@runtime_checkable
class SupportsOversizedCallbacks(Protocol):
    """A provider without a second way to an answer whose callback was too large."""

    def overlong(self, prediction_id: PredictionId) -> Prediction:
        """Return the outcome of such a prediction."""
        ...


@runtime_checkable
class SupportsModels(Protocol):
    """A provider with a list of models; without it, the default model is listed."""

    async def models(self) -> Sequence[Model]:
        """List recommended models; others may be run by their names.

        Raises:
            ProviderUnavailable: The list cannot be read now.
        """
        ...


@runtime_checkable
class SupportsRecall(Protocol):
    """A provider that still knows a prediction after its end.

    A result whose address has expired is found at its new address, and it is given up only when
    the provider itself has removed it.
    """

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the current state of an ended prediction; None: the id is unknown.

        The outcome is a `Failed` with the code `EXPIRED` if the outputs were removed.

        Raises:
            ProviderUnavailable: It cannot be asked now.
        """
        ...


@runtime_checkable
class SupportsServerTime(Protocol):
    """A provider whose responses carry the time: a second clock beside ours."""

    @property
    def time(self) -> datetime | None:
        """The provider's time, estimated from a recent response; None: no recent response."""
        ...

    async def ask_time(self) -> None:
        """Make a free call for the time if no response is recent; errors are ignored."""
        ...


CAPABILITIES: Final = (
    SupportsBudget,
    SupportsFind,
    SupportsCallbacks,
    SupportsOversizedCallbacks,
    SupportsModels,
    SupportsRecall,
    SupportsServerTime,
)
"""All optional capabilities: an adapter that has one member of a capability has all of them."""


def provider_misfits(adapter: Any) -> list[str]:
    """Return in what an open adapter does not fit this port; empty: it fits."""
    phrases = misfits(adapter, Provider, CAPABILITIES)
    if not phrases and adapter.settles == "find" and not isinstance(adapter, SupportsFind):
        phrases.append("settles is 'find', and find() is missing")
    return phrases


def budget_of(provider: Provider) -> Budget:
    """Return the limits of a provider's account; unlimited unless it states a budget."""
    return provider.budget if isinstance(provider, SupportsBudget) else UNLIMITED


def time_at(provider: object) -> datetime | None:
    """Return the provider's time, if it is known."""
    return provider.time if isinstance(provider, SupportsServerTime) else None
