"""The guide from one machine to many: every step is a diff that applies to the step before."""

import re
from collections.abc import Mapping
from typing import Final

import pytest
from scripts.docs import settings as reference

from examples import FENCE, ROOT
from fleek.environment import read
from fleek.settings import Settings

PAGE: Final = ROOT / "docs/how-to/from-one-machine-to-many.md"
DIFFS: Final = [text for language, text in FENCE.findall(PAGE.read_text()) if language == "diff"]


def after(diff: str, lines: list[str]) -> list[str]:
    """Return the lines with the diff applied; lines outside the diff stay.

    Raises:
        ValueError: A line that it keeps or removes is missing.
    """
    found = list(lines)
    for line in diff.splitlines():
        sign, text = line[0], line[1:]
        if sign == "+":
            found.append(text)
        elif sign == "-":
            found.remove(text)
        else:
            found.index(text)
    return found


def steps() -> list[list[str]]:
    """Return the settings of each step."""
    lines: list[str] = []
    found = []
    for diff in DIFFS:
        lines = after(diff, lines)
        found.append(lines)
    return found


def test_each_step_applies_to_the_previous_one() -> None:
    """Readers who follow the page have the shown settings at each step."""
    last = steps()[-1]

    assert len(DIFFS) == 5
    assert not any(line.startswith("STORAGE_PATH") for line in last)
    assert {line.partition("=")[0] for line in last} >= {"DATABASE_URL", "DISPATCH", "S3_BUCKET"}


def test_each_name_is_a_setting() -> None:
    """A misspelt setting causes no error: it is not read."""
    known = {
        spelling
        for described in reference.areas().values()
        for name, field in described
        for spelling in reference.names(name, field)
    }
    shown = set(re.findall(r"^[+-]([A-Z0-9_]+)=", "\n".join(DIFFS), re.MULTILINE))

    assert shown - known == set()


@pytest.mark.parametrize("number", range(len(DIFFS)))
def test_each_step_is_accepted(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The service starts with exactly these lines."""
    given: Mapping[str, str] = dict(line.split("=", 1) for line in steps()[number])
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    settings = read(Settings)

    assert settings.database_url == given["DATABASE_URL"]
    assert settings.dispatch == given.get("DISPATCH", "embedded")
    assert settings.storage_backend == given.get("STORAGE_BACKEND", "local")
