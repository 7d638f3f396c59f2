import asyncio
import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleek.domain.errors import ConfigurationError, NotFound, StorageError, StorageFull
from fleek.domain.media import Key
from fleek.environment import read
from fleek.storage.base import Storage
from fleek.storage.local import LocalStorage, LocalStorageSettings, connect
from fleek.storage.local.tree import Disk, Tree

KEY = Key("media/job/attempt/0-00ff.png")
PATIENCE_SECONDS = 60  # of a thread for the test, and of the test for a thread


@contextmanager
def opened(root: Path, disk: Disk | None = None) -> Generator[LocalStorage]:
    """Open a storage on this folder."""
    storage = LocalStorage(Tree(root, disk=disk or Disk()))
    try:
        yield storage
    finally:
        storage.close()


async def save(storage: Storage, key: str = KEY, content: bytes = b"x") -> None:
    """Write a file to the spool, then save it."""
    source = storage.spool() / "source"
    source.write_bytes(content)
    await storage.save(Key(key), source, content_type="image/png")


async def save_content(storage: Storage, key: str = KEY, content: bytes = b"x") -> None:
    """Save a file that was never in the spool."""
    await storage.save(Key(key), content, content_type="image/png")


both_ways = pytest.mark.parametrize("save", [save, save_content])


async def content_of(storage: Storage, key: str = KEY) -> bytes:
    """Return the bytes of a file."""
    return b"".join([chunk async for chunk in storage.read(Key(key))])


def below(root: Path) -> set[str]:
    """Return everything below a folder, including folders."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


Save = Callable[[Storage], Coroutine[Any, Any, None]]
EMPTY = {"media", "metadata", "uploads", ".spool"}


class RecordingFsync:
    """Replace fsync: record the calls, and optionally fail."""

    def __init__(self, root: Path, *, fail: Callable[[str], int] = lambda _: 0) -> None:
        self._root = root
        self._fail = fail
        self._names: dict[tuple[int, int], str] = {}
        self.calls: list[tuple[str, bool]] = []  # the target, and whether the file had its name

    def __call__(self, fd: int) -> None:
        """Record the call, then fail if required."""
        name = self._name(fd)
        self.calls.append((name, (self._root / KEY).exists()))
        if number := self._fail(name):
            raise OSError(number, os.strerror(number))
        os.fsync(fd)

    def _name(self, fd: int) -> str:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            return "file"
        return next(
            str(path.relative_to(self._root))
            for path in [self._root, *self._root.rglob("*")]
            if os.path.samestat(path.stat(), found)
        )


@both_ways
async def test_a_save_is_durable_before_the_rename_and_the_return(
    tmp_path: Path, save: Save
) -> None:
    """After a power failure the file is complete under its key, in existing folders."""
    with opened(tmp_path):
        watched = RecordingFsync(tmp_path)
    with opened(tmp_path, Disk(fsync=watched)) as storage:
        await save(storage)

    assert watched.calls == [
        ("file", False),
        ("media/job/attempt", True),
        ("media/job", True),
        ("media", True),
    ]


async def test_the_storage_s_folders_are_durable(tmp_path: Path) -> None:
    """The first picture must not be lost with the folder that `serve` has created for it."""
    watched = RecordingFsync(tmp_path)

    with opened(tmp_path / "deep" / "storage", Disk(fsync=watched)):
        calls = [name for name, _ in watched.calls]

    assert calls == [".", "deep", *["deep/storage"] * 3]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
async def test_a_disk_without_fsync_of_folders_can_be_used(tmp_path: Path, number: int) -> None:
    """Some network and desktop file systems refuse it."""
    with opened(tmp_path):
        watched = RecordingFsync(tmp_path, fail=lambda name: 0 if name == "file" else number)
    with opened(tmp_path, Disk(fsync=watched)) as storage:
        await save(storage)

        assert await content_of(storage) == b"x"


@pytest.mark.parametrize("failing", ["file", "media/job/attempt", "media/job", "media"])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, StorageError),
        (errno.EFBIG, StorageError),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
@both_ways
async def test_a_failed_save_leaves_nothing(
    tmp_path: Path, save: Save, failing: str, number: int, kind: type[StorageError]
) -> None:
    """No partial file, no source, no empty folder; the message has no path."""
    with opened(tmp_path):
        watched = RecordingFsync(tmp_path, fail=lambda name: number if name == failing else 0)
    with opened(tmp_path, Disk(fsync=watched)) as storage, pytest.raises(StorageError) as caught:
        await save(storage)

    assert type(caught.value) is kind
    assert str(caught.value) == f"cannot save {KEY}: {os.strerror(number)}"
    assert below(tmp_path) == EMPTY


async def test_a_save_without_its_source_leaves_nothing(tmp_path: Path) -> None:
    """The spool may have been cleaned by hand."""
    with opened(tmp_path) as storage, pytest.raises(StorageError, match="No such file"):
        await storage.save(KEY, storage.spool() / "none", content_type="image/png")

    assert below(tmp_path) == EMPTY


async def test_a_vanished_source_is_an_error(tmp_path: Path) -> None:
    """A cancelled caller may remove it; retries are limited."""

    def vanish(_fd: int) -> None:
        (tmp_path / ".spool" / "source").unlink()

    with opened(tmp_path):
        vanishing = Disk(fsync=vanish)
    with opened(tmp_path, vanishing) as storage, pytest.raises(StorageError, match="No such"):
        await save(storage)

    assert below(tmp_path) == EMPTY


async def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """It is not removed; a folder in the place of the file is an error, too."""
    with opened(tmp_path) as storage:
        await save(storage, "media/job")
        await save(storage, "media/other/x")

        with pytest.raises(StorageError):
            await save(storage, "media/job/attempt/0-00ff.png")
        with pytest.raises(StorageError):
            await save(storage, "media/other")

    assert below(tmp_path) == EMPTY | {"media/job", "media/other", "media/other/x"}


@pytest.mark.usefixtures("_full_suite")
def test_a_limit_on_the_file_size_leaves_no_partial_file(tmp_path: Path) -> None:
    """A write may stop in the middle: at a limit, a quota or a full disk. Here it is the copy."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * 200_000)
    program = f"""
import asyncio, resource, signal
from pathlib import Path
from typing import Any
from fleek.domain.errors import StorageError
from fleek.storage.local import LocalStorage
from fleek.storage.local.tree import Disk, Tree

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
another_disk = Disk(device=lambda path: path == Path({str(elsewhere)!r}))
storage = LocalStorage(Tree(Path({str(tmp_path / "storage")!r}), disk=another_disk))
try:
    asyncio.run(
        storage.save({KEY!r}, Path({str(elsewhere)!r}), content_type="image/png")
    )
except StorageError as error:
    print(error)
storage.close()
"""

    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stdout == f"cannot save {KEY}: File too large\n"
    assert below(tmp_path) == {"storage", *(f"storage/{name}" for name in EMPTY)}


