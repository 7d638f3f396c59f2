"""What predictions cost: price lists, estimates before a prediction, and its price after its end.

A price is a sum over units, each with a price of its own: USD per prediction, output, megapixel, second
of run time, second of media, and token. An estimate takes the quantities from the request, and from
what the price assumes. The final price takes them from the provider's answer.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, Final

from fleek.domain.money import EXACT, MOST, NOTHING, PER_DOLLAR, Micros, round_up
from fleek.domain.values import dataclass

ONE: Final = Decimal(1)
ZERO: Final = Decimal(0)
LARGEST: Final = Decimal(10**12)
DEAREST: Final = Decimal(MOST // PER_DOLLAR)
CREDIBLE: Final = Decimal(1_000_000)  # USD; of a provider's figure for one prediction
PIXELS: Final = Decimal(1_000_000)

SIZE: Final = re.compile(r"([0-9]{1,6})\s*[x*]\s*([0-9]{1,6})", re.IGNORECASE)
NUMBER: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(?:s|mp)?", re.IGNORECASE)

FIGURE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,30})?(?:[eE]-?[0-9]{1,2})?)")

OUTPUTS: Final = ("num_outputs", "n", "num_images", "number_of_images")
SECONDS: Final = ("duration_seconds", "seconds", "duration")
MADE: Final = ("image_count", "video_output_count", "num_outputs")
RUN: Final = ("predict_time", "inference_time_s", "inference_time")
MEDIA: Final = (
    *("video_output_duration_seconds", "audio_output_duration_seconds", "duration_seconds"),
    "seconds",
)
INPUT_TOKENS: Final = ("input_tokens", "token_input_count")
OUTPUT_TOKENS: Final = ("output_tokens", "token_output_count")
TOTAL_TIME: Final = "total_time"
"""Of a prediction that has ended; it ended before it ran if there is no run time beside it."""


class Unit(StrEnum):
    """What is counted. Names are those of price lists."""

    PREDICTION = "prediction"
    OUTPUT = "output"
    MEGAPIXEL = "megapixel"  # of all outputs together
    RUN_SECOND = "run_second"
    MEDIA_SECOND = "media_second"  # of all outputs together
    TOKEN = "token"  # noqa: S105 - of a model, not a secret
    INPUT_TOKEN = "input_token"  # noqa: S105 - see TOKEN
    OUTPUT_TOKEN = "output_token"  # noqa: S105 - see TOKEN


ASSUMED: Final[Mapping[Unit, Decimal]] = {
    Unit.PREDICTION: ONE,
    Unit.OUTPUT: ONE,
    Unit.MEGAPIXEL: ONE,
}
"""The quantity of one prediction, or of one of its outputs, unless request or price say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a model's predictions."""

    units: Mapping[Unit, Decimal]  # USD for each
    assumed: Mapping[Unit, Decimal] = field(default_factory=dict)
    """Expected quantities, of one output for megapixels and seconds of media."""
    verified: bool = True  # whether it was compared with the provider's own list

    def estimate(self, parameters: Mapping[str, Any]) -> Micros | None:
        """Return what a prediction will cost; None: that depends on what is not known yet."""
        return self._sum(lambda unit: self._expected(unit, parameters))

    def cost(
        self,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any],
        *,
        outputs: int | None,
    ) -> Micros | None:
        """Return what a prediction has cost; None: its answer does not say enough.

        Args:
            parameters: Of its request.
            metrics: From its answer.
            outputs: How many it has; None: it has failed, or was cancelled.
        """
        if outputs is None and not metrics:
            return None  # nobody says how far it came
        if outputs is None and TOTAL_TIME in metrics and _named(metrics, RUN) is None:
            return NOTHING  # it ended before it ran
        return self._sum(lambda unit: self._measured(unit, parameters, metrics, outputs))

    def _sum(self, quantity: Callable[[Unit], Decimal | None]) -> Micros | None:
        total = ZERO
        for unit, price in self.units.items():
            number = ZERO if not price else quantity(unit)
            if number is None:
                return None
            total = EXACT.add(total, EXACT.multiply(number, price))
        return round_up(min(total, DEAREST))

    def _expected(self, unit: Unit, parameters: Mapping[str, Any]) -> Decimal | None:
        assumed = self.assumed.get(unit, ASSUMED.get(unit))
        outputs = _named(parameters, OUTPUTS) or self.assumed.get(Unit.OUTPUT, ONE)
        match unit:
            case Unit.OUTPUT:
                return outputs
            case Unit.MEGAPIXEL:
                return _times(outputs, megapixels(parameters) or assumed)
            case Unit.MEDIA_SECOND:
                return _times(outputs, _named(parameters, SECONDS) or assumed)
            case _:
                return assumed

    def _measured(
        self,
        unit: Unit,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any],
        outputs: int | None,
    ) -> Decimal | None:
        ran = _named(metrics, RUN)
        match unit:
            case Unit.PREDICTION:
                return ONE if ran is not None or outputs is not None else None
            case Unit.RUN_SECOND:
                return ran
            case Unit.TOKEN | Unit.INPUT_TOKEN | Unit.OUTPUT_TOKEN:
                return _tokens(unit, metrics)
            case _ if outputs is None:
                return ZERO  # nothing was made
            case _:
                return self._made(unit, parameters, metrics, outputs)

    def _made(
        self,
        unit: Unit,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any],
        outputs: int,
    ) -> Decimal | None:
        number = _named(metrics, MADE) or Decimal(outputs)
        match unit:
            case Unit.MEGAPIXEL:
                each = megapixels(metrics) or megapixels(parameters)
                return _times(number, each or self.assumed.get(unit, ASSUMED[unit]))
            case Unit.MEDIA_SECOND:
                measured = _named(metrics, MEDIA)
                if measured is not None:
                    return measured
                return _times(number, _named(parameters, SECONDS) or self.assumed.get(unit))
            case _:
                return number


