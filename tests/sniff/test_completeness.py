"""Each format shows if a file is complete."""

import pytest

from fleek.emulator.media import render
from fleek.sniff.completeness import Watcher

BOX = (20).to_bytes(4, "big") + b"ftypisom" + bytes(8)
LONG_BOX = (1).to_bytes(4, "big") + b"mdat" + (40).to_bytes(8, "big") + bytes(24)
OPEN_BOX = bytes(4) + b"mdat" + bytes(99)
INDEX = (12).to_bytes(4, "big") + b"moov" + bytes(4)
FREE = (8).to_bytes(4, "big") + b"free"


def watch(content: bytes, step: int) -> Watcher:
    """Return a watcher that has seen the content in chunks of this size."""
    watcher = Watcher()
    for start in range(0, len(content), step):
        watcher.see(content[start : start + step])
    return watcher


def test_a_whole_file_is_distinguished_from_a_truncated_one(subtests: pytest.Subtests) -> None:
    """The size of the chunks does not matter."""
    for extension in ["png", "jpg", "webp", "gif", "wav", "mp4"]:
        for step in [1, 7, 64, 1000, 10**9]:
            with subtests.test(extension=str(extension)[:40], step=str(step)[:40]):
                content = render("name", extension)

                assert watch(content, step).whole is True
                assert watch(content[: len(content) // 2], step).whole is False
                assert watch(content[:-1], step).whole is False


def test_trailing_bytes_are_allowed(subtests: pytest.Subtests) -> None:
    """Viewers ignore them."""
    for extension in ["png", "jpg", "webp", "gif", "wav", "mp4"]:
        for behind in [b"\0", bytes(5000), b"\n", b"\xff\xd8\xff", b"IEND", b"trash"]:
            with subtests.test(extension=str(extension)[:40], behind=str(behind)[:40]):
                assert watch(render("name", extension) + behind, 1000).whole is True


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "gif", "wav"])
def test_no_prefix_counts_as_complete(extension: str) -> None:
    """The file is cut at every byte: each of these formats marks its end."""
    content = render("name", extension)
    watcher = Watcher()

    for at in range(len(content)):
        assert watcher.whole is not True
        watcher.see(content[at : at + 1])
    assert watcher.whole is True


def test_boxes_are_followed_across_chunks(subtests: pytest.Subtests) -> None:
    """An MP4 file is complete when its last box is; one box may extend to the end."""
    for content, whole in [
        (BOX, False),
        (BOX + FREE + FREE + LONG_BOX, False),
        (BOX + INDEX + LONG_BOX, True),
        (BOX + FREE + LONG_BOX + INDEX, True),
        (BOX + LONG_BOX + INDEX[:-1], False),
        (BOX + LONG_BOX[:-1], False),
        (BOX + FREE[:-1], False),
        (BOX + OPEN_BOX, None),
        (BOX + INDEX + LONG_BOX + bytes(99), True),
        (BOX + INDEX + LONG_BOX + b"\0\0\0", True),
        (BOX + INDEX + LONG_BOX + b"<!-- cached -->", True),
        (BOX + b"\0\0\0\3junk" + bytes(30), None),
        (b"RIFF\xff\xff\xff\xffWAVE" + bytes(99), None),
        (b"some words", None),
        (b"", None),
    ]:
        for step in [1, 5, 13, 1000]:
            with subtests.test(
                content=str(content)[:40], whole=str(whole)[:40], step=str(step)[:40]
            ):
                assert watch(content, step).whole is whole