async def test_an_area_on_another_disk_is_copied_to(tmp_path: Path) -> None:
    """Media and metadata may be two volumes; a rename between them is impossible."""

    def device(path: Path) -> int:
        return int("metadata" in path.parts)

    with opened(tmp_path, Disk(device=device)) as storage:
        await save(storage, "metadata/job.json", b"{}")

        assert await content_of(storage, "metadata/job.json") == b"{}"
    assert below(tmp_path) == EMPTY | {"metadata/.spool", "metadata/job.json"}


async def test_media_on_another_disk_are_spooled_there(tmp_path: Path) -> None:
    """A rename is the fastest way to save a large file."""

    def device(path: Path) -> int:
        return int("media" in path.parts)

    with opened(tmp_path, Disk(device=device)) as storage:
        spool = storage.spool()

    assert spool == tmp_path / "media" / ".spool"


async def test_stale_files_are_removed_from_the_spool_at_the_start(tmp_path: Path) -> None:
    """Each crash during a download leaves one; a day is longer than any download."""
    spool = tmp_path / ".spool"
    spool.mkdir()
    for name, age in (("old", 86_500), ("young", 80_000)):
        (spool / name).write_bytes(b"x")
        modified = (spool / name).stat().st_mtime - age
        os.utime(spool / name, (modified, modified))

    with opened(tmp_path):
        left = [path.name for path in spool.iterdir()]

    assert left == ["young"]


async def test_deleting_the_last_file_removes_its_folders(tmp_path: Path) -> None:
    """Purged jobs must not leave empty folders."""
    with opened(tmp_path) as storage:
        await save(storage, "media/job/attempt/0")
        await save(storage, "media/job/attempt/1")

        await storage.delete(Key("media/job/attempt/0"))
        left = below(tmp_path)
        await storage.delete(Key("media/job/attempt/1"))

    assert left == EMPTY | {"media/job", "media/job/attempt", "media/job/attempt/1"}
    assert below(tmp_path) == EMPTY


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder beside the storage, with a secret in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"a secret")
    return folder


