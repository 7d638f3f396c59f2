"""Whatever strangers write is read in time that grows with its length only: nothing waits for it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from fleek.providers.outputs import read_outputs
from fleek.sniff.completeness import HEAD
from fleek.sniff.page import is_words_in_place

LONG: Final = 60_000  # characters
MOST_SECONDS: Final = 2.0  # of the processor, whatever else it does; it takes a hundredth


def _page(text: str, path: str) -> None:
    head = text.encode()[:HEAD]
    for _ in range(20):
        is_words_in_place(head, path=path, complete=True)


READINGS: Final[Mapping[str, Callable[[], Any]]] = {
    "data": lambda: read_outputs("data:" + " " * LONG + "x"),
    "data with a type": lambda: read_outputs("data:" + " " * LONG + "a/b" + " " * LONG + "x"),
    "data in a list": lambda: read_outputs([1, "data:\t" + "\n" * LONG + "x"]),
    "data in parameters": lambda: read_outputs("data:a/b;" + '"' * (LONG + 1)),
    "slashes": lambda: read_outputs("/" * LONG + " x"),
    "slashes at home": lambda: read_outputs(["~" + "/" * LONG + " x", "b"]),
    "endings": lambda: read_outputs(".png?" * LONG + " x"),
    "a page's title": lambda: _page("<html><h1>" + " " * HEAD, "/a.html"),
    "a page's titles": lambda: _page("<html>" + "<h1>" * HEAD, "/a.html"),
    "an error": lambda: _page('{"message":"' + " " * (HEAD - 20) + '"}', "/a"),
    "an error of colons": lambda: _page('{"message":"' + ":" * (HEAD - 20) + '"}', "/a"),
}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_what_is_long_is_not_slow(reading: Callable[[], Any]) -> None:
    """A prompt may ask a model for any text; one that took seconds would stop all jobs."""
    began = time.process_time()

    reading()

    assert time.process_time() - began < MOST_SECONDS
