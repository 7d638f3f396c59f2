"""`fleek backup`: what is written, what is checked, and what is never overwritten."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

MEDIA = "media/0198f000-0000-7000-8000-000000000001/0-0123456789abcdef.txt"


@pytest.fixture(autouse=True)
def _service(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Create the database and the storage of a service, and keep log lines out of the output."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    stored = tmp_path / "storage" / MEDIA
    stored.parent.mkdir(parents=True)
    stored.write_text("a poem")
    (tmp_path / "storage/.spool").mkdir()
    (tmp_path / "storage/.spool/incomplete").write_text("half a poem")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/fleek.db")
    with capture_logs():
        yield


def lose() -> None:
    """Lose the database and the storage."""
    Path("fleek.db").unlink()
    shutil.rmtree("storage")


def test_a_backup_is_restored(fleek: Any) -> None:
    """With its files, and without those that were incomplete."""
    with closing(sqlite3.connect("fleek.db")) as database, database:
        database.execute("CREATE TABLE witness AS SELECT 7 AS seen")
    created = fleek("backup", "create", "saved")
    lose()

    restored = fleek("backup", "restore", "saved")

    assert (created.code, restored.code) == (0, 0), restored.err
    assert restored.out == "saved\tis restored\t1 files\n"
    assert "0 unfinished jobs" in restored.err
    assert Path("storage", MEDIA).read_text() == "a poem"
    assert not list(Path("saved").rglob("incomplete"))
    with closing(sqlite3.connect("fleek.db")) as database:
        assert database.execute("SELECT seen FROM witness").fetchall() == [(7,)]


def test_a_backup_is_made_while_the_service_writes(fleek: Any) -> None:
    """It is the database as it was at one moment: all rows up to one, and none behind it."""
    with closing(sqlite3.connect("fleek.db")) as database, database:
        database.execute("CREATE TABLE witness (seen INTEGER)")
    ended, begun = Event(), Event()

    def write() -> None:
        with closing(sqlite3.connect("fleek.db", timeout=60)) as database:
            for number in count():
                with database:
                    database.execute("INSERT INTO witness VALUES (?)", (number,))
                begun.set()
                if ended.is_set():
                    return

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        begun.wait()
        created = fleek("backup", "create", "saved")
        ended.set()
        writing.result()

    with closing(sqlite3.connect("saved/fleek.db")) as copy:
        seen = [number for (number,) in copy.execute("SELECT seen FROM witness ORDER BY seen")]
    assert created.code == 0, created.err
    assert seen == list(range(len(seen)))
    assert seen
    assert fleek("backup", "verify", "saved").code == 0


def test_the_manifest_has_the_hashes(fleek: Any) -> None:
    """Other tools can check a backup, too."""
    written = json.loads(fleek("backup", "create", "saved", "--json").out)

    assert written == json.loads(Path("saved/manifest.json").read_text())
    assert written["database"]["path"] == "fleek.db"
    (entry,) = written["files"]
    assert (entry["path"], entry["size_bytes"]) == (f"storage/{MEDIA}", 6)
    assert entry["sha256"] == hashlib.sha256(b"a poem").hexdigest()


def test_files_may_be_left_out(fleek: Any) -> None:
    """They are copied by other means, as those in a bucket."""
    created = fleek("backup", "create", "saved", "--no-files")

    assert "refers to the storage" in created.err
    assert not Path("saved/storage").exists()
    assert fleek("backup", "verify", "saved").out == "saved\tis whole\t0 files\n"


def _changed() -> None:
    Path("saved/storage", MEDIA).write_text("a poet")


def _missing() -> None:
    Path("saved/storage", MEDIA).unlink()


def _truncated() -> None:
    path = Path("saved/fleek.db")
    path.write_bytes(path.read_bytes()[:-4096])


def _outside() -> None:
    _edit(lambda manifest: manifest["files"][0].update(path="storage/../../fleek.db"))


def _incomplete() -> None:
    _edit(lambda manifest: manifest.pop("database"))


def _unreadable() -> None:
    Path("saved/manifest.json").write_text("{")


def _edit(change: Any) -> None:
    path = Path("saved/manifest.json")
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "break_it", [_changed, _missing, _truncated, _outside, _incomplete, _unreadable]
)
def test_a_broken_backup_is_not_restored(fleek: Any, break_it: Any) -> None:
    """The message says what is wrong, and nothing is written."""
    fleek("backup", "create", "saved")
    break_it()
    lose()

    verified, restored = fleek("backup", "verify", "saved"), fleek("backup", "restore", "saved")

    assert verified.code == restored.code == 2
    assert verified.err == restored.err
    assert "saved" in verified.err
    assert not Path("fleek.db").exists()


def test_a_restore_overwrites_nothing(fleek: Any) -> None:
    """A running service would lose its jobs."""
    fleek("backup", "create", "saved")
    before = Path("fleek.db").read_bytes()

    refused = fleek("backup", "restore", "saved")

    assert refused.code == 1
    assert "fleek.db exists and is not overwritten" in refused.err
    assert Path("fleek.db").read_bytes() == before


def test_a_backup_overwrites_nothing(fleek: Any) -> None:
    """It may be the only one that is whole."""
    fleek("backup", "create", "saved")

    again = fleek("backup", "create", "saved")

    assert (again.code, "choose a new folder" in again.err) == (1, True)


def test_a_folder_that_is_no_backup_is_named(fleek: Any) -> None:
    """With what it lacks."""
    Path("empty").mkdir()

    refused = fleek("backup", "verify", "empty")

    assert (refused.code, "it has no manifest.json" in refused.err) == (2, True)


def test_an_invalid_time_is_refused(fleek: Any) -> None:
    """The message shows a valid one."""
    refused = fleek("backup", "mark-restored", "--taken-at", "yesterday")

    assert refused.code == 2
    assert "2026-07-01T12:00:00Z" in refused.err
