"""What can be kept of a text: no U+0000 and no half of a character, which some databases refuse."""

import re
from typing import Final

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def strip_unstorable(text: str) -> str:
    """Return what can be stored of an unchecked text, such as a provider's message."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


_CREDENTIALS: Final = re.compile(r"(?<=://)\S*@|(?<=Bearer )\S+|\b(?:r8|whsec)_\S+")


def without_credentials(text: str) -> str:
    """Return a library's words without the password of an address, or a token, in them."""
    return _CREDENTIALS.sub("***", text)


def one_line(text: str, most: int) -> str:
    """Return a stranger's text as one printable line of at most `most` characters."""
    printable = (char if char.isprintable() else " " for char in text[: 4 * most])
    line = " ".join("".join(printable).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
