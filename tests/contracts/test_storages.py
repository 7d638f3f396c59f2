"""The contract of every storage, wherever it keeps the bytes."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleek.domain.errors import NotFound
from fleek.domain.media import Key
from fleek.storage.base import Storage, Stored

KEY = Key("media/0190-a/0190-b/0-00ff.png")
NASTY = [
    "",
    "/",
    ".",
    "..",
    "media",
    "media/",
    "media//x",
    "media/x/",
    "media/.",
    "media/..",
    "media/../x",
    "media/../../x",
    "media/../metadata/x.json",
    "media/a/../b",
    "media/./x",
    "media/.hidden",
    "media/.spool/x",
    "/media/x",
    "//media/x",
    "/etc/passwd",
    "../media/x",
    "other/x",
    "MEDIA/x",
    ".spool/x",
    "media\\x",
    "media/..\\..\\x",
    "C:\\x",
    "media/a\\b",
    "media/%2e%2e/x",
    "media/%2e%2e%2fx",
    "media/a\0b",
    "media/a\nb",
    "media/a\n",
    "media/a b",
    "media/a:b",
    "media/~",
    "media/é",
    "media/\u202eabc",
    "media/\udcff",
    "media/" + "a" * 300,
    "media/" + "a/" * 5000 + "a",
]


async def save(storage: Storage, key: str, content: bytes) -> None:
    """Write a file to the spool, then save it."""
    source = storage.spool() / uuid4().hex
    source.write_bytes(content)
    await storage.save(Key(key), source, content_type="application/octet-stream")


async def read(storage: Storage, key: str, *, start: int = 0, end: int | None = None) -> bytes:
    """Return the bytes of a file, or a range of them."""
    return b"".join([chunk async for chunk in storage.read(Key(key), start=start, end=end)])


async def listed(storage: Storage, prefix: str = "") -> dict[str, int]:
    """Return sizes by key."""
    return {stored.key: stored.size_bytes async for stored in storage.keys(prefix)}


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_a_saved_file_is_read_back(storage: Storage, size: int) -> None:
    """Sizes below, at and above the chunk size of any adapter."""
    content = bytes(index % 251 for index in range(size))

    await save(storage, KEY, content)

    assert await read(storage, KEY) == content


async def test_content_is_saved_without_a_file(storage: Storage) -> None:
    """What is small was never written to the spool. It replaces what was there before."""
    await save(storage, KEY, b"older and longer")

    await storage.save(KEY, b"newer", content_type="application/json")

    assert await read(storage, KEY) == b"newer"
    assert list(storage.spool().iterdir()) == []


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_range_equals_a_slice(storage: Storage, subtests: pytest.Subtests) -> None:
    """Players seek in videos; the API parses `Range` into these two numbers."""
    for start, end in [
        (0, None),
        (0, 0),
        (0, 1),
        (1, None),
        (999_999, None),
        (999_999, 1_000_000),
        (262_143, 262_145),
        (500_000, 400_000),
        (1_000_000, None),
        (1_000_001, 1_000_002),
        (999_990, 2_000_000),
        (5, 700_000),
    ]:
        with subtests.test(start=str(start)[:40], end=str(end)[:40]):
            content = bytes(index % 251 for index in range(1_000_000))
            await save(storage, KEY, content)

            found = await read(storage, KEY, start=start, end=end)

            assert found == content[start:end]


async def test_reads_are_streamed(storage: Storage) -> None:
    """A video of a gigabyte must not be held in memory."""
    await save(storage, KEY, b"x" * 3_000_000)

    sizes = [len(chunk) async for chunk in storage.read(KEY)]

    assert max(sizes) <= 1_048_576


async def test_a_read_may_be_abandoned(storage: Storage) -> None:
    """Browsers disconnect when they have received enough."""
    await save(storage, KEY, b"x" * 3_000_000)
    chunks = storage.read(KEY)

    first = await anext(aiter(chunks))
    await chunks.aclose()  # type: ignore[attr-defined] # a generator in every adapter

    assert first.startswith(b"x")


async def test_the_source_is_removed_by_a_save(storage: Storage) -> None:
    """Otherwise the spool would grow by every file."""
    source = storage.spool() / "a-file"
    source.write_bytes(b"x")

    await storage.save(KEY, source, content_type="image/png")

    assert not source.exists()


async def test_a_save_replaces_an_older_file(storage: Storage) -> None:
    """A collection that is repeated after a crash saves again."""
    await save(storage, KEY, b"older and longer")

    await save(storage, KEY, b"newer")

    assert await read(storage, KEY) == b"newer"


async def test_a_reader_sees_one_version(storage: Storage) -> None:
    """A reader that began before a write gets the old version completely."""
    older, newer = b"o" * 2_000_000, b"n" * 2_000_000
    await save(storage, KEY, older)
    chunks = aiter(storage.read(KEY))
    first = await anext(chunks)

    await save(storage, KEY, newer)
    found = first + b"".join([chunk async for chunk in chunks])

    assert found == older


async def test_readers_never_see_half_a_write(storage: Storage) -> None:
    """Files are read completely or not at all while they are replaced."""
    versions = {bytes([letter]) * 600_000 for letter in b"abcdefgh"}
    await save(storage, KEY, b"a" * 600_000)

    async def watch() -> set[bytes]:
        return {await read(storage, KEY) for _ in range(20)}

    async def write() -> None:
        for version in sorted(versions):
            await save(storage, KEY, version)

    seen, _ = await asyncio.gather(watch(), write())

    assert seen <= versions


async def test_concurrent_saves_succeed(storage: Storage) -> None:
    """Collectors of one job and of many share folders that have to be created first."""
    contents = {
        f"media/job-{number % 5}/{number % 3}/{number}-x.bin": b"%d" % number
        for number in range(60)
    }

    await asyncio.gather(*(save(storage, key, content) for key, content in contents.items()))

    assert {key: await read(storage, key) for key in contents} == contents


async def test_media_and_metadata_are_separate_files(storage: Storage) -> None:
    """They may have different retentions."""
    await save(storage, KEY, b"picture")
    await save(storage, "metadata/0190-a.json", b"{}")

    await storage.delete(KEY)

    assert await listed(storage) == {"metadata/0190-a.json": 2}


async def test_stat_returns_size_and_time(storage: Storage) -> None:
    """`Content-Length` is sent before the first byte is read."""
    before = datetime.now(UTC)
    await save(storage, KEY, b"12345")

    stored = await storage.stat(KEY)

    assert (stored.key, stored.size_bytes) == (KEY, 5)
    assert stored.modified_at.utcoffset() == timedelta(0)
    assert abs(stored.modified_at - before) < timedelta(minutes=1)


async def test_an_unknown_key_cannot_be_read(storage: Storage) -> None:
    """Neither a missing key, nor one beside or below an existing file."""
    await save(storage, KEY, b"x")

    for key in ("media/none", f"{KEY}.png", f"{KEY}/x", "media/0190-a", "metadata/none.json"):
        with pytest.raises(NotFound):
            await read(storage, key)
        with pytest.raises(NotFound):
            await storage.stat(Key(key))


async def test_deleting_twice_succeeds(storage: Storage) -> None:
    """An interrupted purge is repeated."""
    await save(storage, KEY, b"x")

    await storage.delete(KEY)
    await storage.delete(KEY)

    with pytest.raises(NotFound):
        await storage.stat(KEY)


async def test_a_deleted_key_can_be_saved_again(storage: Storage) -> None:
    """Removed folders are created again."""
    await save(storage, KEY, b"older")
    await storage.delete(KEY)

    await save(storage, KEY, b"newer")

    assert await read(storage, KEY) == b"newer"


async def test_deleting_leaves_neighbouring_files(storage: Storage) -> None:
    """The cleanup must remove no more than was requested."""
    others = ["media/0190-a/0190-b/1-00ff.png", "media/0190-a/x.png", "media/y.png"]
    for key in [KEY, *others]:
        await save(storage, key, b"x")

    await storage.delete(KEY)

    assert set(await listed(storage)) == set(others)


async def test_concurrent_saves_and_deletes_succeed(storage: Storage) -> None:
    """A purge may empty the folder into which a file is being saved."""

    async def turn(number: int) -> None:
        for _ in range(6):
            await save(storage, f"media/job/attempt/{number}.png", b"x")
            await storage.delete(Key(f"media/job/attempt/{number}.png"))
        await save(storage, f"media/job/attempt/{number}.png", b"x")

    await asyncio.gather(*(turn(number) for number in range(8)))

    assert set(await listed(storage)) == {f"media/job/attempt/{n}.png" for n in range(8)}


async def test_keys_lists_exactly_the_stored_files(storage: Storage) -> None:
    """The search for orphaned files relies on it; the spool is not listed."""
    sizes = {f"media/job-{number}/a/0-x.png": number for number in range(7)}
    sizes |= {f"metadata/job-{number}.json": number + 100 for number in range(7)}
    for key, size in sizes.items():
        await save(storage, key, b"x" * size)
    (storage.spool() / "not-complete").write_bytes(b"x")

    found = await listed(storage)

    assert found == sizes


async def test_keys_begin_with_the_prefix(storage: Storage, subtests: pytest.Subtests) -> None:
    """A prefix is a string, not a folder; one that leads outside matches nothing."""
    for prefix, expected in [
        ("m", {"media/ab/1", "media/ab/2", "media/abc/1", "metadata/ab.json"}),
        ("media", {"media/ab/1", "media/ab/2", "media/abc/1"}),
        ("media/", {"media/ab/1", "media/ab/2", "media/abc/1"}),
        ("media/ab", {"media/ab/1", "media/ab/2", "media/abc/1"}),
        ("media/ab/", {"media/ab/1", "media/ab/2"}),
        ("media/ab/2", {"media/ab/2"}),
        ("metadata/", {"metadata/ab.json"}),
        ("media/none/", set()),
        ("other", set()),
        ("/", set()),
        ("../", set()),
        ("media/../", set()),
    ]:
        with subtests.test(prefix=str(prefix)[:40], expected=str(expected)[:40]):
            for key in ("media/ab/1", "media/ab/2", "media/abc/1", "metadata/ab.json"):
                await save(storage, key, b"x")

            found = await listed(storage, prefix)

            assert set(found) == expected


async def test_keys_and_stat_agree(storage: Storage) -> None:
    """The age decides about removal."""
    await save(storage, KEY, b"12345")

    found = [stored async for stored in storage.keys("media/")]

    assert found == [Stored(KEY, 5, (await storage.stat(KEY)).modified_at)]


async def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    """Internal files of the storage are not listed."""
    found = await listed(storage)

    assert found == {}


async def test_a_malicious_key_finds_nothing(storage: Storage, subtests: pytest.Subtests) -> None:
    """No key leaves the root, and no other spelling finds a saved file."""
    for key in NASTY:
        with subtests.test(key=str(key)[:40]):
            await save(storage, "media/x", b"a secret")
            await save(storage, "metadata/x.json", b"a secret")

            with pytest.raises(NotFound):
                await read(storage, key)
            with pytest.raises(NotFound):
                await storage.stat(Key(key))
            with pytest.raises(ValueError, match="key"):
                await save(storage, key, b"mine")
            await storage.delete(Key(key))

            assert await listed(storage) == {"media/x": 8, "metadata/x.json": 8}


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=settings().max_examples // 2,
)
@given(
    key=st.lists(
        st.sampled_from(["media", "metadata", "..", ".", "", "/", "\\", "a", "\0", "~"])
        | st.text(max_size=4),
        max_size=6,
    ).map("/".join)
)
async def test_any_text_is_a_valid_key_or_refused(storage: Storage, key: str) -> None:
    """A saved file is listed under exactly its key; anything else is not stored."""
    try:
        await save(storage, key, b"x")
    except ValueError:
        expected = {}
    else:
        expected = {key: 1}

    found = await listed(storage)
    await storage.delete(Key(key))

    assert found == expected


async def test_check_passes_if_files_can_be_written(storage: Storage) -> None:
    """It leaves nothing behind, since readiness repeats it often."""
    await storage.check()

    assert await listed(storage) == {}
