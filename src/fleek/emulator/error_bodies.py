"""Bodies of errors and unexpected JSON, in the forms that real hosts use."""

from collections.abc import Callable, Mapping
from typing import Any, Final

FORMS: Final[Mapping[str, Callable[[str], Any]]] = {
    "list": lambda text: {"detail": [{"loc": ["body", "input"], "msg": text, "type": "value"}]},
    "error": lambda text: {"error": text},
    "message": lambda text: {"message": text},
    "nested": lambda text: {"error": {"code": "E1", "message": text}},
    "errors": lambda text: {"errors": [{"title": text}]},
    "array": lambda text: [text],
}
"""Bodies of an error; beside them there are `problem` (Replicate's own), `html` and `text`."""

ERRORS: Final[Mapping[str, Callable[[str], Any]]] = {
    "object": lambda text: {"code": "E9999", "message": text},
    "detail": lambda text: {"detail": text},
    "list": lambda text: [text, "and more"],
    "objects": lambda text: [{"loc": ["input"], "msg": text}],
    "number": lambda _: 500,
    "true": lambda _: True,
    "empty": lambda _: "",
    "null": lambda _: None,
}
"""A failed prediction's `error`."""

ODD: Final[Mapping[str, Any]] = {
    "list": [],
    "null": None,
    "number": 7,
    "text": "not now",
    "empty": {},
    "error": {"error": "upstream request timed out"},
    "nulls": {"id": None, "status": None, "results": None},
    "rows": {"results": [None, 7, "x", [], {}], "next": 7},
}
"""JSON that is neither a prediction nor a list of them."""
