"""The provider port: the interface that an adapter implements.

`Provider` is required. Each `Supports…` protocol is an optional capability. Both are checked when
an adapter is opened.
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from fleek.domain.attempt import Attempt
from fleek.domain.catalogue import PROMPT_NOTE
from fleek.domain.job import Job, ModelName, PredictionId
from fleek.domain.media import Output
from fleek.domain.money import Micros
from fleek.domain.values import dataclass
from fleek.registry import misfits, supports

RATE_LIMITED: Final = "provider_rate_limited"
PAYMENT_REQUIRED: Final = "provider_payment_required"
UNAUTHORIZED: Final = "provider_unauthorized"
UNREACHABLE: Final = "provider_unreachable"
"""Specific codes of `ProviderUnavailable`; all but the last concern the whole account."""

EXPIRED: Final = "output_expired"
"""The code of a `Failed` prediction that had succeeded and whose outputs were removed."""

OPERATOR_ACTION_CODES: Final[Mapping[str, str]] = {
    PAYMENT_REQUIRED: "pay the provider",
    UNAUTHORIZED: "set a token that the provider accepts, and restart the service",
}
"""Codes that need an action by the operator, with that action; jobs wait until then."""

MAX_ANSWER_BYTES: Final = 256 * 1_048_576
"""Maximum size of a body with outputs, both for responses and for callbacks.

The same limit for both, so that a result that is too large is not paid for again.
"""

Schema = Mapping[str, Any]
"""A JSON schema (draft 2020-12) of a model's parameters without the prompt; see `prompt_note`."""


def prompt_note(*, exists: bool, required: bool) -> dict[str, str]:
    """Return what a model's schema says of its prompt."""
    if not exists:
        return {PROMPT_NOTE: "none"}
    return {} if required else {PROMPT_NOTE: "optional"}


def needs_prompt(schema: Schema | None) -> bool:
    """Whether a model needs a prompt; one whose schema is unknown checks that itself."""
    return schema is not None and PROMPT_NOTE not in schema


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The prediction succeeded. The engine treats a success without outputs as a failure."""

    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The prediction ended without a result."""

    code: str  # stable, snake_case, e.g. "prediction_failed"
    message: str  # from the provider
    retryable: bool  # whether another attempt can help


Outcome = Succeeded | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The state of a prediction at the provider."""

    id: PredictionId
    progress: float | None = None  # 0.0-1.0; None: unknown
    outcome: Outcome | None = None  # None while it runs
    metrics: Mapping[str, Any] = field(default_factory=dict)
    log: str | None = None  # all that the model has printed so far; None: unknown
    age: timedelta | None = None  # since its creation, by the provider's clock; None: unknown
    eta: timedelta | None = None  # until its expected end; None: unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a provider offers."""

    name: ModelName
    description: str
    schema: Schema | None = None  # None: unknown
    output: str | None = None  # "image", "animation", "video", "audio", "text"; None: unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of one search for the prediction of an attempt.

    What the engine does with it:

    - ``prediction`` is set: bind it. It carries the attempt's nonce.
    - Else bind one of ``candidates`` that is bound to no attempt, once no attempt with the same
      ``request_hash`` is in flight except unknown ones. Those are interchangeable. A candidate
      behind the first ``likely`` ones may belong to another attempt, which is reconciled first.
      ``partial`` candidates are bound only while no other attempt with the same model and prompt is
      unbound; if that lasts, the attempt is written off.
    - Else three searches in a row, spread over ``RECONCILE_SECONDS``, that were all ``complete`` and
      not ``wiped`` prove that no prediction was started. A failed or incomplete search
      resets the count.
    - ``wiped``: never start another prediction because of this search.
    """

    prediction: Prediction | None  # certainly this attempt's
    complete: bool  # whether every prediction that may be this attempt's was seen
    candidates: tuple[Prediction, ...] = ()  # same request, attempt unknown; likely ones first
    likely: int | None = None  # how many were created at the time of the intent; None: all
    wiped: bool = False  # a possible match has lost its identifying data
    partial: bool = False  # candidates do not show all parameters of their requests


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was created for a job, by attempts that its restored database does not know.

    Any of it may be bound to another attempt, which the engine looks up.
    """

    complete: bool  # whether every prediction of that time was seen
    own: tuple[Prediction, ...] = ()  # certainly of this job
    alike: tuple[Prediction, ...] = ()  # same request; may be of another job
    unreadable: tuple[PredictionId, ...] = ()  # may be of this job, and show too little to tell
    blind: bool = False  # predictions of this job could not be seen in any case


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A verified callback about a prediction.

    Its state may be outdated on arrival, so the engine polls the prediction unless it is final, or has
    begun only.
    """

    webhook_id: str  # identifies the message; a repetition has the same
    prediction: Prediction  # its state when the message was sent
    final: bool = False  # the state is final: the provider cannot be polled for it
    begun: bool = False  # it runs, and another callback reports its end
    address: str | None = None  # the callback URL given in the message; None: not given


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of a provider's account; None: unlimited. The engine enforces them."""

    creates_per_minute: float | None = None  # calls of `start`
    calls_per_minute: float | None = None  # all others
    concurrency: int | None = None  # predictions that were started and have not ended
    max_calls_per_poll: int | None = None
    """Maximum number of calls made by one `poll`, for any number of ids. None: always one call.

    So many are charged when it begins; with `SupportsCallCount`, what it did not make is given back."""


