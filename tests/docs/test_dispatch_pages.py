"""The pages about Celery and Dramatiq: their commands start workers, and their examples work as shown."""

import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from examples import FENCE, ROOT, examples, misses, run
from redisserver import RedisServer
from service_process import Service, running, until

PAGES: Final = ("celery", "dramatiq")


def shown(page: Path) -> tuple[dict[str, str], list[str]]:
    """Return the settings of a page, and its command for a worker."""
    blocks = [text for language, text in FENCE.findall(page.read_text()) if language == "shell"]
    lines = "".join(blocks).splitlines()
    exports = [line.removeprefix("export ") for line in lines if line.startswith("export ")]
    worker, *_ = (shlex.split(line) for line in lines if line.startswith(PAGES))
    return dict(line.split("=", 1) for line in exports), worker


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Path:
    """Return a page."""
    return ROOT / f"docs/how-to/{request.param}.md"


@pytest.fixture
def redis(_full_suite: None) -> Generator[RedisServer]:
    """Yield a Redis."""
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def service(page: Path, redis: RedisServer, tmp_path: Path) -> Generator[Service]:
    """Yield a service with the settings of the page, and a worker by its command."""
    settings, (program, *options) = shown(page)
    (tmp_path / ".env").write_text(f"DISPATCH={settings['DISPATCH']}\nREDIS_URL={redis.url()}\n")
    with running(
        tmp_path, **settings | {"REDIS_URL": redis.url(), "HEARTBEAT_SECONDS": "5"}
    ) as opened:
        opened.serve("--no-worker")
        worker = opened.start(*options, program=program)
        worker.await_log("worker_registered")
        until(lambda: opened.http.get("/livez").status_code == 200, why=opened.tails)
        yield opened
        worker.stop()  # Dramatiq's children would outlive it


def test_every_example_works_as_shown(service: Service, page: Path) -> None:
    """Jobs go through the broker to the worker."""
    found = examples(page)

    outputs = run(found, service)

    assert found
    pairs = zip(found, outputs, strict=True)
    assert [(one.text, miss) for one, out in pairs for miss in misses(one, out)] == []
