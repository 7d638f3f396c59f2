"""Untrusted text is read in linear time."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from fleek.providers.outputs import read_outputs
from fleek.sniff.completeness import HEAD
from fleek.sniff.page import is_words_in_place

Reading = Callable[[int], Any]

LONG: Final = 2_000  # characters
GROWTH: Final = 16  # ratio of the two lengths
MOST: Final = 64  # times the work; linear work grows 16-fold, quadratic work 256-fold


def _page(text: str, path: str = "/a.html") -> None:
    for _ in range(20):
        is_words_in_place(text.encode(), path=path, complete=True)


LONG_TEXTS: Final[Mapping[str, Reading]] = {
    "data": lambda n: read_outputs("data:" + " " * n + "x"),
    "data with a type": lambda n: read_outputs("data:" + " " * n + "a/b" + " " * n + "x"),
    "data in a list": lambda n: read_outputs([1, "data:\t" + "\n" * n + "x"]),
    "data in parameters": lambda n: read_outputs("data:a/b;" + '"' * (n + 1)),
    "slashes": lambda n: read_outputs("/" * n + " x"),
    "slashes at home": lambda n: read_outputs(["~" + "/" * n + " x", "b"]),
    "endings": lambda n: read_outputs(".png?" * n + " x"),
}
PAGES: Final[Mapping[str, Reading]] = {
    "a page's title": lambda n: _page("<html><h1>" + " " * n),
    "a page's titles": lambda n: _page("<html>" + "<h1>" * (n // 4)),
    "an error": lambda n: _page('{"message":"' + " " * n + '"}', "/a"),
    "an error of colons": lambda n: _page('{"message":"' + ":" * n + '"}', "/a"),
}


def work(reading: Reading, length: int) -> list[float]:
    """Return the processor time of three readings of a text of this length."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        reading(length)
        took.append(time.thread_time() - began)
    return took


@pytest.mark.parametrize("reading", LONG_TEXTS.values(), ids=LONG_TEXTS)
def test_long_text_is_read_in_linear_time(reading: Reading) -> None:
    """Quadratic work would stop all jobs.

    The work is compared with that of a shorter text, whatever the machine's speed.
    """
    assert min(work(reading, LONG)) < MOST * max(work(reading, LONG // GROWTH))


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("reading", PAGES.values(), ids=PAGES)
def test_long_pages_are_read_in_linear_time(reading: Reading) -> None:
    """Only the beginning of a page is read."""
    assert min(work(reading, HEAD)) < MOST * max(work(reading, HEAD // GROWTH))
