# ruff: noqa: INP001 - a program, not a package
"""What the generated pages have in common."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MADE: Final = "<!-- Made from the code: run `make docs` after a change. -->"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(_line(cells) for cells in lines)


def _line(cells: tuple[str, ...]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def page(*parts: str) -> str:
    """Return paragraphs as one document."""
    return "\n\n".join(part.strip() for part in parts) + "\n"
