"""Amounts of money: whole 10^-6 US dollars inside, decimal strings outside."""

from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Final, NewType

Micros = NewType("Micros", int)
"""An amount in 10^-6 US dollars."""

NOTHING: Final = Micros(0)
PER_DOLLAR: Final = 1_000_000
MOST: Final = Micros(10**9 * PER_DOLLAR)  # a sum of thousands of such amounts fits into 64 bits

EXACT: Final = Context(prec=50)


def read_usd(text: str) -> Micros:
    """Return an amount that is written as a decimal number of US dollars, such as ``0.25``.

    Raises:
        ValueError: It is none, is negative, is too large, or has more than six decimals.
    """
    amount = read_decimal(text)
    micros = amount * PER_DOLLAR
    if micros != micros.to_integral_value():
        raise ValueError("must have at most six decimals")
    return Micros(int(micros))


def read_decimal(text: str) -> Decimal:
    """Return a decimal number that is not negative, such as a price with any number of decimals.

    Raises:
        ValueError: It is none, or is too large.
    """
    if not text.isascii() or not text.replace(".", "", 1).isdigit() or len(text) > 40:
        raise ValueError("must be a decimal number of US dollars, such as 0.25")
    try:
        amount = EXACT.create_decimal(text)
    except InvalidOperation as error:
        raise ValueError("must be a decimal number of US dollars, such as 0.25") from error
    if amount * PER_DOLLAR > MOST:
        raise ValueError("is too large")
    return amount


def usd(amount: int) -> str:
    """Return an amount as a decimal number of US dollars, such as ``0.25``."""
    whole, part = divmod(abs(amount), PER_DOLLAR)
    decimals = f"{part:06}".rstrip("0")
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def usd_or_none(amount: int | None) -> str | None:
    """Return an amount as `usd` does; None stays None: it is not known."""
    return None if amount is None else usd(amount)


def round_up(amount: Decimal) -> Micros:
    """Return a number of US dollars as an amount, rounded up: a budget is never passed by rounding."""
    return Micros(int((amount * PER_DOLLAR).to_integral_value(rounding=ROUND_CEILING)))
