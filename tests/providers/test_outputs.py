"""Outputs of every shape become files, in the order in which they stand there."""

import json
from typing import Any

import pytest

from fleek.domain.media import Output
from fleek.providers.outputs import MAX_FILES, OutputUnreadable, read_outputs

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
        (
            {"file": A, "text": "words"},
            (*files(A), Output(text='{"file": {"output": 0}, "text": "words"}')),
        ),
        (
            {"image": A, "seed": 3, "nsfw": False, "none": None, "more": [1, ["x"]]},
            (
                *files(A),
                Output(
                    text='{"image": {"output": 0}, "seed": 3, "nsfw": false, "none": null, '
                    '"more": [1, ["x"]]}'
                ),
            ),
        ),
        ({"z": [{"image": {"url": C}}, {"image": {"url": A}}], "a": B}, files(C, A, B)),
        ("data:image/png;base64,AA==", files("data:image/png;base64,AA==")),
        ([A, None, ""], files(A)),
        ([A, None, 7, True], (*files(A), Output(text='[{"output": 0}, null, 7, true]'))),
        ([A, "cap"], (*files(A), Output(text='[{"output": 0}, "cap"]'))),
        (["see ", A, " and weep"], (Output(text=f"see {A} and weep"),)),
        (
            {"image": A, "name": "a.png"},
            (*files(A), Output(text='{"image": {"output": 0}, "name": "a.png"}')),
        ),
        (
            {"file": "gs://b/x.png", "seed": 1},
            (*files("gs://b/x.png"), Output(text='{"file": {"output": 0}, "seed": 1}')),
        ),
        (["a/b.png", "a/c.png"], files("a/b.png", "a/c.png")),
        ("once upon a time", (Output(text="once upon a time"),)),
        (["once", " upon", " a time"], (Output(text="once upon a time"),)),
        (0.5, (Output(text="0.5"),)),
        (False, (Output(text="false"),)),
        ({"label": "cät", "n": [1]}, (Output(text='{"label": "cät", "n": [1]}'),)),
        ("see https://example.com/x", (Output(text="see https://example.com/x"),)),
        ("javascript:alert(1)", (Output(text="javascript:alert(1)"),)),
        ("file:///etc/passwd", files("file:///etc/passwd")),
        ("https://" + "x" * 3000 + ".com", files("https://" + "x" * 3000 + ".com/")),
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
    assert str(output.uri).startswith("data:text/plain;base64,")


def test_files_above_the_limit_stay_in_the_document() -> None:
    """What fits is kept, and the rest is not forgotten."""
    *kept, document = read_outputs([f"{A}?{number}" for number in range(MAX_FILES + 2)])

    assert kept == list(files(*(f"{A}?{number}" for number in range(MAX_FILES))))
    assert json.loads(str(document.text))[MAX_FILES:] == [
        f"{A}?{MAX_FILES}",
        f"{A}?{MAX_FILES + 1}",
    ]


def test_a_file_is_found_however_deep_it_lies() -> None:
    """To look for it must not use up the stack."""
    assert read_outputs(nested(A)) == files(A)


def test_what_is_nested_too_deeply_to_be_written_is_refused() -> None:
    """There is no form in which it could be kept."""
    with pytest.raises(OutputUnreadable):
        read_outputs(nested(1))


@pytest.mark.parametrize("word", ["a", "a "])
def test_a_text_in_parts_may_have_any_length(word: str) -> None:
    """A language model writes one part per word."""
    assert read_outputs([word] * 20_000) == (Output(text=word * 20_000),)


def test_a_wide_structure_is_kept() -> None:
    """Only its size in bytes counts, and that is bounded where it is read."""
    (output,) = read_outputs([1] * 20_000)

    assert json.loads(str(output.text)) == [1] * 20_000


def nested(value: Any) -> Any:
    """Return a value within 5000 lists."""
    for _ in range(5000):
        value = [value]
    return value
