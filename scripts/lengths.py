# ruff: noqa: INP001 - a program, not a package
"""Find functions and files that are too long to be read at once.

Usage: `python -m scripts.lengths`; the exit code is 1 if there are some. What reads better whole is
excepted by name, with the reason; an exception that is not needed any more is reported, too.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("src", "scripts", "benchmarks")
LONGEST_FUNCTION: Final = 40  # lines, with signature and docstring
LONGEST_FILE: Final = 400  # lines
FROZEN: Final = "src/fleek/store/migrations/versions"  # what was released is not edited
EXCEPTED: Final[Mapping[str, str]] = {
    "src/fleek/bootstrap.py: open_runtime": "all that a process holds, in the order in which it opens",
    "src/fleek/client/models.py": "generated",
    "src/fleek/domain/errors.py": "the whole tree of errors",
    "src/fleek/engine/start.py": "one operation with its outcomes",
    "src/fleek/front/protocol.py": "one connection from its first byte to its last",
    "src/fleek/providers/base.py": "the port with what it promises",
    "src/fleek/providers/http.py": "one call with its failures",
    "src/fleek/providers/replicate/search.py": "one search through pages that change meanwhile",
    "src/fleek/schemas/read.py": "what callers get of a job",
    "src/fleek/schemas/read.py: example": "one literal",
    "src/fleek/schemas/read.py: job_document": "a line per field",
    "src/fleek/settings.py": "each setting with its description",
    "src/fleek/store/jobs.py": "a table with its statements",
    "src/fleek/store/tables.py": "all tables",
    "src/fleek/store/updates.py": "the write path",
    "src/fleek/telemetry.py: __init__": "a declaration per metric",
}


def main() -> int:
    """Report what is too long."""
    found = {place: lines for folder in FOLDERS for place, lines in _too_long(folder)}
    for place, lines in found.items():
        if place not in EXCEPTED:
            print(f"{place}: {lines} lines; divide it where it changes its subject")  # noqa: T201 - the report
    needless = sorted(EXCEPTED.keys() - found)
    for place in needless:
        print(f"{place}: is short enough now; remove the exception in scripts/lengths.py")  # noqa: T201 - likewise
    return 1 if needless or found.keys() - EXCEPTED else 0


def _too_long(folder: str) -> Iterator[tuple[str, int]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(FROZEN):
            yield from too_long(name, path.read_text(encoding="utf-8"))


def too_long(path: str, code: str) -> Iterator[tuple[str, int]]:
    """Yield what is too long in a file, and how long it is."""
    lines = len(code.splitlines())
    if lines > LONGEST_FILE:
        yield path, lines
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{path}: {node.name}", lines


if __name__ == "__main__":
    sys.exit(main())
