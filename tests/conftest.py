"""Shared fixtures: an open runtime with a manual clock and a scripted provider.

It runs on SQLite, and where a test is marked with `services.both_databases`, on PostgreSQL too.
"""

import gc
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import enumerate as threads_alive
from threading import get_ident
from traceback import format_stack
from typing import Any, Final

import hypothesis
import pytest
import structlog
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from backing_services import SLOW_LOCKS, Postgres, Services, migrated_sqlite
from default_settings import defaults
from fakes import Clock, FakeProvider
from fleek.bootstrap import open_runtime
from fleek.engine.heartbeat import WorkerLease
from fleek.engine.runtime import Runtime
from fleek.settings import Settings
from longest_first import longest_first
from memory import in_memory
from sampled import beyond_sample

structlog.configure(  # unless a test does; the default draws each traceback, in half a second
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)
gc.disable()  # until all tests are collected, because hardly any object is garbage before

SERVICES = pytest.StashKey[Services]()
REAL: Final[Mapping[str, frozenset[str]]] = {
    "database": frozenset({"postgresql"}),
    "dispatcher": frozenset({"celery", "dramatiq"}),
    "provider": frozenset({"cog", "local"}),
    "storage": frozenset({"s3"}),
}
"""Parameters of fixtures that need their own server."""
SLOW_TO_COLLECT: Final = frozenset({"test_schemathesis.py"})
BROWSER: Final = Path(__file__).parent / "browser"  # all of it has this marker
SELDOM: Final = (10_000, 20, 50)
"""How often to look for garbage: as the service does, see `fleek.worker.tune_gc`."""

for _profile, _examples in {"full": 100, "quick": 5}.items():
    hypothesis.settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,  # no example is too slow on a busy machine
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        derandomize=True,  # the same examples in every run
    )
hypothesis.settings.load_profile("full")  # unless --hypothesis-profile selects another
# Else examples contain constants of the modules that happen to be imported by then: in each process of
# a run other ones. tests/test_examples_drawn.py tells whether the library still asks here.
providers._get_local_constants = Constants


