"""Outputs of every shape become files, in their order."""

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
def test_outputs_of_every_shape_are_read(output: Any, expected: tuple[Output, ...]) -> None:
    """Models may return any JSON."""
    assert read_outputs(output) == expected


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["nul", "half a character"])
def test_unstorable_text_is_kept_as_bytes(text: str) -> None:
    """Otherwise the job could not be stored as completed."""
    (output,) = read_outputs(text)

    assert output.text is None
    assert str(output.uri).startswith("data:text/plain;base64,")


def test_files_above_the_limit_stay_in_the_document() -> None:
    """Their addresses are not lost."""
    *kept, document = read_outputs([f"{A}?{number}" for number in range(MAX_FILES + 2)])

    assert kept == list(files(*(f"{A}?{number}" for number in range(MAX_FILES))))
    assert json.loads(str(document.text))[MAX_FILES:] == [
        f"{A}?{MAX_FILES}",
        f"{A}?{MAX_FILES + 1}",
    ]


def test_a_deeply_nested_file_is_found() -> None:
    """The search does not use up the stack."""
    assert read_outputs(nested(A)) == files(A)


def test_an_output_nested_too_deeply_is_refused() -> None:
    """It could not be written as JSON."""
    with pytest.raises(OutputUnreadable):
        read_outputs(nested(1))


@pytest.mark.parametrize("word", ["a", "a "])
def test_text_may_have_any_number_of_parts(word: str) -> None:
    """A language model returns one part per word."""
    assert read_outputs([word] * 20_000) == (Output(text=word * 20_000),)


def test_a_wide_structure_is_kept() -> None:
    """Only its size in bytes is limited, where it is read."""
    (output,) = read_outputs([1] * 20_000)

    assert json.loads(str(output.text)) == [1] * 20_000


def nested(value: Any) -> Any:
    """Return a value within 5000 lists."""
    for _ in range(5000):
        value = [value]
    return value
