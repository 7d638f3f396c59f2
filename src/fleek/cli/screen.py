"""Where a command writes: data to stdout, everything else to stderr, nothing unsafe to either."""

import json
import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters of terminals, and marks that reverse the direction of text."""

UNSAFE_IN_TEXT: Final = re.compile(f"(?![\t\n\r]){UNSAFE.pattern}")
"""The same, without tabs and the ends of lines."""


def clean(text: str) -> str:
    """Return untrusted text as one line without control characters."""
    return UNSAFE.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"[\r\n\t]+", " ", text))


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON with control characters escaped; it parses to the same value."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(
        "[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
        lambda match: f"\\u{ord(match[0]):04x}",
        text,
    )


class Outlet:
    """A standard stream that discards its output once it is closed or its reader has ended.

    `head` relies on this. `failure` is the error of any other failed write.
    """

    def __init__(self, stream: TextIO | None) -> None:  # None: it was closed from the start
        self._stream = stream or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def write_bytes(self, content: bytes) -> None:
        """Write bytes behind the text so far."""
        self.flush()
        try:
            self._stream.buffer.write(content)
        except OSError as error:
            self._let_go(error)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._let_go(error)

    def _let_go(self, error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            self.failure = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Screen:
    """A command's two streams, in the format that the user chose."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, no_color: bool = False
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._no_color = no_color

    @cached_property
    def out(self) -> "Console":
        """The console on stdout, for tables."""
        return self._console(stderr=False)

    @cached_property
    def err(self) -> "Console":
        """The console on stderr, for progress."""
        return self._console(stderr=True)

    def _console(self, *, stderr: bool) -> "Console":
        from rich.console import Console  # noqa: PLC0415 - not needed for most commands

        no_color = True if self._no_color else None  # None: NO_COLOR decides
        return Console(
            stderr=stderr, no_color=no_color, highlight=False, emoji=False, markup=False
        )

    def data(self, *fields: object) -> None:
        """Write one line of data; several fields are separated by tabs."""
        sys.stdout.write("\t".join(clean(str(field)) for field in fields) + "\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Write untrusted text; of control characters, those stay that lines are made of."""
        sys.stdout.write(UNSAFE_IN_TEXT.sub("\N{REPLACEMENT CHARACTER}", text))
        sys.stdout.flush()

    def json(self, value: Any) -> None:
        """Write one JSON document, indented."""
        sys.stdout.write(to_json(value, indent=2) + "\n")

    def json_line(self, value: Any) -> None:
        """Write one JSON document on one line of several."""
        sys.stdout.write(to_json(value) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Write a message to stderr, unless quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Write a message to stderr, even if quiet."""
        sys.stderr.write(clean(text) + "\n")
        sys.stderr.flush()
