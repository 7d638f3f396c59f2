"""Every error says who must act, and whether another attempt can help."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from fleek.domain import errors
from fleek.domain.errors import FieldError, FleekError, InvalidInput, ProviderUnavailable, TooMany


def tree(kind: type[FleekError]) -> Iterator[type[FleekError]]:
    """Return all errors below one."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from tree(child)


KINDS = list(tree(FleekError))


def test_every_error_is_drawn_in_the_tree() -> None:
    """The picture at the top of the module is what readers trust."""
    drawn = errors.__doc__ or ""

    assert KINDS
    assert [kind.__name__ for kind in KINDS if f"── {kind.__name__}" not in drawn] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_code_and_a_sentence(kind: type[FleekError]) -> None:
    """Both are public."""
    assert kind.code.replace("_", "").isalpha()
    assert (kind.__doc__ or "").partition("\n")[0].endswith(".")


def test_a_code_may_be_narrowed() -> None:
    """One class, several reasons that callers can tell apart."""
    error = InvalidInput("no", code="unknown_model", errors=[FieldError("/model", "x", "y")])

    assert (error.code, error.errors[0].pointer) == ("unknown_model", "/model")
    assert FleekError("no").code == "internal_error"


def test_errors_that_pass_say_when() -> None:
    """If it is known."""
    minute = timedelta(minutes=1)

    assert TooMany("no", retry_after=minute).retry_after == minute
    assert ProviderUnavailable("no", retry_after=minute).retry_after == minute
    assert ProviderUnavailable("no").retry_after is None
