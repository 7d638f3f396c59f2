"""What every test may ask for: an open runtime, with a clock and a scripted provider.

It runs on SQLite, and where a test is marked with `services.both_databases`, on PostgreSQL too.
"""

import gc
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import structlog

from backing_services import Postgres, Services, apart
from default_settings import defaults
from fakes import Clock, FakeProvider
from fleek.bootstrap import open_runtime
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from fleek.store.migrate import upgrade

structlog.configure(  # unless a test does; the default draws each traceback, in half a second
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)
gc.disable()  # until all tests are collected: hardly anything that is made until then is garbage

SERVICES = pytest.StashKey[Services]()
REAL: Final[Mapping[str, frozenset[str]]] = {
    "database": frozenset({"postgresql"}),
    "dispatcher": frozenset({"celery", "dramatiq"}),
    "provider": frozenset({"cog"}),
    "storage": frozenset({"s3"}),
}
"""Parameters of fixtures that stand for a server of its own."""
SLOW_TO_COLLECT: Final = frozenset({"test_schemathesis.py"})
MEMORY: Final = Path("/dev/shm")  # where Linux has files in memory
ROOM_BYTES: Final = 4 * 1024**3  # a container's default is 64 MB

for _profile, _examples in {"full": 100, "quick": 10}.items():
    hypothesis.settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,  # no example is late on a busy machine, nor too slow
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        derandomize=True,  # the same examples in every run
    )
hypothesis.settings.load_profile("full")  # until --hypothesis-profile says otherwise


def pytest_configure(config: pytest.Config) -> None:
    """Have a place for what all processes of a run share, and folders of tests in memory.

    A commit waits for the disk, on many machines longer than a test runs otherwise.
    """
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # noqa: TID251 - pytest's
    shared = getattr(config, "workerinput", {}).get("services")
    config.stash[SERVICES] = Services(Path(shared)) if shared else Services.open()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by what it uses: `make test` leaves it out, `make check` runs it."""
    for item in items:
        used = getattr(item, "fixturenames", ())
        spec = getattr(item, "callspec", None)
        chosen = spec.params if spec is not None else {}
        if "_full_suite" in used or any(chosen.get(port) in REAL[port] for port in REAL):
            item.add_marker(pytest.mark.full)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out of the quick run what it does not run, and what takes seconds to collect."""
    quick = "not full" in config.option.markexpr
    return True if quick and collection_path.name in SLOW_TO_COLLECT else None


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and never among what was collected."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist where that place is."""
    node.workerinput["services"] = str(node.config.stash[SERVICES].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the services with the run."""
    if not hasattr(config, "workerinput"):
        config.stash[SERVICES].close()


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that stays empty: a test that writes where it runs asks for `tmp_path`."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(autouse=True)
def _own_folder(
    request: pytest.FixtureRequest, _empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run in an empty folder, so that no ``.env`` and no database of the developer is read."""
    own = "tmp_path" in request.fixturenames
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if own else _empty_folder)
    # no test fails since the machine is busy; one that is about overload says so
    monkeypatch.setenv("MAX_WRITE_WAIT_SECONDS", "120")
    yield
    if "_full_suite" in request.fixturenames:  # also those asked for by `getfixturevalue`
        assert request.node.get_closest_marker("full"), "ask for `_full_suite`, to be marked"
    if not own:
        assert [path.name for path in _empty_folder.iterdir()] == []


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still until it is told to move."""
    return Clock()


@pytest.fixture
def provider() -> FakeProvider:
    """Return a provider that sells everything and succeeds at the first look."""
    return FakeProvider()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """Return the kind of database: SQLite, unless the test is marked with `both_databases`."""
    kind: str = getattr(request, "param", "sqlite")
    return kind


@pytest.fixture
def services(pytestconfig: pytest.Config) -> Services:
    """Return what starts real services for this run."""
    return pytestconfig.stash[SERVICES]


@pytest.fixture(scope="session")
def _full_suite() -> None:
    """Say that a test belongs to the full suite only.

    For what starts processes (services, database servers, model servers), fills a database with
    many rows, or draws many examples. A fixture that does so asks for this one; so every test that
    uses it is marked.
    """


@pytest.fixture
def postgres(_full_suite: None, services: Services) -> Postgres:
    """Return this run's PostgreSQL; other tests use it at the same time."""
    return services.postgres()


@pytest.fixture
def own_postgres(_full_suite: None, services: Services) -> Iterator[Postgres]:
    """Return a PostgreSQL of the test's own, to be stopped and started at will."""
    with services.own_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty SQLite database with the latest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "fleek.db"
    apart(upgrade, f"sqlite:///{path}")
    return path


@pytest.fixture
def database_url(
    database: str, services: Services, migrated_file: Path, tmp_path: Path
) -> Iterator[str]:
    """Return the ``DATABASE_URL`` of an empty database of the test's own, with the schema."""
    if database == "postgresql":
        with services.database() as url:
            yield url
        return
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    yield f"sqlite:///{tmp_path}/fleek.db"


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return the default settings, with everything below the test's own folder.

    No process is so slow that it is taken for dead.
    """
    return defaults(database_url=database_url, heartbeat_seconds=timedelta(seconds=60))


@pytest.fixture
async def rt(settings: Settings, clock: Clock, provider: FakeProvider) -> AsyncGenerator[Runtime]:
    """Return an open runtime: real database, storage and dispatcher, no loop running."""
    async with open_migrated(settings, clock, provider) as opened:
        yield opened


@asynccontextmanager
async def open_migrated(
    settings: Settings, clock: Clock, provider: FakeProvider
) -> AsyncGenerator[Runtime]:
    """Open a runtime on a migrated database, with this process registered as a worker."""
    async with open_runtime(settings) as opened:
        lease = WorkerLease(
            opened.db,
            heartbeat=settings.heartbeat_seconds,
            slots=4,
            now=clock,
            steady=clock.steady,
        )
        rt = replace(
            opened,
            now=clock,
            steady=clock.steady,
            lease=lease,
            providers={"placeholder": provider, "fake": provider},
        )
        await rt.lease.register()
        yield rt


@pytest.fixture
def second_worker(rt: Runtime) -> Callable[[], Runtime]:
    """Return a maker of runtimes that share everything with `rt` but are workers of their own."""

    def make() -> Runtime:
        heartbeat: timedelta = rt.lease.heartbeat
        return replace(
            rt,
            lease=WorkerLease(rt.db, heartbeat=heartbeat, slots=4, now=rt.now, steady=rt.steady),
        )

    return make
