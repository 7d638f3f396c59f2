# ruff: noqa: INP001 - a program, not a package
"""Makes the synchronous client from the asynchronous one: ``python scripts/make_sync_client.py``.

A plain substitution of words, then the formatter. A test fails while the files differ.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "src/fleek/client"

WORDS: Final = (
    (r"asynchronous client; the synchronous one is made from this folder", "synchronous client"),
    (
        r"asynchronous client, written by hand; `fleek.client._sync` is made from it",
        "synchronous client",
    ),
    (r"asynchronous", "synchronous"),
    (r"import asyncio", "import time"),
    (r"asyncio\.sleep", "time.sleep"),
    (r"Awaitable\[(\w+)\]", r"\1"),
    (r"Awaitable, ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"client\._async", "client._sync"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\baiter_bytes\b", "iter_bytes"),
    (r"\baclose\b", "close"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"  # noqa: ASYNC\d+.*", ""),
)

MADE: Final = (
    "\n\n# Made by scripts/make_sync_client.py from the file of this name in _async; edit that."
)


SORT: Final = [
    *("check", "--fix", "--unsafe-fixes", "--select=I,UP028"),
    *("--config", 'lint.isort.known-first-party=["fleek"]'),
]
STDIN: Final = ["--stdin-filename", str(PACKAGE / "_sync/client.py"), "-"]


def synchronous(source: str) -> str:
    """Return the synchronous form of a module, as it must stand in its file."""
    for pattern, word in WORDS:
        source = re.sub(pattern, word, source)
    title, mark, rest = source.partition('."""\n')
    return _tidy(f"{title}{mark.rstrip()}{MADE}\n{rest}")


def _tidy(source: str) -> str:
    for step in (SORT, ["format"]):
        command = [sys.executable, "-m", "ruff", *step, "--quiet", *STDIN]
        done = subprocess.run(  # noqa: S603 - our own linter on our own file
            command, input=source, capture_output=True, text=True, check=True
        )
        source = done.stdout
    return source


def modules() -> dict[Path, str]:
    """Return what each file of the synchronous client must hold."""
    return {
        PACKAGE / "_sync" / path.name: synchronous(path.read_text())
        for path in sorted((PACKAGE / "_async").glob("*.py"))
    }


def main() -> None:
    """Write the files."""
    for path, source in modules().items():
        path.write_text(source)


if __name__ == "__main__":
    main()
