"""Whether all of a file has come, told by its own format while it streams past.

HTTP does not always tell: a server may say a length that is too short, or no length at all and
simply close the connection. Most media formats know their end.
"""

from typing import Final

TAIL: Final = 64  # bytes; some writers add a little after the end
HEAD: Final = 512
_PNG_END: Final = b"IEND\xaeB`\x82"
_UNKNOWN_SIZES: Final = frozenset({0, 0xFFFFFFFF})  # of RIFF files that were written as a stream
_WORDS: Final = (b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<?php")
_BINARY: Final = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "webp",
        "gif",
        "avif",
        "heic",
        "bmp",
        "tif",
        "tiff",
        "mp4",
        "m4a",
        "mov",
        "webm",
        "mkv",
        "wav",
        "mp3",
        "ogg",
        "flac",
        "zip",
        "glb",
    ]
)


class Watcher:
    """Sees each chunk of a file and then says what it makes of them."""

    def __init__(self) -> None:
        self.size = 0  # bytes so far
        self.head = b""
        self._tail = b""
        self._box_at = 0  # where the next top-level box of an MP4 file begins
        self._box = b""  # its first 16 bytes, as far as they have come
        self._boxed = True  # until a box does not tell its size

    def see(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        if len(self.head) < HEAD:
            self.head += chunk[: HEAD - len(self.head)]
        self._tail = (self._tail + chunk[-TAIL:])[-TAIL:]
        if self._boxed and (len(self.head) < 8 or self.head[4:8] == b"ftyp"):
            self._walk(chunk)
        self.size += len(chunk)

    @property
    def whole(self) -> bool | None:
        """Whether the file is all there; None if its format does not tell."""
        head = self.head
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _PNG_END in self._tail
        if head.startswith(b"\xff\xd8\xff"):
            return b"\xff\xd9" in self._tail
        if head.startswith((b"GIF87a", b"GIF89a")):
            return self._tail.rstrip(b"\0").endswith(b"\0;")
        if head.startswith(b"RIFF"):
            told = int.from_bytes(head[4:8], "little")
            return None if told in _UNKNOWN_SIZES else self.size >= told + 8
        if head[4:8] == b"ftyp":
            return self.size == self._box_at if self._boxed else None
        return None

    def is_page(self, path: str) -> bool:
        """Whether these are words for people or programs where `path` promises a media file.

        A page is what hosts send in place of a file when something is wrong, with status 200.
        """
        ending = path.rpartition(".")[2].lower()
        start = self.head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        if ending in {"html", "htm"}:
            return False
        return start.startswith(_WORDS) or (ending in _BINARY and start.startswith((b"{", b"[")))

    def _walk(self, chunk: bytes) -> None:
        """Follow the sizes that stand at the beginning of each box."""
        first, end = self.size, self.size + len(chunk)
        while self._box_at + len(self._box) < end:
            at = self._box_at + len(self._box) - first
            self._box += chunk[at : at + 16 - len(self._box)]
            size = int.from_bytes(self._box[:4], "big")
            if len(self._box) < (16 if size == 1 else 8):
                return
            if size == 1:
                size = int.from_bytes(self._box[8:16], "big")
            if size < 8:  # 0: it goes to the end of the file, wherever that is; else: no box
                self._boxed = False
                return
            self._box_at, self._box = self._box_at + size, b""
