"""Whether all of a file has come, by its own format."""

import pytest

from fleek.emulator.media import render
from fleek.sniff.whole import Watcher

BOX = (20).to_bytes(4, "big") + b"ftypisom" + bytes(8)
LONG_BOX = (1).to_bytes(4, "big") + b"mdat" + (40).to_bytes(8, "big") + bytes(24)
OPEN_BOX = bytes(4) + b"mdat" + bytes(99)
FREE = (8).to_bytes(4, "big") + b"free"


def watched(content: bytes, step: int) -> Watcher:
    """Return what has seen a file in chunks of a size."""
    watcher = Watcher()
    for start in range(0, len(content), step):
        watcher.see(content[start : start + step])
    return watcher


@pytest.mark.parametrize("step", [1, 7, 64, 1000, 10**9])
@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "gif", "wav", "mp4"])
def test_a_whole_file_is_told_from_its_half(extension: str, step: int) -> None:
    """However the chunks fall."""
    content = render("name", extension)

    assert watched(content, step).whole is True
    assert watched(content[: len(content) // 2], step).whole is False
    assert watched(content[:-1], step).whole is False


@pytest.mark.parametrize("step", [1, 5, 13, 1000])
@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (BOX, True),
        (BOX + FREE + FREE + LONG_BOX, True),
        (BOX + LONG_BOX[:-1], False),
        (BOX + FREE[:-1], False),
        (BOX + OPEN_BOX, None),
        (BOX + b"\0\0\0\3junk" + bytes(30), None),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(99), None),
        (b"some words", None),
        (b"", None),
    ],
)
def test_boxes_are_followed_across_chunks(
    *, content: bytes, whole: bool | None, step: int
) -> None:
    """An MP4 file is whole when its last box is; one box may go on to the end."""
    assert watched(content, step).whole is whole


@pytest.mark.parametrize(
    ("content", "path", "page"),
    [
        (b"<!DOCTYPE html><title>x", "/x.png", True),
        (b"\xef\xbb\xbf \n<HTML>", "/x", True),
        (b'{"detail": "gone"}', "/x.webp", True),
        (b'{"a": 1}', "/x.json", False),
        (b"<!doctype html>", "/page.html", False),
        (b"<svg xmlns='x'/>", "/x.png", False),
        (b"\x89PNG\r\n\x1a\n", "/x.png", False),
    ],
)
def test_a_page_is_told_from_a_file(*, content: bytes, path: str, page: bool) -> None:
    """Hosts say with status 200 that something is wrong."""
    assert watched(content, 1000).is_page(path) is page
