# ruff: noqa: INP001 - a program, not a package
"""Makes the pages that are made from the code: ``make docs``.

With ``--check`` nothing is written; the names of pages that would change are printed instead, and
the exit code is 1 if there are any.
"""

import sys
from pathlib import Path

from scripts.docs.errors import errors_page
from scripts.docs.log_events import log_events_page
from scripts.docs.settings import env_example, settings_page
from scripts.docs.table import ROOT


def pages() -> dict[Path, str]:
    """Return what each generated file must hold."""
    return {
        ROOT / "docs/reference/settings.md": settings_page(),
        ROOT / "docs/reference/errors.md": errors_page(),
        ROOT / "docs/reference/log-events.md": log_events_page(),
        ROOT / ".env.example": env_example(),
    }


def main() -> int:
    """Write the files that differ, or only name them."""
    check = "--check" in sys.argv
    stale = {
        path: text
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))  # noqa: T201 - what has changed, or would
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
