"""Outputs of every shape become files, in the order in which they stand there."""

from typing import Any

import pytest

from fleek.domain.media import Output
from fleek.providers.outputs import OutputUnreadable, read_outputs

A, B, C = (f"https://replicate.delivery/x/{name}.png" for name in "abc")


def files(*uris: str) -> tuple[Output, ...]:
    """Return outputs with these addresses."""
    return tuple(Output(uri=uri) for uri in uris)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ({}, ()),
        ([""], ()),
        ({"file": None, "more": [None, ""]}, ()),
        (A, files(A)),
        ([A, B], files(A, B)),
        ({"file": A, "text": "words"}, files(A)),
        ({"z": [{"image": {"url": C}}, {"image": {"url": A}}], "a": B}, files(C, A, B)),
        ("data:image/png;base64,AA==", files("data:image/png;base64,AA==")),
        ([A, None, 7, True], files(A)),
        ("once upon a time", (Output(text="once upon a time"),)),
        (["once", " upon", " a time"], (Output(text="once upon a time"),)),
        (0.5, (Output(text="0.5"),)),
        (False, (Output(text="false"),)),
        ({"label": "cät", "n": [1]}, (Output(text='{"label": "cät", "n": [1]}'),)),
        ("see https://example.com/x", (Output(text="see https://example.com/x"),)),
        ("javascript:alert(1)", (Output(text="javascript:alert(1)"),)),
        ("file:///etc/passwd", (Output(text="file:///etc/passwd"),)),
        ("https://" + "x" * 3000, (Output(text="https://" + "x" * 3000),)),
        ("data: that is all", (Output(text="data: that is all"),)),
    ],
)
def test_every_shape(output: Any, expected: tuple[Output, ...]) -> None:
    """Models may return anything that JSON can hold."""
    assert read_outputs(output) == expected


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["nul", "half a character"])
def test_text_that_a_database_cannot_hold_is_kept_as_bytes(text: str) -> None:
    """Otherwise the job could not be stored as done."""
    (output,) = read_outputs(text)

    assert output.text is None
    assert (output.uri or "").startswith("data:text/plain;base64,")


def test_too_many_files_are_refused() -> None:
    """Ten thousand addresses are no output of a model."""
    with pytest.raises(OutputUnreadable):
        read_outputs([A] * 65)


def test_endless_nesting_is_refused() -> None:
    """It must not use up the stack."""
    nested: list[Any] = [A]
    for _ in range(5000):
        nested = [nested]

    with pytest.raises(OutputUnreadable):
        read_outputs(nested)


def test_endless_width_is_refused() -> None:
    """Nor the time of the event loop."""
    with pytest.raises(OutputUnreadable):
        read_outputs([1] * 20_000)