@pytest.mark.parametrize(
    ("link", "target", "key"),
    [
        ("media/link", "secret", "media/link"),
        ("media/link", "", "media/link/secret"),
        ("metadata/link.json", "secret", "metadata/link.json"),
        ("media/link", "none", "media/link"),
    ],
    ids=["file", "folder", "metadata", "dangling"],
)
async def test_a_planted_link_is_not_followed(
    tmp_path: Path, outside: Path, link: str, target: str, key: str
) -> None:
    """Users who can write to the folder must not gain access to other files."""
    with opened(tmp_path / "storage") as storage:
        (tmp_path / "storage" / link).symlink_to(outside / target)

        with pytest.raises(NotFound):
            await content_of(storage, key)
        with pytest.raises(NotFound):
            await storage.stat(Key(key))
        await storage.delete(Key(f"{key}/secret"))
        found = [stored async for stored in storage.keys("")]

    assert found == []
    assert (outside / "secret").read_bytes() == b"a secret"


async def test_a_link_inside_the_storage_is_not_followed(tmp_path: Path) -> None:
    """A file has one key; deleting it must be final."""
    with opened(tmp_path) as storage:
        await save(storage, "media/x")
        (tmp_path / "media" / "y").symlink_to(tmp_path / "media" / "x")

        with pytest.raises(NotFound):
            await content_of(storage, "media/y")


async def test_a_save_does_not_follow_a_planted_link(tmp_path: Path, outside: Path) -> None:
    """A link as a folder of the key is refused, and as the file it is replaced."""
    with opened(tmp_path / "storage") as storage:
        (tmp_path / "storage" / "media" / "folder").symlink_to(outside)
        (tmp_path / "storage" / "media" / "file").symlink_to(outside / "secret")

        with pytest.raises(StorageError):
            await save(storage, "media/folder/secret", b"overwritten")
        await save(storage, "media/file", b"mine")

        assert await content_of(storage, "media/file") == b"mine"
    assert (outside / "secret").read_bytes() == b"a secret"


async def test_folders_and_pipes_are_not_found(tmp_path: Path) -> None:
    """Opening a pipe would wait for a writer forever."""
    with opened(tmp_path) as storage:
        (tmp_path / "media" / "folder").mkdir()
        os.mkfifo(tmp_path / "media" / "pipe")

        for key in ("media/folder", "media/pipe"):
            with pytest.raises(NotFound):
                await storage.stat(Key(key))
        found = [stored async for stored in storage.keys("")]

    assert found == []


async def test_a_file_with_an_invalid_name_is_not_listed(tmp_path: Path) -> None:
    """It is an operator's own file."""
    with opened(tmp_path) as storage:
        (tmp_path / "media" / "Some File.txt").write_bytes(b"x")
        (tmp_path / "media" / ".hidden").write_bytes(b"x")

        found = [stored async for stored in storage.keys("")]

    assert found == []


async def test_many_files_are_listed_in_batches(tmp_path: Path) -> None:
    """Each file is listed once."""
    with opened(tmp_path) as storage:
        names = {f"media/{number:04}" for number in range(1203)}
        for name in names:
            (tmp_path / name).touch()

        found = [stored.key async for stored in storage.keys("")]

    assert len(found) == len(names)
    assert set(found) == names


async def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    """Its length was already sent; an early end must not look complete."""
    with opened(tmp_path) as storage:
        await save(storage, KEY, b"x" * 600_000)
        chunks = aiter(storage.read(KEY))
        await anext(chunks)
        os.truncate(tmp_path / KEY, 300_000)
        await anext(chunks)

        with pytest.raises(StorageError, match="truncated"):
            await anext(chunks)


async def test_a_reader_cancelled_while_opening_leaves_no_descriptor(tmp_path: Path) -> None:
    """Callers that disconnect could use up all descriptors."""
    closed: list[int] = []
    began, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        began.set()
        go_on.wait(PATIENCE_SECONDS)
        return 42

    with opened(tmp_path) as storage:
        reader = asyncio.create_task(storage._do("read", slow, undo=closed.append))
        await asyncio.to_thread(began.wait, PATIENCE_SECONDS)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        go_on.set()

    assert closed == [42]


async def test_local_files_have_no_address(tmp_path: Path) -> None:
    """The service sends them itself."""
    with opened(tmp_path) as storage:
        await save(storage)

        assert await storage.url(KEY) is None


async def test_an_error_after_the_caller_was_cancelled_is_ignored(tmp_path: Path) -> None:
    """There is nothing to undo."""
    closed: list[int] = []
    began, go_on = threading.Event(), threading.Event()

    def fail() -> int:
        began.set()
        go_on.wait(PATIENCE_SECONDS)
        raise OSError(errno.EIO, "on purpose")

    with opened(tmp_path) as storage:
        reader = asyncio.create_task(storage._do("read", fail, undo=closed.append))
        await asyncio.to_thread(began.wait, PATIENCE_SECONDS)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        go_on.set()

    assert closed == []


