"""A running service for official clients, and an environment for each of those for Python."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from client_environments import PROGRAM_SECONDS, child_variables, environment_of
from facade_site import Site, running_site, site  # noqa: F401 - fixtures

PROGRAMS: Final = Path(__file__).parent / "py"

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
    python = environment_of(client, environments)
    command = [str(python), str(PROGRAMS / program), *arguments]
    variables = child_variables(SSL_CERT_FILE=at.ca, **env)
    try:
        ran = subprocess.run(  # noqa: S603 - our own
            command,
            env=variables,
            cwd=folder,
            capture_output=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:  # the last line names the check that does not end
        raise AssertionError((late.stderr or b"").decode()) from late
    assert ran.returncode == 0, ran.stderr.decode()
    found: dict[str, Any] = json.loads(ran.stdout)
    return found
