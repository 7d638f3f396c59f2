"""Promises of the image and the composition that can be checked in the files."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from containers.composition import Part
from containers.composition import services as composed
from containers.image import BIN, ROOT
from fleek.dispatch.attached_worker import STOP_SECONDS
from fleek.server import GRACE_SECONDS

OURS: Final = ("api", "worker", "flower", "secrets")
LEAVE_SECONDS: Final = 10.0  # for closing connections, on a busy machine


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services of the composition."""
    return composed()


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
    ],
    ids=["hadolint", "compose-spec"],
)
def test_the_files_are_valid(command: tuple[str, ...]) -> None:
    """Independent checkers read them."""
    program, *arguments = command

    done = subprocess.run(  # noqa: S603 - our own development tools
        [BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_only_loopback_is_published(services: dict[str, Any]) -> None:
    """Access without API keys must be local."""
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", OURS)
def test_own_services_can_write_only_their_data(services: dict[str, Any], name: str) -> None:
    """An intruder can neither write elsewhere nor gain privileges."""
    service = services[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_does_not_run_as_root() -> None:
    """The last USER instruction counts."""
    users = [
        line.split()[1]
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("USER ")
    ]

    assert users[-1] == "10001:10001"


@pytest.mark.parametrize(("name", "seconds"), [("worker", STOP_SECONDS), ("api", GRACE_SECONDS)])
def test_the_grace_period_is_long_enough(name: str, seconds: float) -> None:
    """A process that is killed while starting a prediction leaves an unknown outcome."""
    assert Part.named(name).grace_seconds >= seconds + LEAVE_SECONDS


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("api", {"secrets", "bucket", "postgres", "redis"}),
        ("worker", {"secrets", "bucket", "postgres", "redis", "api"}),
        ("flower", {"redis", "api"}),
        ("bucket", {"minio"}),
        ("minio", {"secrets"}),
        ("redis", {"secrets"}),
        ("postgres", {"secrets"}),
        ("secrets", set()),
    ],
)
def test_services_start_after_their_dependencies(
    services: dict[str, Any], name: str, first: set[str]
) -> None:
    """One command starts all: one-off services must have completed, others must be healthy."""
    needed = services[name].get("depends_on", {})

    assert set(needed) == first
    for one, how in needed.items():
        ends = services[one].get("restart") == "no"
        assert how["condition"] == (
            "service_completed_successfully" if ends else "service_healthy"
        )
        assert ends or one == "api" or services[one]["healthcheck"]["start_period"]


def test_the_image_is_never_pulled(services: dict[str, Any]) -> None:
    """A foreign image of this name would get the secrets."""
    assert {services[name]["pull_policy"] for name in OURS} == {"build"}


def test_flower_has_only_the_secrets_of_the_queue(services: dict[str, Any]) -> None:
    """It is third-party software reached by a browser, and it requires a password."""
    assert services["flower"]["volumes"] == ["queue-secrets:/run/secrets:ro"]
    assert set(Part.named("flower").environment) == {"REDIS_URL", "ALLOW_ANONYMOUS"}
    assert "--conf=/run/secrets/flowerconfig.py" in services["flower"]["command"]


def test_each_service_has_only_the_networks_that_it_needs(services: dict[str, Any]) -> None:
    """An intruder cannot reach the other services."""
    names = {name: set(service.get("networks", ())) for name, service in services.items()}

    assert names["api"] == names["worker"] == {"world", "database", "queue", "files"}
    assert names["postgres"] == {"database"}
    assert names["redis"] == {"queue"}
    assert names["minio"] == names["bucket"] == {"files"}
    assert names["flower"] == {"panel", "queue"}


def test_redis_requires_the_generated_password(services: dict[str, Any], tmp_path: Path) -> None:
    """Anyone who writes to the queue controls the workers."""
    made = make_secrets(services, tmp_path / "secrets")
    queue = {file.name: file.read_text() for file in (tmp_path / "queue").iterdir()}

    assert "/run/secrets/redis.conf" in services["redis"]["command"]
    assert queue["redis.conf"] == f"requirepass {made['redis_password']}\n"
    assert queue["redis_password"] == made["redis_password"]
    assert queue["flower_password"] in queue["flowerconfig.py"]
    assert set(queue) & {"database_url", "postgres_password"} == set()


def test_an_upgrade_creates_missing_passwords(services: dict[str, Any], tmp_path: Path) -> None:
    """The old volume keeps its secrets; the queue's is new and empty."""
    before = make_secrets(services, tmp_path / "secrets")
    shutil.rmtree(tmp_path / "queue")
    (tmp_path / "secrets" / "redis_password").unlink()

    after = make_secrets(services, tmp_path / "secrets")

    assert after["database_url"] == before["database_url"]
    password = (tmp_path / "queue" / "redis_password").read_text()
    assert password == after["redis_password"] != before["redis_password"]
    assert (tmp_path / "queue" / "flowerconfig.py").exists()


def test_optional_services_need_a_profile(services: dict[str, Any]) -> None:
    """Flower and MinIO are optional."""
    extra = {name for name, service in services.items() if service.get("profiles") == ["full"]}

    assert extra == {"flower", "minio", "bucket"}
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert name in extra or needed not in extra or how["required"] is False


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


def test_the_files_contain_no_secrets(services: dict[str, Any]) -> None:
    """Everyone has these files."""
    values = list(_values(services))

    assert values
    assert all(value.startswith(("/run/secrets/", "${")) for value in values)


def make_secrets(services: dict[str, Any], folder: Path) -> dict[str, str]:
    """Run the service `secrets` in this folder."""
    python, flag, script, _ = services["secrets"]["command"]
    assert (python, flag) == ("python", "-c")
    for volume in (folder, folder.with_name("queue")):
        volume.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", script, folder], check=True)  # noqa: S603 - ours
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_secrets_are_created_once(services: dict[str, Any], tmp_path: Path) -> None:
    """A second start must keep the database's password."""
    first = make_secrets(services, tmp_path / "secrets")
    second = make_secrets(services, tmp_path / "secrets")

    assert first == second
    assert first["postgres_password"] in first["database_url"]
    assert len(first["s3_secret_access_key"]) == 40


SECRETS: Final = (
    *("secrets/postgres_password", "secrets/database_url", "secrets/redis_password"),
    *("secrets/s3_access_key_id", "secrets/s3_secret_access_key", "queue/redis_password"),
    *("queue/redis.conf", "queue/flower_password", "queue/flowerconfig.py"),
)


@pytest.mark.parametrize("missing", SECRETS)
@pytest.mark.parametrize("emptied", [False, True], ids=["missing", "empty"])
def test_missing_secrets_are_created_and_others_kept(
    services: dict[str, Any], tmp_path: Path, missing: str, *, emptied: bool
) -> None:
    """After an upgrade, an interrupted run, or the removal of a volume."""
    before = make_secrets(services, tmp_path / "secrets")
    lost = tmp_path / missing
    lost.unlink()
    if emptied:
        lost.touch(0o444)

    after = make_secrets(services, tmp_path / "secrets")

    follows = {"redis_password"} if missing == "queue/redis_password" else set()
    kept = set(before) - {lost.name} - follows
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    files = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {tmp_path / secret for secret in SECRETS}
    queue = {file.name: file.read_text() for file in (tmp_path / "queue").iterdir()}
    assert queue["redis_password"] == after["redis_password"] != ""
    assert queue["redis.conf"] == f"requirepass {after['redis_password']}\n"
    assert queue["flower_password"]
    assert queue["flower_password"] in queue["flowerconfig.py"]


def test_an_external_database_is_kept(services: dict[str, Any], tmp_path: Path) -> None:
    """The files are settings: an operator may have entered another address."""
    make_secrets(services, tmp_path / "secrets")
    address = tmp_path / "secrets" / "database_url"
    address.unlink()
    address.write_text("postgresql://elsewhere/fleek")

    after = make_secrets(services, tmp_path / "secrets")

    assert after["database_url"] == "postgresql://elsewhere/fleek"