UNLIMITED: Final = Budget()


class Provider(Protocol):
    """The members that every adapter has. The capabilities below are optional.

    `start` is the only call that costs money, and the engine calls it at most once for an
    attempt, unless ``reconcile_by`` is "repeat".
    """

    reconcile_by: Literal["repeat", "find", "none"]
    """How an unknown outcome of `start` is reconciled: by starting the same attempt again, which
    returns the same prediction; by a search with `SupportsFind.find`; not at all."""

    default_model: ModelName
    """The model of requests without one."""

    async def start(self, job: Job, attempt: Attempt) -> Prediction:
        """Start one prediction. Never retries.

        Raises:
            ProviderRejected: Not started; a repetition would be refused, too.
            ProviderUnavailable: Not started; may be repeated later.
            OutcomeUnknown: A request was sent and no readable response came.
        """
        ...

    async def poll(self, ids: Sequence[PredictionId]) -> Mapping[PredictionId, Prediction]:
        """Return the state of predictions. Predictions whose state cannot be read now are omitted.

        Raises:
            ProviderUnavailable: No state could be read.
        """
        ...

    async def cancel(self, prediction_id: PredictionId) -> Prediction | None:
        """Request that a prediction stops; no effect on one that has ended.

        Returns its state if the response contains it, else None. The engine repeats the request
        with back-off until a response or `poll` shows that the prediction has ended.

        Raises:
            ProviderUnavailable: The request could not be made.
        """
        ...

    def read(self, job: Job, output: Output) -> AsyncIterator[bytes]:
        """Stream one output's bytes.

        Raises:
            ProviderUnavailable: Its host could not be reached; may be repeated.
            OutputInterrupted: The download broke off; may be repeated.
            OutputBroken: The download is complete, and the bytes are wrong.
            OutputMissing: Its host responds that there is no such file.
            OutputUnsafe: Its address or size is not allowed.
            OutputGone: The provider has removed it.
        """
        ...

    async def schema(self, model: ModelName) -> Schema | None:
        """Return the schema of a model's parameters, or None if it is unknown.

        Raises:
            NotFound: The name is malformed, or there is no such model.
            ProviderUnavailable: It cannot be read now.
        """
        ...


@runtime_checkable
class SupportsAccounts(Protocol):
    """A provider that may have several accounts, one for each of several keys.

    The engine decides which one starts an attempt (`Attempt.account`), and makes each further call about
    its prediction on the same one. All other calls are made on the provider itself, the first of them.
    """

    accounts: Mapping[str, Provider]
    """The open adapters by a name that does not reveal the key; `fleek.providers.accounts` fills it."""


@runtime_checkable
class SupportsBudget(Protocol):
    """A provider whose account has limits."""

    budget: Budget


@runtime_checkable
class SupportsCallCount(Protocol):
    """A provider that counts the calls of its polls, which may be fewer than its budget allows for."""

    @property
    def poll_calls(self) -> int:
        """How many calls all polls have made so far."""
        ...


@runtime_checkable
class SupportsFind(Protocol):
    """A provider whose list of predictions can be searched; ``reconcile_by`` is "find"."""

    async def find(self, job: Job, attempt: Attempt, *, now: datetime) -> Found:
        """Search for the prediction of an attempt whose outcome is unknown.

        `now` is the time by the clock that wrote ``attempt.submitted_at``, without the leaps of that
        clock since then.

        Raises:
            ProviderUnavailable: The list could not be read.
        """
        ...


