"""A rolling upgrade under load on one database."""

import re
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

import httpx2
import pytest

import fleek
from backing_services import Postgres, free_port
from callers import CALLERS, load
from chaos.host import Host
from redisserver import RedisServer
from service_process import PATIENCE, Process, Service, assert_each_once, running_on, until

NEXT: Final = "999.0.0"
REVISION: Final = "9999"
WAVE: Final = 8  # jobs between two steps of the deploy
PAUSE_SECONDS: Final = 0.3  # of each caller between two turns, to leave processor time
LOOK_SECONDS: Final = 0.2  # between two counts of completed jobs
DRAIN_SECONDS: Final = 60.0  # a few, plus the delay of a busy machine
HANGS_SECONDS: Final = 180  # the response to a create request
SETTLE: Final = 300.0  # seconds; a lost dispatch is repeated after thirty

COMPLETED: Final = "SELECT count(*) FROM jobs WHERE status = 'completed'"

MIGRATION: Final = '''"""A remark on each job."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    """Add a column that the version before knows nothing of."""
    op.add_column("jobs", sa.Column("remark", sa.Text(), nullable=True))
'''


class Balanced(httpx2.BaseTransport):
    """Sends a request to its address or, if that is down, to the next one.

    A disconnect without a response counts as down, too: a request sent at the moment in which a
    server stops listening is never read.
    """

    def __init__(self, urls: list[str], unanswered: list[str]) -> None:
        self._urls = [httpx2.URL(url) for url in urls]
        self._unanswered = unanswered
        self._transport = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Try each address once, beginning with the requested one."""
        meant = request.url.port
        for url in sorted(self._urls, key=lambda one: one.port != meant):
            request.url = request.url.copy_with(port=url.port)
            try:
                return self._transport.handle_request(request)
            except httpx2.ConnectError:
                continue
            except httpx2.TransportError as error:
                self._unanswered.append(f"{request.method} {request.url}: {error!r}")
        raise httpx2.ConnectError("no server is listening", request=request)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class Deploy:
    """An installation during its replacement."""

    def __init__(self, service: Service, new: Path) -> None:
        self.service = service
        self.new = {"PYTHONPATH": str(new)}
        self.second = str(free_port())
        self.urls = [f"http://127.0.0.1:{port}" for port in (service.port, self.second)]
        self.unanswered: list[str] = []

    def connect(self, url: httpx2.URL | str) -> httpx2.Client:
        """Return a client that acts like a load balancer."""
        transport = Balanced(self.urls, self.unanswered)
        return httpx2.Client(base_url=url, timeout=PATIENCE, transport=transport)

    def start_api(self) -> Process:
        """Start an API of the new release beside the old one; it migrates."""
        return self.service.serve("--no-worker", API_PORT=self.second, **self.new)

    def start_worker(self, **version: str) -> Process:
        """Start a worker, and wait until it is ready."""
        worker = self.service.start("worker", **version)
        worker.await_log("worker_registered")
        return worker

    def await_wave(self) -> None:
        """Wait until a wave of further jobs has completed."""
        goal = self._completed() + WAVE
        until(lambda: self._completed() >= goal, look_seconds=LOOK_SECONDS, why=self.service.tails)

    def await_versions(self, expected: set[str]) -> None:
        """Wait until the new API reports workers with these versions."""
        message = ""

        def reported() -> bool:
            nonlocal message
            message = http.get("/health/detailed").json()["checks"]["workers"]["message"]
            return set(re.findall(r"\d+\.\d+\.\d+[.\w]*", message)) == expected

        with httpx2.Client(base_url=self.urls[1], timeout=PATIENCE) as http:
            until(reported, why=lambda: f"{message}\n{self.service.tails()}")

    def refusals(self) -> list[tuple[int, list[str]]]:
        """Start the processes of the old release again, and return exit codes and last lines."""
        port = str(free_port())
        tried = [
            self.service.start("worker"),
            self.service.start("serve", "--no-worker", API_PORT=port),
        ]
        return [(one.wait(), messages(one)) for one in tried]

    def _completed(self) -> int:
        ((found,),) = self.service.rows(COMPLETED)
        return int(found)


def messages(process: Process) -> list[str]:
    """Return the lines of a process's log that are meant for the operator."""
    return [line for line in process.log.read_text().splitlines() if not line.startswith("{")]