FREE: Final = Price(units={})


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of a price list."""

    provider: str
    model: str  # a pattern with `*`, or the name itself
    price: Price

    def fits(self, provider: str, model: str) -> bool:
        """Whether it is the price of this model; that of a model is also that of its versions."""
        return self.provider == provider and (
            fnmatchcase(model, self.model) or fnmatchcase(model.partition(":")[0], self.model)
        )


class PriceList:
    """The prices of models; the first line that fits counts."""

    def __init__(self, lines: Sequence[Listed] = ()) -> None:
        self.lines = tuple(lines)
        self._known: dict[tuple[str, str], Price | None] = {}

    def find(self, provider: str, model: str) -> Price | None:
        """Return the price of a model; None: it is not known."""
        place = (provider, model)
        if place not in self._known:
            if len(self._known) >= 10_000:  # callers name models
                self._known.clear()
            lines = (line.price for line in self.lines if line.fits(provider, model))
            self._known[place] = next(lines, None)
        return self._known[place]

    def estimate(self, provider: str, model: str, parameters: Mapping[str, Any]) -> Micros | None:
        """Return what a prediction will cost; None: it is not known."""
        price = self.find(provider, model)
        return None if price is None else price.estimate(parameters)

    def __add__(self, other: "PriceList") -> "PriceList":
        """Return both lists as one: the lines of this one come first."""
        return PriceList((*self.lines, *other.lines))


def megapixels(values: Mapping[str, Any]) -> Decimal | None:
    """Return the size of an output by the parameters or the metrics of a prediction; None: unknown."""
    width, height = (_number(values.get(name)) for name in ("width", "height"))
    if width and height:
        return EXACT.divide(EXACT.multiply(width, height), PIXELS)
    for name in ("size", "image_size", "resolution"):
        value = values.get(name)
        if isinstance(value, Mapping) and (found_below := megapixels(_sides(value))):
            return found_below
        if isinstance(value, str) and (found := SIZE.fullmatch(value.strip())):
            return EXACT.divide(Decimal(found[1]) * Decimal(found[2]), PIXELS)
    return _number(values.get("megapixels")) or None


def _sides(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values.get(name) for name in ("width", "height")}


def read_figure(value: object) -> Micros | None:
    """Return a provider's own figure in USD, rounded up; None: it is none, or absurd."""
    number = _number(value, pattern=FIGURE)
    return None if number is None or number > CREDIBLE else round_up(number)


def _tokens(unit: Unit, metrics: Mapping[str, Any]) -> Decimal | None:
    if unit is Unit.INPUT_TOKEN:
        return _named(metrics, INPUT_TOKENS)
    if unit is Unit.OUTPUT_TOKEN:
        return _named(metrics, OUTPUT_TOKENS)
    total = _named(metrics, ("total_tokens",))
    if total is not None:
        return total
    parts = [_named(metrics, names) for names in (INPUT_TOKENS, OUTPUT_TOKENS)]
    known = [part for part in parts if part is not None]
    return sum(known, ZERO) if known else None


def _named(values: Mapping[str, Any], names: Sequence[str]) -> Decimal | None:
    """Return the first number that has one of these names."""
    return next(_numbers(values, names), None)


def _numbers(values: Mapping[str, Any], names: Sequence[str]) -> Iterator[Decimal]:
    for name in names:
        if (number := _number(values.get(name))) is not None:
            yield number


def _number(value: object, *, pattern: re.Pattern[str] = NUMBER) -> Decimal | None:
    """Return a value that is a number, or a text such as ``5s``; None: it is none, or absurd."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        found = pattern.fullmatch(value.strip())
        number = None if found is None else Decimal(found[1])
    elif isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        number = Decimal(str(value)) if abs(value) <= LARGEST else None
    else:
        number = None
    return number if number is not None and ZERO <= number <= LARGEST else None


def _times(number: Decimal, each: Decimal | None) -> Decimal | None:
    return None if each is None else EXACT.multiply(number, each)