@runtime_checkable
class SupportsHistory(Protocol):
    """A provider that can be asked what was created for a job after a backup.

    Without it, a job that was restored from a backup is not started at this provider.
    """

    async def history(
        self, job: Job, attempt: Attempt, *, since: datetime, now: datetime
    ) -> History:
        """Return what was created for a job since a time; `now` is the time by the same clock.

        `attempt` is the latest one of the job, with the inputs as they would be sent.

        Raises:
            ProviderUnavailable: It could not be read.
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
    """A provider that cannot be polled for a result whose callback was too large."""

    def overlong(self, prediction_id: PredictionId) -> Prediction:
        """Return the outcome of such a prediction."""
        ...


@runtime_checkable
class SupportsShortCallbacks(Protocol):
    """A provider whose callbacks name a prediction by a part of its id."""

    def named_in_callback(self, attempt: Attempt, named: PredictionId) -> PredictionId:
        """Return the id of the prediction that a callback to an attempt's URL has named."""
        ...


@runtime_checkable
class SupportsAwaitedCallbacks(Protocol):
    """A provider whose callback is the only proof of a prediction with an unknown outcome.

    With `reconcile_by` "none", an attempt is written off only when its callback is overdue.
    """

    def callback_limit(self, attempt: Attempt) -> timedelta | None:
        """Return how long after the intent a callback may be due; None: none was requested."""
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
    """A provider that can return a prediction after its end.

    A result whose address has expired is read at its new address, and is given up only if the
    provider has removed it.
    """

    async def recall(self, prediction_id: PredictionId) -> Prediction | None:
        """Return the current state of a prediction that has ended; None: the id is unknown.

        The outcome is a `Failed` with the code `EXPIRED` if the outputs were removed.

        Raises:
            ProviderUnavailable: It cannot be read now.
        """
        ...


@runtime_checkable
class SupportsCost(Protocol):
    """A provider whose answers say what a prediction has cost."""

    def cost(self, prediction: Prediction) -> Micros | None:
        """Return what an ended prediction has cost by its own answer, in 10^-6 US dollars.

        None: the answer does not say; then the price list counts. `metrics` has what it was read from.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A media input, in a local file."""

    path: Path  # of a file that is removed when `upload` has returned
    name: str  # for people, with the extension of its type
    sha256: str  # lower-case hex
    size_bytes: int
    content_type: str  # as detected

    def data_uri(self) -> str:
        """Return the file as a ``data:`` URI; blocks."""
        return f"data:{self.content_type};base64,{b64encode(self.path.read_bytes()).decode()}"


@runtime_checkable
class SupportsUpload(Protocol):
    """A provider that takes files as parameters."""

    reads_inputs: bool
    """Whether `read` needs them, too: its job then has them among its parameters, as in `start`."""

    async def upload(self, file: InputFile) -> str:
        """Return what stands for a file among the parameters of `start`.

        A ``data:`` URI with its bytes, or an address that the provider reads it at. It costs nothing,
        and is called anew for each attempt. `Attempt.inputs` says where such values stand.

        Raises:
            InputUnusable: The provider does not take this file.
            ProviderUnavailable: It cannot be handed over now.
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
        """Make a free call to read the time, unless a recent response had it; ignores errors."""
        ...


CAPABILITIES: Final = (
    SupportsAccounts,
    SupportsBudget,
    SupportsCallCount,
    SupportsFind,
    SupportsHistory,
    SupportsCallbacks,
    SupportsOversizedCallbacks,
    SupportsShortCallbacks,
    SupportsAwaitedCallbacks,
    SupportsModels,
    SupportsRecall,
    SupportsServerTime,
    SupportsUpload,
    SupportsCost,
)
"""All optional capabilities: an adapter with one member of a capability must have all of them."""


def provider_misfits(adapter: Any) -> list[str]:
    """Return how an open adapter deviates from this port; empty: it does not."""
    phrases = misfits(adapter, Provider, CAPABILITIES)
    if not phrases and adapter.reconcile_by == "find" and not isinstance(adapter, SupportsFind):
        phrases.append("reconcile_by is 'find', and find() is missing")
    return phrases


def budget_of(provider: Provider) -> Budget:
    """Return the limits of a provider's account; unlimited unless it states a budget."""
    return provider.budget if isinstance(provider, SupportsBudget) else UNLIMITED


def time_at(provider: object) -> datetime | None:
    """Return the provider's time, or None if it is unknown."""
    return provider.time if supports(provider, SupportsServerTime) else None


def poll_calls_of(provider: object) -> int | None:
    """Return how many calls all polls of a provider have made so far; None: it does not count them."""
    return provider.poll_calls if supports(provider, SupportsCallCount) else None
