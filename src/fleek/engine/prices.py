"""The price list of a process: that of the operator, then the one of the package."""

import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from fleek.domain.errors import ConfigurationError
from fleek.domain.money import read_decimal
from fleek.domain.prices import Listed, Price, PriceList, Unit

BUILT_IN: Final = Path(__file__).parents[1] / "prices.toml"
FIELDS: Final = frozenset({"provider", "model", "hardware", "assume", "verified", *Unit})


def load_prices(path: Path | None) -> PriceList:
    """Return the prices of a file of the operator, if any, followed by those of the package.

    Raises:
        ConfigurationError: The file cannot be read, or is wrong; names the line's number in the list.
    """
    built_in = _built_in()
    if path is None:
        return built_in.prices
    try:
        own = _read(path.read_bytes(), built_in.hardware)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"PRICES_FILE: {path}: {reason}") from error
    return own.prices + built_in.prices


Hardware = Mapping[str, Mapping[str, Decimal]]
"""USD per second of run time, by provider and hardware."""


class _File:
    """The contents of a file of prices."""

    def __init__(self, prices: PriceList, hardware: Hardware) -> None:
        self.prices = prices
        self.hardware = hardware


@cache
def _built_in() -> _File:
    return _read(BUILT_IN.read_bytes(), {})


def _read(content: bytes, hardware: Hardware) -> _File:
    document = tomllib.loads(content.decode(), parse_float=Decimal)
    if unknown := document.keys() - {"price", "hardware"}:
        raise ValueError(f"{min(unknown)} is not known; there are price and hardware")
    own = {
        provider: {name: _amount(value, name) for name, value in _table(rows, provider).items()}
        for provider, rows in _table(document.get("hardware", {}), "hardware").items()
    }
    merged = {name: {**hardware.get(name, {}), **own.get(name, {})} for name in {*hardware, *own}}
    rows = document.get("price", [])
    if not isinstance(rows, list):
        raise ValueError("price must be a list: write [[price]]")
    return _File(PriceList(list(_lines(rows, merged))), merged)


def _lines(rows: list[Any], hardware: Hardware) -> Iterator[Listed]:
    for number, row in enumerate(rows, 1):
        try:
            yield _line(_table(row, "price"), hardware)
        except ValueError as error:
            raise ValueError(f"price {number}: {error}") from error


def _line(row: Mapping[str, Any], hardware: Hardware) -> Listed:
    if unknown := row.keys() - FIELDS:
        raise ValueError(f"{min(unknown)} is not known; there are: {', '.join(sorted(FIELDS))}")
    provider, model = (_text(row, name) for name in ("provider", "model"))
    units = {unit: _amount(row[unit], unit) for unit in Unit if unit in row}
    if "hardware" in row:
        name = _text(row, "hardware")
        if Unit.RUN_SECOND in units or name not in hardware.get(provider, {}):
            raise ValueError(f"hardware: {provider} has no {name}, or there is a run_second, too")
        units[Unit.RUN_SECOND] = hardware[provider][name]
    if not units:
        raise ValueError("names no unit")
    verified = row.get("verified", True)
    if not isinstance(verified, bool):
        raise ValueError("verified must be true or false")
    return Listed(provider, model, Price(units=units, assumed=_assumed(row), verified=verified))


def _assumed(row: Mapping[str, Any]) -> dict[Unit, Decimal]:
    assumed = _table(row.get("assume", {}), "assume")
    if unknown := assumed.keys() - set(Unit):
        raise ValueError(f"assume: {min(unknown)} is no unit")
    return {Unit(name): _amount(value, name) for name, value in assumed.items()}


def _table(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table")
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing, or no text")
    return value


def _amount(value: object, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"{name} must be a decimal number, such as 0.25")
    try:
        return read_decimal(format(value, "f") if isinstance(value, Decimal) else str(value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
