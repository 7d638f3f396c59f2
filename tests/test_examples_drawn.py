"""Hypothesis draws the same examples in every run, whatever a process has imported before."""

import importlib.util
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

MANY: Final = 200
ODD: Final = [1_234_567 + 1_001 * number for number in range(40)]


def drawn() -> list[int]:
    """Return the examples of a property."""
    found: list[int] = []

    @settings(max_examples=MANY, database=None)
    @given(st.integers())
    def note(example: int) -> None:
        found.append(example)

    note()
    return found


@pytest.mark.usefixtures("_full_suite")  # takes half a second
def test_examples_do_not_depend_on_imported_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a module of ours, the library would take the constants."""
    before = drawn()
    path = tmp_path / "peculiar.py"
    path.write_text(f"NUMBERS = {ODD!r}")
    spec = importlib.util.spec_from_file_location("peculiar", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peculiar", module)
    spec.loader.exec_module(module)

    after = drawn()

    assert before == after
