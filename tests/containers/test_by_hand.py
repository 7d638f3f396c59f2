"""The composition without an engine: its services are started on the tests' own databases.

Commands, environment and health checks are those of the files. Hosts and ports differ, and
the output of the service `secrets` is passed as environment. Swift replaces MinIO.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from backing_services import Postgres, Services, free_port
from containers.composition import Part
from containers.container import Container
from containers.image import Image
from redisserver import RedisServer
from s3server import KEY, SECRET, S3Server, shared_s3
from service_process import PATIENCE, SMALL, until


class Stack:
    """The services of this project, as started by an engine."""

    def __init__(self, image: Image, places: Mapping[str, str], given: Mapping[str, str]) -> None:
        self._image = image
        self._places = places
        self._given = given
        self._open = ExitStack()
        self.parts: dict[str, Part] = {}
        self.running: dict[str, Container] = {}

    def up(self, name: str) -> None:
        """Start a service, and wait until its health check succeeds."""
        part = Part.named(name).elsewhere(self._places)
        given = self._given if part.reads_secrets else {}
        started = Container(self._image, part.command, {**part.environment, **given})
        self.parts[name] = part
        self.running[name] = self._open.enter_context(started)
        started.await_health(part.health)

    def tails(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"--- {name}\n{one.tail()}" for name, one in self.running.items())

    def close(self) -> None:
        """Stop everything."""
        self._open.close()


@pytest.fixture
def ports() -> dict[str, str]:
    """Return the real ports by the published ports of the composition."""
    return {"8000": str(free_port()), "5555": str(free_port())}


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Return the folder for the secrets of the queue and of Flower."""
    folder = tmp_path / "queue"
    folder.mkdir()
    return folder


@pytest.fixture
def database(postgres: Postgres, queue: Path) -> Iterator[str]:
    """Yield the address of an empty database, whose user only owns it."""
    secrets = made_secrets(queue.with_name("secrets"))
    name = f"composed_{uuid4().hex}"
    postgres.execute(f'CREATE ROLE "{name}" LOGIN')
    postgres.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
    yield (
        secrets["DATABASE_URL"]
        .replace("://fleek:", f"://{name}:")
        .replace("@postgres:5432/fleek", f"@127.0.0.1:{postgres.port}/{name}")
    )
    postgres.drop(name)
    postgres.execute(f'DROP ROLE "{name}"')


@pytest.fixture
def s3(_full_suite: None, services: Services) -> S3Server:
    """Return the server that replaces MinIO."""
    return shared_s3(services)


@pytest.fixture
def given(s3: S3Server, database: str, ports: dict[str, str]) -> dict[str, str]:
    """Return the settings of services with secrets, and the local addresses."""
    return {
        "DATABASE_URL": database,
        "S3_BUCKET": s3.make_bucket(),
        "S3_ACCESS_KEY_ID": KEY,
        "S3_SECRET_ACCESS_KEY": SECRET,
        "API_HOST": "127.0.0.1",
        "API_PORT": ports["8000"],
        "FLEEK_URL": f"http://127.0.0.1:{ports['8000']}",
    }


@pytest.fixture
def stack(
    *,
    image: Image,
    redis: RedisServer,
    s3: S3Server,
    queue: Path,
    ports: dict[str, str],
    given: dict[str, str],
) -> Iterator[Stack]:
    """Return the composition, with nothing started."""
    places = {f"127.0.0.1:{port}": f"127.0.0.1:{free}" for port, free in ports.items()}
    places |= {f"--port={port}": f"--port={free}" for port, free in ports.items()}
    places |= {"redis://redis:6379/0": redis.url(), "http://minio:9000": s3.url}
    places |= {"--address=0.0.0.0": "--address=127.0.0.1"}
    places |= {"--conf=/run/secrets/": f"--conf={queue}/"}
    opened = Stack(image, places, given)
    yield opened
    opened.close()


def made_secrets(folder: Path) -> dict[str, str]:
    """Return the settings that the service `secrets` creates."""
    _, *arguments, _ = Part.named("secrets").command
    folder.mkdir()
    subprocess.run([sys.executable, *arguments, folder], check=True)  # noqa: S603 - ours
    return {file.name.upper(): file.read_text() for file in folder.iterdir()}


def test_the_composition_works_and_stops_in_time(
    stack: Stack, ports: dict[str, str], queue: Path
) -> None:
    """``docker compose up`` is enough: a prompt becomes a file, and Flower shows the tasks."""
    for name in ("api", "worker", "flower"):
        stack.up(name)
    panel = f"http://127.0.0.1:{ports['5555']}"
    login = ("fleek", (queue / "flower_password").read_text())
    with (
        httpx2.Client(base_url=f"http://127.0.0.1:{ports['8000']}", timeout=PATIENCE) as http,
        httpx2.Client(base_url=panel, auth=login, timeout=PATIENCE) as flower,
    ):
        job = completed(http, stack)
        file = http.get(job["result_url"])
        until(lambda: well(http), why=lambda: http.get("/health/detailed").text)
        # workers send events of tasks once Flower has asked for them
        until(lambda: completed(http, stack) and seen(flower), why=stack.tails)
        until(lambda: shown(flower), why=stack.tails)
    stopped = {name: stack.running[name].stop() for name in ("flower", "worker", "api")}

    assert file.status_code == 200
    assert hashlib.sha256(file.content).hexdigest() == job["outputs"][0]["sha256"]
    assert "error" not in {level(line) for line in stack.running["worker"].log().splitlines()}
    assert {name: code for name, (code, _) in stopped.items()} == dict.fromkeys(stopped, 0)
    for name, (_, seconds) in stopped.items():
        print(f"{name} stopped after {seconds:.1f} s")  # noqa: T201 - shown by pytest -rP
        assert seconds < stack.parts[name].grace_seconds


def completed(http: httpx2.Client, stack: Stack) -> dict[str, Any]:
    """Create a picture, and return its job."""
    made = http.post("/api/v1/generate", json={"prompt": "a cat", "parameters": SMALL})
    assert made.status_code == 201, made.text
    path = f"/api/v1/jobs/{made.json()['id']}"
    until(lambda: http.get(path).json()["status"] == "completed", why=stack.tails)
    found: dict[str, Any] = http.get(path).json()
    return found


def well(http: httpx2.Client) -> bool:
    """Return whether every check is healthy."""
    return bool(http.get("/health/detailed").json()["status"] == "healthy")


def seen(flower: httpx2.Client) -> list[dict[str, Any]]:
    """Return the online workers that have done a task, as seen by Flower."""
    found: list[dict[str, Any]] = flower.get("/workers", params={"json": "1"}).json()["data"]
    return [one for one in found if one.get("task-succeeded", 0) >= 1 and one["status"] is True]


def shown(flower: httpx2.Client) -> bool:
    """Return whether Flower shows a page for the only worker, which must answer within a second."""
    return [flower.get(f"/worker/{one['hostname']}").status_code for one in seen(flower)] == [200]


def level(line: str) -> str:
    """Return the level of a log line; empty if it has none."""
    return str(json.loads(line)["level"]) if line.startswith("{") else ""
