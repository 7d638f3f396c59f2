"""Databases that really write: nothing is switched off for speed; and a Redis for ids of jobs."""

import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backing_services import SERVER, Postgres, Services, free_port
from benchmarks.usage import Usage, usage
from redisserver import RedisServer

DURABLE: Final = {**SERVER, "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class Databases:
    """Gives an empty database as often as it is asked for."""

    def __init__(self, kind: str, folder: Path, server: Postgres | None) -> None:
        self.kind = kind
        self._folder = folder
        self._server = server

    def fresh(self) -> str:
        """Return the ``DATABASE_URL`` of an empty database; SQLite's is relative to the folder."""
        return "sqlite:///./fleek.db" if self._server is None else self.kept()

    def kept(self) -> str:
        """Return the ``DATABASE_URL`` of an empty database that is the same in every folder."""
        if self._server is None:
            return f"sqlite:///{self._folder}/kept.db"
        return self._server.url(self._server.create())

    def usage(self) -> Usage:
        """Return what the database's own processes have used: on SQLite there are none."""
        if self._server is None:
            return Usage()
        pid = (self._folder / "postgres" / "postmaster.pid").read_text().split()[0]
        return usage(int(pid))


@contextmanager
def opened(kind: str) -> Generator[Databases]:
    """Give databases of this kind: ``sqlite`` or ``postgres``."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="fleek-bench-") as folder:
            yield Databases(kind, Path(folder), None)
        return
    services = Services.open()
    try:
        server = Postgres(services.folder, port=free_port(), settings=DURABLE)
        server.start()
        yield Databases(kind, services.folder, server)
    finally:
        services.close()


@contextmanager
def redis_server() -> Generator[str]:
    """Run an empty Redis; gives its address without the number of a database."""
    server = RedisServer()
    server.start()
    try:
        yield server.url().rpartition("/")[0]
    finally:
        server.stop()
