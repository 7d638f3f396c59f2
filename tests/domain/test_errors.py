"""Errors have codes, documentation and, where known, a retry delay."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleek.domain import errors
from fleek.domain.errors import FieldError, FleekError, InvalidInput, ProviderUnavailable, TooMany


def tree(kind: type[FleekError]) -> Iterator[type[FleekError]]:
    """Yield all subclasses that the module defines."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from tree(child)


KINDS = list(tree(FleekError))


def test_every_error_is_in_the_module_docstring() -> None:
    """The tree at the top of the module is complete."""
    drawn = errors.__doc__ or ""

    assert KINDS
    assert [kind.__name__ for kind in KINDS if f"── {kind.__name__}" not in drawn] == []


def test_every_error_has_a_code_and_a_docstring(subtests: pytest.Subtests) -> None:
    """Both are public."""
    for kind in KINDS:
        with subtests.test(kind=str(kind)[:40]):
            assert kind.code.replace("_", "").isalpha()
            assert (kind.__doc__ or "").partition("\n")[0].endswith(".")


def test_an_error_code_can_be_overridden() -> None:
    """One class has several reasons that callers can distinguish."""
    error = InvalidInput("no", code="unknown_model", errors=[FieldError("/model", "x", "y")])

    assert (error.code, error.errors[0].pointer) == ("unknown_model", "/model")
    assert FleekError("no").code == "internal_error"


def test_temporary_errors_carry_retry_after() -> None:
    """The value is None if the delay is unknown."""
    minute = timedelta(minutes=1)

    assert TooMany("no", retry_after=minute).retry_after == minute
    assert ProviderUnavailable("no", retry_after=minute).retry_after == minute
    assert ProviderUnavailable("no").retry_after is None
