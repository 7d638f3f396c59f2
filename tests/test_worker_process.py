"""Where a worker may be a process of its own beside the API."""

import sqlite3

import pytest

from fleek.domain.errors import ConfigurationError
from fleek.settings import Settings
from fleek.store.pools import SAFE_SQLITE
from fleek.worker_process import check_worker_process

POSTGRES = "postgresql://fleek@db.example/fleek"


def test_a_broker_has_workers_of_its_own() -> None:
    """They are started by themselves, as many as wanted."""
    settings = Settings(database_url=POSTGRES, dispatch="celery", worker_process=True)

    with pytest.raises(ConfigurationError, match=r"DISPATCH=celery.*start fleek worker"):
        check_worker_process(settings)


@pytest.mark.parametrize(
    ("version", "accepted"), [(SAFE_SQLITE, True), ((3, 51, 2), False)], ids=str
)
def test_two_processes_need_a_new_sqlite(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], *, accepted: bool
) -> None:
    """Older ones may corrupt a file that two processes write."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    settings = Settings(database_url="sqlite:///./fleek.db", worker_process=True)

    if accepted:
        check_worker_process(settings)
    else:
        with pytest.raises(ConfigurationError, match=r"SQLite before 3\.51\.3: use PostgreSQL"):
            check_worker_process(settings)


def test_postgresql_has_no_such_limit() -> None:
    """Any number of processes may write to it."""
    check_worker_process(Settings(database_url=POSTGRES, worker_process=True))
