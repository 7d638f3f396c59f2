"""Finding media inputs among the parameters, and replacing their values."""

from typing import Any, Final

import pytest

from fleek.domain.inputs import InputKind, MediaInput, media_inputs, texts_of, with_values

ID: Final = "0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"
FILE: Final = {"properties": {"reference": {"type": "string", "format": "uri"}}}
FILES: Final = {
    "properties": {"reference": {"anyOf": [{"type": "array", "items": {"format": "uri"}}]}}
}


@pytest.mark.parametrize(
    ("parameters", "schema", "expected"),
    [
        ({"image": f"upload:{ID}"}, None, [("/image", "upload", ID, 0)]),
        ({"anything": f"upload:{ID}"}, None, [("/anything", "upload", ID, 0)]),
        ({"image": f"job:{ID}"}, None, [("/image", "job", ID, 0)]),
        ({"image": f"job:{ID}/3"}, None, [("/image", "job", ID, 3)]),
        ({"image": "https://example.com/a.png"}, None, [("/image", "https", None, 0)]),
        (
            {"first_frame_image": " HTTPS://e.com"},
            None,
            [("/first_frame_image", "https", None, 0)],
        ),
        ({"mask": "data:image/png;base64,AAAA"}, None, [("/mask", "data", None, 0)]),
        ({"reference": "https://e.com/a"}, FILE, [("/reference", "https", None, 0)]),
        ({"reference": ["https://e.com/a"]}, FILES, [("/reference/0", "https", None, 0)]),
        ({"a/b~c": {"x": [f"job:{ID}"]}}, None, [("/a~1b~0c/x/0", "job", ID, 0)]),
        ({"image_prompt": "https://e.com"}, None, [("/image_prompt", "https", None, 0)]),
        ({"reference": "https://e.com/a"}, None, []),
        ({"image_prompt_strength": "https://e.com/a"}, None, []),
        ({"image": "cat.png", "seed": 7, "mask": None}, None, []),
        ({"image": f"Upload:{ID}"}, None, [("/image", "malformed", None, 0)]),
        ({"image": "job:1"}, None, [("/image", "malformed", None, 0)]),
        ({"text": "job: done"}, None, []),
        ({"image": "http://e.com/a.png"}, None, []),
        ({"negative_prompt": f"a upload:{ID}"}, None, []),
        ({"image": "https://e.com"}, {"properties": []}, [("/image", "https", None, 0)]),
        ({"reference": "https://e.com"}, {"properties": {"reference": 5}}, []),
    ],
)
def test_media_inputs_are_found(
    parameters: Any, schema: Any, expected: list[tuple[Any, ...]]
) -> None:
    """References anywhere, addresses only where the model expects a file."""
    found = media_inputs(parameters, schema)

    assert found == tuple(
        MediaInput(pointer=pointer, kind=InputKind(kind), id=named, index=index)
        for pointer, kind, named, index in expected
    )


def test_a_deep_schema_is_searched_cheaply() -> None:
    """Schemas are untrusted."""
    schema: Any = {"format": "uri"}
    for _ in range(500):
        schema = {"anyOf": [schema, schema]}

    assert media_inputs({"x": "https://e.com"}, {"properties": {"x": schema}}) == ()


def test_values_of_media_inputs_are_replaced() -> None:
    """Other parameters are unchanged."""
    given = {"image": "a", "images": ["b", {"c": "d"}], "seed": 7}

    changed = with_values(given, {"/image": "A", "/images/1/c": "D"})

    assert changed == {"image": "A", "images": ["b", {"c": "D"}], "seed": 7}
    assert given["image"] == "a"
    assert texts_of(changed) == {"/image": "A", "/images/0": "b", "/images/1/c": "D"}
