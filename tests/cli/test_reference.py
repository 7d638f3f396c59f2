"""The page about the command line agrees with the commands."""

import runpy
from pathlib import Path

from fleek.cli.exit_codes import Exit

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date() -> None:
    """Run ``python scripts/make_cli_reference.py`` after changing a command."""
    script = runpy.run_path(str(ROOT / "scripts/make_cli_reference.py"))

    assert (ROOT / "docs/reference/cli.md").read_text() == script["page"]()
    assert set(script["MEANINGS"]) == set(Exit)
