"""What a prediction gives, in any of the shapes that models use."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from fleek.emulator.media import CONTENT_TYPES, render

TEXT: Final = ("Once", " upon", " a", " time", " there", " was", " a", " ledger", ".")


def file_name(prediction_id: str, n: int) -> str:
    """Name the n-th output of a prediction; `media.render` makes its bytes from this."""
    return f"{prediction_id}/{n}"


def shape_output(shape: str, prediction_id: str, urls: list[str], extension: str) -> Any:
    """Give an output of this shape with these files.

    Raises:
        KeyError: There is no such shape.
    """
    return SHAPES[shape](prediction_id, urls, extension)


def _data_uri(prediction_id: str, n: int, extension: str) -> str:
    content = render(file_name(prediction_id, n), extension)
    kind = CONTENT_TYPES[extension].partition(";")[0]
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


SHAPES: Final[Mapping[str, Callable[[str, list[str], str], Any]]] = {
    "list": lambda _, urls, __: urls,
    "string": lambda _, urls, __: urls[0] if urls else None,
    "dict": lambda _, urls, __: {"file": urls[0] if urls else None, "text": "".join(TEXT)},
    "nested": lambda _, urls, __: {
        "results": [{"image": {"url": url}, "score": 0.5} for url in urls],
        "meta": {"flags": [None, True]},
    },
    "data_uri": lambda name, _, extension: _data_uri(name, 0, extension),
    "data_uris": lambda name, urls, extension: [
        _data_uri(name, n, extension) for n in range(len(urls))
    ],
    "text": lambda _, __, ___: "".join(TEXT),
    "tokens": lambda _, __, ___: list(TEXT),
    "null": lambda _, __, ___: None,
    "empty_list": lambda _, __, ___: [],
    "empty_string": lambda _, __, ___: "",
    "number": lambda _, __, ___: 0.5,
    "json": lambda _, __, ___: {"labels": ["cat", "dog"], "scores": [0.9, 0.1]},
    "dead_links": lambda _, urls, __: [f"{url}.gone" for url in urls],
}
