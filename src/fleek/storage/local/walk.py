"""The way from a key to its folder, walked folder by folder from an open area.

No link is followed below the area: a key cannot leave it, whatever has been planted there.
"""

import errno
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from fleek.domain.errors import NotFound

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


@contextmanager
def folders(area: Path, parts: Sequence[str], *, make: bool = False) -> Generator[list[int]]:
    """Open a key's area and the folders below it, in this order.

    Folders that were to be made are removed again if nothing comes to lie in them.
    """
    with ExitStack() as opened:
        fds = [os.open(area, FOLDER)]
        opened.callback(os.close, fds[0])
        try:
            for name in parts[1:-1]:
                fds.append(_folder(name, fds[-1], make=make))
                opened.callback(os.close, fds[-1])
            yield fds
        except OSError:
            if make:
                prune(parts, fds)
            raise


def prune(parts: Sequence[str], fds: Sequence[int]) -> None:
    """Remove the folders of a key that are empty, never its area."""
    with suppress(OSError):
        for number in reversed(range(1, len(fds))):
            os.rmdir(parts[number], dir_fd=fds[number - 1])


@contextmanager
def absence() -> Generator[None]:
    """Say `NotFound` where the operating system says that there is no such file."""
    try:
        yield
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFound("there is no such file") from None
        raise


def _folder(name: str, above: int, *, make: bool) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
    return os.open(name, FOLDER, dir_fd=above)