def pytest_configure(config: pytest.Config) -> None:
    """Create the folder shared by all processes of a run, and keep all folders in memory.

    A commit waits for the disk, on many machines longer than the rest of a test, and PostgreSQL
    creates thousands of files.
    """
    if (memory := in_memory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))  # noqa: TID251 - pytest's
    shared = getattr(config, "workerinput", {}).get("services")
    config.stash[SERVICES] = Services(Path(shared)) if shared else Services.open(memory)
    if shared is None:
        config.pluginmanager.register(FailureNames(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the other threads were doing: one that draws from `random` fails Hypothesis."""
    report = yield
    others = {thread.ident: thread.name for thread in threads_alive()}
    others.pop(get_ident(), None)
    frames = sys._current_frames() if report.failed else {}
    for ident, name in others.items():
        if ident in frames:
            stack = "".join(format_stack(frames[ident], limit=-4))
            report.sections.append((f"Thread {name}", stack))
    return report


class FailureNames:
    """Names each failed test at once: a run may be broken off before its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the name, on a line of its own."""
        terminal = self._plugins.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write(f"\nfailed at {report.when}: {report.nodeid}\n", flush=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Mark slow tests by their fixtures: `make test` skips them, `make check` runs them.

    Of a test with more than two other cases, `make test` runs two. Those that remain are ordered.
    """
    for item in items:
        used = getattr(item, "fixturenames", ())
        spec = getattr(item, "callspec", None)
        chosen = spec.params if spec is not None else {}
        if "_full_suite" in used or any(chosen.get(port) in REAL[port] for port in REAL):
            item.add_marker(pytest.mark.full)
    for item in beyond_sample(items):
        item.add_marker(pytest.mark.full)
    yield
    if worker := getattr(config, "workerinput", None):
        items[:] = longest_first(items, worker["workercount"])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files that the run needs nothing of, and that are slow to collect."""
    wanted = config.option.markexpr
    if "not browser" in wanted and collection_path == BROWSER:
        return True
    return True if "not full" in wanted and collection_path.name in SLOW_TO_COLLECT else None


def pytest_collection_finish() -> None:
    """Enable garbage collection from now on, without the collected tests."""
    gc.freeze()
    gc.set_threshold(*SELDOM)
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the shared folder to a process of pytest-xdist."""
    node.workerinput["services"] = str(node.config.stash[SERVICES].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the services at the end of the run."""
    if not hasattr(config, "workerinput"):
        config.stash[SERVICES].close()


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that stays empty; tests that write use `tmp_path`."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(autouse=True)
def _own_folder(
    request: pytest.FixtureRequest, _empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run in an empty folder, so that no ``.env`` and no database of the developer is read."""
    own = "tmp_path" in request.fixturenames
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if own else _empty_folder)
    # no test fails because the machine is busy; tests of overload use other settings
    monkeypatch.setenv("MAX_WRITE_WAIT_SECONDS", "120")
    yield
    if "_full_suite" in request.fixturenames:  # also those of `getfixturevalue`
        assert request.node.get_closest_marker("full"), "ask for `_full_suite`, to be marked"
    if not own:
        assert [path.name for path in _empty_folder.iterdir()] == []


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still until it is moved."""
    return Clock()


@pytest.fixture
def provider() -> FakeProvider:
    """Return a provider that starts every prediction and succeeds at the first poll."""
    return FakeProvider()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """Return the kind of database: SQLite, unless the test is marked with `both_databases`."""
    kind: str = getattr(request, "param", "sqlite")
    return kind


@pytest.fixture
def services(pytestconfig: pytest.Config) -> Services:
    """Return the real services of this run."""
    return pytestconfig.stash[SERVICES]


@pytest.fixture(scope="session")
def _full_suite() -> None:
    """Mark a test as part of the full suite only.

    Fixtures that start processes (services, database servers, model servers), fill a database with
    many rows or draw many examples depend on it, so that all their tests are marked.
    """


@pytest.fixture
def postgres(_full_suite: None, services: Services) -> Postgres:
    """Return this run's PostgreSQL; other tests use it at the same time."""
    return services.postgres()


@pytest.fixture
def own_postgres(_full_suite: None, services: Services) -> Iterator[Postgres]:
    """Return a PostgreSQL for one test, which may stop and start it."""
    with services.own_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty SQLite database with the latest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "fleek.db"
    path.write_bytes(migrated_sqlite())
    return path


@pytest.fixture
def database_url(
    database: str, services: Services, migrated_file: Path, tmp_path: Path
) -> Iterator[str]:
    """Yield the ``DATABASE_URL`` of an empty database for one test, with the schema."""
    if database == "postgresql":
        with services.database() as url:
            yield f"{url}{SLOW_LOCKS}"  # as a busy machine may be
        return
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    yield f"sqlite:///{tmp_path}/fleek.db"


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return the default settings, with everything below the test's own folder.

    The lease of a slow process does not expire.
    """
    return defaults(
        database_url=database_url,
        heartbeat_seconds=timedelta(seconds=60),
        providers=("placeholder",),  # named, so that nothing is read to choose it
    )


@pytest.fixture
async def rt(settings: Settings, clock: Clock, provider: FakeProvider) -> AsyncGenerator[Runtime]:
    """Yield an open runtime: real database, storage and dispatcher, without running loops."""
    async with open_migrated(settings, clock, provider) as opened:
        yield opened


@asynccontextmanager
async def open_migrated(
    settings: Settings, clock: Clock, provider: FakeProvider
) -> AsyncGenerator[Runtime]:
    """Open a runtime on a migrated database, with this process registered as a worker.

    No provider is opened, as `provider` stands for all.
    """
    async with open_runtime(settings.model_copy(update={"providers": ()})) as opened:
        lease = WorkerLease(
            opened.db,
            heartbeat=settings.heartbeat_seconds,
            slots=4,
            now=clock,
            steady=clock.steady,
        )
        rt = replace(
            opened,
            settings=settings,
            now=clock,
            steady=clock.steady,
            lease=lease,
            providers={"placeholder": provider, "fake": provider},
        )
        await rt.lease.register()
        yield rt


@pytest.fixture
def second_worker(rt: Runtime) -> Callable[[], Runtime]:
    """Return a factory of runtimes that share everything with `rt` but are separate workers."""

    def make() -> Runtime:
        heartbeat: timedelta = rt.lease.heartbeat
        return replace(
            rt,
            lease=WorkerLease(rt.db, heartbeat=heartbeat, slots=4, now=rt.now, steady=rt.steady),
        )

    return make
