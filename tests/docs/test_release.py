"""The release script: no step of a release is forgotten."""

from datetime import date

import pytest
from scripts.release import CHANGELOG, UNRELEASED, VERSIONED, cut, with_version

DAY = date(2026, 12, 24)


def test_unreleased_changes_become_the_release() -> None:
    """The next section is empty, the entries stay, and their text is the tag's."""
    before = (
        "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A.\n\n## [0.1.0] - 2026-01-01\n\n- B.\n"
    )

    after, notes = cut(before, "0.2.0", DAY)

    assert after == before.replace(UNRELEASED, f"{UNRELEASED}\n## [0.2.0] - 2026-12-24\n")
    assert notes == "### Added\n\n- A.\n"


@pytest.mark.parametrize(
    ("changelog", "version"),
    [
        ("## [Unreleased]\n\n- A.\n", "next"),
        ("## [Unreleased]\n\n- A.\n\n## [0.2.0] - 2026-12-01\n", "0.2.0"),
        ("## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n- A.\n", "0.2.0"),
        ("# Changelog\n", "0.2.0"),
    ],
    ids=["no version", "released", "empty", "no section"],
)
def test_an_invalid_release_is_refused(changelog: str, version: str) -> None:
    """A published tag cannot be withdrawn."""
    with pytest.raises(ValueError, match=r"no new version|nothing under"):
        cut(changelog, version, DAY)


def test_the_project_s_files_can_be_released() -> None:
    """They have the format that the script expects."""
    assert UNRELEASED in CHANGELOG.read_text()
    package, fleek, client = (with_version(path.read_text(), "9.9.9") for path in VERSIONED)
    assert '__version__ = "9.9.9"' in package
    assert '"fleek-client==9.9.9",' in fleek
    assert '\nversion = "9.9.9"' in client
