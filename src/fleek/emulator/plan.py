"""The plan: durations, rates of faults, prices; and the reproducible sampling of faults."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fleek.emulator.faults import ALIASES, ALWAYS, CATALOGUE, Group

MARKER: Final = re.compile(r"\[\[emu:([a-z0-9_]+)(?:=([^\]*]*))?(?:\*(\d+|all))?\]\]")

Probability = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[float, Field(ge=0)] | tuple[float, float]
"""Seconds: a fixed number, or uniformly distributed between two."""


class UnknownFault(ValueError):
    """There is no fault of this name."""


def _checked_names(named: Mapping[str, Any]) -> dict[str, Any]:
    return {canonical(name): value for name, value in named.items()}


Rates = Annotated[dict[str, Probability], AfterValidator(_checked_names)]


class Plan(BaseModel):
    """The configuration of the emulator. The defaults have no faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    rates: Rates = {}  # fault → probability, 0-1
    models: dict[str, Rates] = {}  # model → its own rates, which take precedence
    arguments: Annotated[
        dict[str, str], AfterValidator(_checked_names)
    ] = {}  # instead of those of the catalogue
    queue_seconds: Span = 0.1
    predict_seconds: Span = (1.0, 2.0)
    answer_seconds: Span = 0.0  # before any response under /v1
    billing: dict[str, float] = {
        "succeeded": 1,
        "canceled_after_start": 1,
        "failed_after_start": 1,
        "aborted": 0,
    }  # units charged, by end; other ends are free
    price_usd: float = 0.003  # per unit
    price_per_second_usd: float = 0  # of run time, of each unit in addition
    retention_seconds: float = 3600  # from the end until the data is removed
    file_ttl_seconds: float = 3600  # from the end until outputs are 404
    running_limit_seconds: float = 1800
    cancel_after_min_seconds: float = 5
    tokens: tuple[str, ...] | None = None  # accepted tokens; None: any
    accounts: bool = False  # whether each token is an account, with predictions of its own
    any_model: bool = True  # whether names outside the catalogue can be run
    https_webhooks: bool = False  # whether to refuse http:// callbacks, as Replicate does
    webhook_retries: tuple[float, ...] = (
        1,
        2,
        4,
        8,
        16,
        29,
    )  # seconds between the delivery attempts of a final event
    webhook_timeout_seconds: float = 10
    clock_offset_seconds: float = 0  # of the times that are shown; never of how long things take
    creates_per_minute: int | None = None  # Replicate: 600
    others_per_minute: int | None = None  # Replicate: 3000
    openai_server: Literal["openai", "vllm", "sglang", "litellm"] = (
        "openai"  # whose behaviour `openai` has
    )
    injecting: bool = True  # False: no rate and no marker strikes


@dataclass(frozen=True, slots=True)
class Marker:
    """A fault asked for in a prompt: ``[[emu:name=argument*times]]``."""

    argument: str | None
    times: int  # 0: always


def canonical(name: str) -> str:
    """Give the catalogue's name of a fault.

    Raises:
        UnknownFault: It is not in the catalogue.
    """
    name = ALIASES.get(name, name)
    if name not in CATALOGUE:
        msg = f"the emulator knows no fault {name!r}"
        raise UnknownFault(msg)
    return name


def markers(parameters: Mapping[str, Any]) -> dict[str, Marker]:
    """Read the markers in a prediction's input, in any of its texts.

    Raises:
        UnknownFault: A marker names something that is not in the catalogue, or gives it no number.
    """
    parsed: dict[str, Marker] = {}
    for value in parameters.values():
        if isinstance(value, str) and "[[emu:" in value:
            for written, argument, times in MARKER.findall(value):
                name = canonical(written)
                _check(name, argument)
                parsed[name] = Marker(argument or None, _times(times, CATALOGUE[name].times))
    return parsed


def seconds(span: float | tuple[float, float], random: Random) -> float:
    """Draw a duration."""
    return random.uniform(*span) if isinstance(span, tuple) else span


def _check(name: str, argument: str) -> None:
    fault = CATALOGUE[name]
    numeric = fault.group in ("knob", "life") and _is_number(fault.argument)
    if numeric and argument and not _is_number(argument):
        msg = f"{name} takes a number, not {argument!r}"
        raise UnknownFault(msg)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _times(written: str, default: int) -> int:
    if not written:
        return default
    return ALWAYS if written == "all" else int(written)


Faults = dict[str, str]
"""Fault → argument, for those that strike."""


class FaultSampler:
    """Draws for each request of a kind by the seed and that request's number, nothing else.

    So two runs with the same seed and the same requests of one kind see the same faults,
    whatever requests of other kinds come in between.
    """

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()
        self._uses: Counter[tuple[str, str]] = Counter()  # uses of a marker, by (subject, fault)

    def roll(self, plan: Plan, kind: str) -> Random:
        """Return a random generator for the next request of a kind."""
        self._turns[kind] += 1
        return Random(f"{plan.seed}:{kind}:{self._turns[kind]}")  # noqa: S311  repeatable, on purpose

    def draw(
        self,
        plan: Plan,
        group: Group,
        *,
        subject: str = "",
        markers: Mapping[str, Marker] | None = None,
        model: str = "",
    ) -> Faults:
        """Choose the faults of one request: all of its markers, and at most one by rate.

        Args:
            plan: The rates.
            group: Only faults of this group.
            subject: The subject of the markers; their uses are counted per subject.
            markers: The markers in the prompt.
            model: The model, whose own rates take precedence.
        """
        if not plan.injecting and group != "knob":  # a knob is not a fault
            return {}
        chosen = {
            name: self._argument(plan, name, marker.argument)
            for name, marker in (markers or {}).items()
            if CATALOGUE[name].group == group and self._may_apply(subject, name, marker.times)
        }
        rates = {**plan.rates, **plan.models.get(model, {})}
        rates = {name: rate for name, rate in rates.items() if CATALOGUE[name].group == group}
        if rates:
            random = self.roll(plan, group)
            struck = [name for name, rate in sorted(rates.items()) if random.random() < rate]
            if struck and not chosen:
                name = random.choice(struck)
                chosen[name] = self._argument(plan, name, None)
        return chosen

    def _may_apply(self, subject: str, name: str, times: int) -> bool:
        self._uses[subject, name] += 1
        return times == ALWAYS or self._uses[subject, name] <= times

    @staticmethod
    def _argument(plan: Plan, name: str, argument: str | None) -> str:
        if argument is not None:
            return argument
        return plan.arguments.get(name, CATALOGUE[name].argument)
