"""A stranger's body while it comes: in blocks, so that neither its size nor its chunks' counts."""

from typing import Final

BLOCK: Final = 1_048_576  # bytes that lie together


class ChunkBuffer:
    """A body as it comes, in blocks: however small its chunks are, they take no more memory."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._newest = bytearray()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._newest += chunk
        self.size += len(chunk)
        if len(self._newest) >= BLOCK:
            self._blocks.append(bytes(self._newest))
            self._newest.clear()

    def whole(self) -> bytes:
        """Return all bytes; joining many lets other threads run."""
        return b"".join((*self._blocks, bytes(self._newest)))
