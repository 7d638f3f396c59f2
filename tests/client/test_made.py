"""The synchronous client is generated from the asynchronous one."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import fleek

SCRIPT = Path(__file__).parents[2] / "scripts/make_sync_client.py"


def test_the_synchronous_client_is_up_to_date() -> None:
    """Run ``python scripts/make_sync_client.py`` after a change of the asynchronous one."""
    modules = runpy.run_path(str(SCRIPT))["modules"]()

    found = {path: path.read_text() for path in modules}

    assert found == modules


def test_importing_fleek_loads_no_client() -> None:
    """A worker imports the package without its client."""
    code = "import sys, fleek; sys.exit('httpx2' in sys.modules or 'pydantic' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - ourselves

    assert done.returncode == 0


@pytest.mark.parametrize("name", fleek.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    """They are loaded lazily, so that a typing error would show only in use."""
    assert getattr(fleek, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = fleek.Nonsense
