"""A running service for official clients, and an environment for each of those for Python."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from client_environments import child_variables, environment_of
from client_template import run
from facade_site import Site, running_site, site  # noqa: F401 - fixtures

PROGRAMS: Final = Path(__file__).parent / "py"
MODULES: Final = {"openai": "openai", "replicate": "httpx", "fal": "httpx"}
"""What of each client is imported once; the others read the environment when they are imported."""

RunProgram = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def environments(_full_suite: None) -> Path:
    """Return the folder of the clients' environments, beside that of the tests, for this and later runs."""
    folder = Path(sys.prefix) / "clients"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def run_program(site: Site, environments: Path, tmp_path: Path) -> RunProgram:  # noqa: F811 - the fixture
    """Return a function that runs a program in a client's environment, and returns what it has found."""
    return partial(_run, site, environments, tmp_path)


def _run(
    at: Site,
    environments: Path,
    folder: Path,
    client: str,
    program: str,
    *arguments: str,
    **env: str,
) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        run(
            environment_of(client, environments),
            MODULES[client],
            PROGRAMS / program,
            arguments,
            env=child_variables(SSL_CERT_FILE=at.ca, **env),
            folder=folder,
        )
    )
    return found
