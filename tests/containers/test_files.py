"""The image and the composition: what they promise can be read from the files."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "compose.yaml"
OURS: Final = ("api", "worker", "flower", "secrets")
BIN: Final = Path(sys.executable).parent


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services of the composition."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
    ],
    ids=["hadolint", "compose-spec"],
)
def test_the_files_are_well_formed(command: tuple[str, ...]) -> None:
    """No engine runs here: the checkers of others read them."""
    program, *arguments = command

    done = subprocess.run(  # noqa: S603 - our own development tools
        [BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_only_loopback_is_published(services: dict[str, Any]) -> None:
    """There are no keys yet: whoever reaches a port may use it."""
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", OURS)
def test_ours_can_change_nothing_but_their_data(services: dict[str, Any], name: str) -> None:
    """Whoever breaks in finds nothing to write to, and no privilege to gain."""
    service = services[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_does_not_run_as_root() -> None:
    """Its last user is the one that it runs as."""
    users = [
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("USER ")
    ]

    assert users[-1] == "10001:10001"


def test_a_worker_has_time_to_see_its_purchases_through(services: dict[str, Any]) -> None:
    """A process that is killed in the middle of a purchase leaves it to be searched for."""
    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) > 30


def _values(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if isinstance(value, str) and any(
                word in name for word in ("PASSWORD", "SECRET", "TOKEN", "KEY")
            ):
                yield value
            yield from _values(value)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value)


def test_no_secret_is_written_down(services: dict[str, Any]) -> None:
    """A password that stands in a file that all have is none."""
    values = list(_values(services))

    assert values
    assert all(value.startswith(("/run/secrets/", "${")) for value in values)


def test_secrets_are_made_once(services: dict[str, Any], tmp_path: Path) -> None:
    """A second start must find the database's password as it was."""
    python, flag, script, _ = services["secrets"]["command"]
    assert (python, flag) == ("python", "-c")

    def make() -> dict[str, str]:
        subprocess.run([sys.executable, "-c", script, tmp_path], check=True)  # noqa: S603 - ours
        return {file.name: file.read_text() for file in tmp_path.iterdir()}

    first, second = make(), make()

    assert first == second
    assert first["postgres_password"] in first["database_url"]
    assert len(first["s3_secret_access_key"]) == 40