@both_ways
async def test_a_save_continues_after_the_caller_was_cancelled(tmp_path: Path, save: Save) -> None:
    """A partial save would be worse: the same key will be saved again."""
    began, go_on = threading.Event(), threading.Event()

    def slow(_fd: int) -> None:
        began.set()
        go_on.wait(PATIENCE_SECONDS)

    with opened(tmp_path):
        slowly = Disk(fsync=slow)
    with opened(tmp_path, slowly) as storage:
        saving = asyncio.create_task(save(storage))
        await asyncio.to_thread(began.wait, PATIENCE_SECONDS)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        go_on.set()

    assert (tmp_path / KEY).read_bytes() == b"x"
    assert list((tmp_path / ".spool").iterdir()) == []


async def test_check_requires_free_space(tmp_path: Path) -> None:
    """The database needs some, too."""
    almost_full = Disk(free_bytes=lambda _: 16 * 1024 * 1024 - 1)

    with opened(tmp_path, almost_full) as storage, pytest.raises(StorageFull, match="16383 KiB"):
        await storage.check()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EROFS, StorageError)]
)
async def test_check_writes_a_file(tmp_path: Path, number: int, kind: type[StorageError]) -> None:
    """A disk with free space may still refuse, and the failed probe is removed."""
    with opened(tmp_path):
        watched = RecordingFsync(tmp_path, fail=lambda _: number)
    with opened(tmp_path, Disk(fsync=watched)) as storage, pytest.raises(StorageError) as caught:
        await storage.check()

    assert type(caught.value) is kind
    assert below(tmp_path) == EMPTY


async def test_check_tests_both_areas(tmp_path: Path) -> None:
    """Each may be its own volume."""
    with opened(tmp_path) as storage:
        (tmp_path / "metadata").rmdir()
        (tmp_path / "metadata").write_bytes(b"in the way")

        with pytest.raises(StorageError):
            await storage.check()


async def test_removed_folders_are_created_again(tmp_path: Path) -> None:
    """A clean-up by hand, or a late mount, needs no restart."""
    with opened(tmp_path / "storage") as storage:
        shutil.rmtree(tmp_path / "storage")

        await storage.check()
        shutil.rmtree(tmp_path / "storage")
        await save(storage)

        assert await content_of(storage) == b"x"


@pytest.mark.parametrize(
    ("name", "value", "folder"),
    [
        ("STORAGE_PATH", "files", "files"),
        ("STORAGE_PATH", "a/b/", "a/b"),
        ("LOCAL_MEDIA_PATH", "files", "files"),
        ("LOCAL_MEDIA_PATH", "a/media", "a"),
        ("LOCAL_MEDIA_PATH", "./media/", ""),
        ("STORAGE_PATH", "media", ""),
        ("STORAGE_PATH", "with space/ü", "with space/ü"),
        ("STORAGE_PATH", "", "storage"),
    ],
)
async def test_the_setting_determines_the_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    folder: str,
) -> None:
    """It is a folder, or the media folder itself with the older setting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)

    async with connect() as storage:
        await save(storage, "media/x")
        await save(storage, "metadata/y")

    assert (tmp_path / folder / "media" / "x").is_file()
    assert (tmp_path / folder / "metadata" / "y").is_file()


def test_storage_path_overrides_the_older_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documents use the new name."""
    monkeypatch.setenv("LOCAL_MEDIA_PATH", "/older")
    monkeypatch.setenv("STORAGE_PATH", "/newer")

    assert read(LocalStorageSettings).root == Path("/newer")


async def test_a_later_change_of_folder_does_not_move_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is resolved at the start."""
    monkeypatch.chdir(tmp_path)
    async with connect() as storage:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")

        await save(storage)

    assert (tmp_path / "storage" / KEY).is_file()


@pytest.mark.parametrize(
    ("path", "reason"),
    [("file", "Not a directory"), ("file/below", "Not a directory"), ("x" * 300, "File name too")],
)
async def test_an_unusable_folder_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, reason: str
) -> None:
    """One line that names the setting, before the first job is accepted."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORAGE_PATH", path)

    with pytest.raises(ConfigurationError, match=rf"STORAGE_PATH={path}: .*{reason}") as caught:
        async with connect():
            pass

    assert "\n" not in str(caught.value)


async def test_unwritable_folders_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a write shows it."""
    with opened(tmp_path):
        (tmp_path / "media" / ".probe").mkdir()
    monkeypatch.setenv("STORAGE_PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=r"STORAGE_PATH=.*cannot write"):
        async with connect():
            pass