def drained(process: Process) -> float:
    """Stop a process like a supervisor, and return the duration in seconds."""
    began = time.monotonic()
    code = process.stop()
    took = time.monotonic() - began
    print(f"{process.command[0]} gone after {took:.2f} s")  # noqa: T201 - shown by pytest -rP
    assert code == 0, process.tail()
    return took


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the code of a new release, whose migration adds a column."""
    source = Path(fleek.__file__).parents[1]
    folder = tmp_path_factory.mktemp("new") / "src"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.pyc.*"))
    package = folder / "fleek" / "__init__.py"
    package.write_text(package.read_text().replace(f'"{fleek.__version__}"', f'"{NEXT}"'))
    versions = folder / "fleek" / "store" / "migrations" / "versions"
    before = max(path.name for path in versions.glob("0*.py"))[:4]
    migration = MIGRATION.format(revision=REVISION, before=before)
    (versions / f"{REVISION}_remark.py").write_text(migration)
    return folder


@pytest.fixture
def dispatch() -> str:
    """Return the kind of dispatcher, chosen by tests."""
    return "celery"


@pytest.fixture
def deploy(
    tmp_path: Path, postgres: Postgres, redis: RedisServer, dispatch: str, new: Path
) -> Generator[Deploy]:
    """Yield an installation of the old release on its own database, with nothing started."""
    with running_on(
        postgres,
        tmp_path,
        REDIS_URL=redis.url(),
        DISPATCH=dispatch,
        HEARTBEAT_SECONDS="1",
        REPLICATE_MOCK_DELAY_MIN="0.2",
        REPLICATE_MOCK_DELAY_MAX="1.5",
        MAX_WRITE_WAIT_SECONDS="120",  # a busy machine is not what this is about
    ) as service:
        yield Deploy(service, new)


@pytest.mark.parametrize("dispatch", ["celery", "embedded"])
def test_a_rolling_upgrade_is_not_noticed_by_callers(deploy: Deploy) -> None:
    """Old and new run side by side: no request is refused, and no job is done twice."""
    service = deploy.service
    old_api = service.serve("--no-worker")
    old = [deploy.start_worker() for _ in range(2)]
    with load(*deploy.urls, connect=deploy.connect, pause_seconds=PAUSE_SECONDS) as seen:
        deploy.await_wave()
        new_api = deploy.start_api()
        deploy.await_wave()  # the old workers work with the newer schema
        for _ in range(2):
            deploy.start_worker(**deploy.new)
        deploy.await_versions({fleek.__version__, NEXT})
        took = []
        for worker in old:
            took.append(drained(worker))
            deploy.await_wave()
        refused = deploy.refusals()
        took.append(drained(old_api))
        deploy.await_wave()
        deploy.await_versions({NEXT})
    service.http.base_url = httpx2.URL(deploy.urls[1])
    service.settle(seconds=SETTLE)

    assert (seen.broken, seen.refused) == ([], 0)
    assert max(took) < DRAIN_SECONDS
    for code, words in refused:
        assert code == 2
        assert len(words) == 1
        assert f"the schema has revision {REVISION}, which this version" in words[0]
    assert_each_once(service, seen.accepted)
    assert new_api.popen.poll() is None
    assert len(deploy.unanswered) <= CALLERS  # requests at the moment of the API's end


@pytest.fixture
def host(tmp_path: Path) -> Generator[Host]:
    """Yield a provider that creates at once, but responds late."""
    opened = Host(tmp_path, seed=0)
    opened.plan(
        rates={"create_then_delay": 1}, arguments={"create_then_delay": str(HANGS_SECONDS)}
    )
    yield opened
    opened.close()


@pytest.mark.parametrize("dispatch", ["dramatiq"])  # its workers fork
def test_hanging_starts_do_not_block_an_upgrade(deploy: Deploy, host: Host) -> None:
    """The worker waits a while, then leaves the prediction to the reconciliation of the next."""
    service = deploy.service
    service.env |= host.settings()
    service.serve("--no-worker")
    old = deploy.start_worker()
    accepted = service.submit_many(WAVE)
    until(lambda: len(host.ledger()["predictions"]) == WAVE, why=service.tails)

    took = drained(old)
    host.calm()
    next_one = deploy.start_worker()
    try:
        service.settle(seconds=SETTLE)
    finally:
        left = drained(next_one)  # processes forked by Dramatiq would outlive it, and take ids

    assert max(took, left) < DRAIN_SECONDS
    assert len(host.ledger()["predictions"]) == WAVE
    assert_each_once(service, accepted)
