"""Databases that really write: nothing is switched off for speed."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backing_services import SERVER, Postgres, Services, free_port

DURABLE: Final = {**SERVER, "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class Databases:
    """Gives an empty database as often as it is asked for."""

    def __init__(self, kind: str, server: Postgres | None) -> None:
        self.kind = kind
        self._server = server

    def fresh(self) -> str:
        """Return the ``DATABASE_URL`` of an empty database; SQLite's is relative to the folder."""
        if self._server is None:
            return "sqlite:///./fleek.db"
        return self._server.url(self._server.create())


@contextmanager
def opened(kind: str) -> Generator[Databases]:
    """Give databases of this kind: ``sqlite`` or ``postgres``."""
    if kind == "sqlite":
        yield Databases(kind, None)
        return
    services = Services.open()
    try:
        server = Postgres(services.folder, port=free_port(), settings=DURABLE)
        server.start()
        yield Databases(kind, server)
    finally:
        services.close()
