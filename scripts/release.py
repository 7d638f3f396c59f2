# ruff: noqa: INP001 - a program, not a package
"""Cut a release: ``python -m scripts.release 0.2.0`` writes the version and the changelog.

What users notice, the text for the tag, is printed.
"""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
CHANGELOG: Final = ROOT / "CHANGELOG.md"
VERSIONED: Final = (
    ROOT / "src" / "fleek" / "__init__.py",
    ROOT / "pyproject.toml",
    ROOT / "packages" / "client" / "pyproject.toml",
)
UNRELEASED: Final = "## [Unreleased]\n"
VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


def cut(changelog: str, version: str, day: date) -> tuple[str, str]:
    """Return the changelog with what was unreleased below `version`, and that as notes.

    Raises:
        ValueError: There is nothing to release, or the version is no new one.
    """
    if not VERSION.fullmatch(version) or f"\n## [{version}]" in changelog:
        raise ValueError(f"{version} is no new version such as 0.2.0")
    before, found, rest = changelog.partition(UNRELEASED)
    notes = re.split(r"^## \[", rest, maxsplit=1, flags=re.MULTILINE)[0]
    if not found or not notes.strip():
        raise ValueError("the changelog has nothing under Unreleased")
    heading = f"## [{version}] - {day.isoformat()}\n"
    return f"{before}{UNRELEASED}\n{heading}{rest}", notes.strip() + "\n"


def with_version(text: str, version: str) -> str:
    """Return the text of a file with another version of the packages."""
    for pattern in (r'^__version__ = "(.*)"$', r'^version = "(.*)"', r'"fleek-client==(.*)"'):
        text = re.sub(
            pattern, lambda found: found[0].replace(found[1], version), text, flags=re.MULTILINE
        )
    return text


def main(version: str) -> None:
    """Write the files, and print the notes."""
    try:
        changelog, notes = cut(CHANGELOG.read_text(), version, datetime.now(UTC).date())
    except ValueError as error:
        sys.exit(str(error))
    CHANGELOG.write_text(changelog)
    for path in VERSIONED:
        path.write_text(with_version(path.read_text(), version))
    sys.stdout.write(notes)


if __name__ == "__main__":
    main(*sys.argv[1:])
