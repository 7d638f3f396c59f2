"""What every storage promises, wherever it keeps the bytes."""

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
    """Return the bytes of a file, or some of them."""
    return b"".join([chunk async for chunk in storage.read(Key(key), start=start, end=end)])


async def listed(storage: Storage, prefix: str = "") -> dict[str, int]:
    """Return size by key."""
    return {stored.key: stored.size_bytes async for stored in storage.keys(prefix)}


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_what_was_saved_is_read_back(storage: Storage, size: int) -> None:
    """Below, at and above whatever an adapter takes for one piece."""
    content = bytes(index % 251 for index in range(size))

    await save(storage, KEY, content)

    assert await read(storage, KEY) == content


@pytest.mark.parametrize(
    ("start", "end"),
    [
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
    ],
)
async def test_a_range_is_what_a_slice_would_be(
    storage: Storage, start: int, end: int | None
) -> None:
    """Players seek in videos; the API turns `Range` into these two numbers."""
    content = bytes(index % 251 for index in range(1_000_000))
    await save(storage, KEY, content)

    found = await read(storage, KEY, start=start, end=end)

    assert found == content[start:end]


async def test_it_streams(storage: Storage) -> None:
    """A video of a gigabyte must not be in memory."""
    await save(storage, KEY, b"x" * 3_000_000)

    sizes = [len(chunk) async for chunk in storage.read(KEY)]

    assert max(sizes) <= 1_048_576


async def test_a_reader_may_leave_early(storage: Storage) -> None:
    """Browsers close the connection when they have seen enough."""
    await save(storage, KEY, b"x" * 3_000_000)
    chunks = storage.read(KEY)

    first = await anext(aiter(chunks))
    await chunks.aclose()  # type: ignore[attr-defined] # every adapter's is a generator

    assert first.startswith(b"x")


async def test_the_source_is_gone_after_a_save(storage: Storage) -> None:
    """Else the spool would grow by every file."""
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
    """Half a write is never seen, not even by who began to read before it."""
    older, newer = b"o" * 2_000_000, b"n" * 2_000_000
    await save(storage, KEY, older)
    chunks = aiter(storage.read(KEY))
    first = await anext(chunks)

    await save(storage, KEY, newer)
    found = first + b"".join([chunk async for chunk in chunks])

    assert found == older


async def test_readers_never_see_half_a_write(storage: Storage) -> None:
    """Whole or not at all, while it is replaced again and again."""
    versions = {bytes([letter]) * 600_000 for letter in b"abcdefgh"}
    await save(storage, KEY, b"a" * 600_000)

    async def watch() -> set[bytes]:
        return {await read(storage, KEY) for _ in range(20)}

    async def write() -> None:
        for version in sorted(versions):
            await save(storage, KEY, version)

    seen, _ = await asyncio.gather(watch(), write())

    assert seen <= versions


async def test_many_save_at_once(storage: Storage) -> None:
    """Collectors of one job and of many share folders that have to be made first."""
    contents = {
        f"media/job-{number % 5}/{number % 3}/{number}-x.bin": b"%d" % number
        for number in range(60)
    }

    await asyncio.gather(*(save(storage, key, content) for key, content in contents.items()))

    assert {key: await read(storage, key) for key in contents} == contents


async def test_media_and_metadata_lie_side_by_side(storage: Storage) -> None:
    """They can have different lifetimes: one may go without the other."""
    await save(storage, KEY, b"picture")
    await save(storage, "metadata/0190-a.json", b"{}")

    await storage.delete(KEY)

    assert await listed(storage) == {"metadata/0190-a.json": 2}


async def test_stat_tells_size_and_time(storage: Storage) -> None:
    """`Content-Length` is sent before the first byte is read."""
    before = datetime.now(UTC)
    await save(storage, KEY, b"12345")

    stored = await storage.stat(KEY)

    assert (stored.key, stored.size_bytes) == (KEY, 5)
    assert stored.modified_at.utcoffset() == timedelta(0)
    assert abs(stored.modified_at - before) < timedelta(minutes=1)


async def test_an_unknown_key_cannot_be_read(storage: Storage) -> None:
    """Nothing there, and neither beside nor below what is there."""
    await save(storage, KEY, b"x")

    for key in ("media/none", f"{KEY}.png", f"{KEY}/x", "media/0190-a", "metadata/none.json"):
        with pytest.raises(NotFound):
            await read(storage, key)
        with pytest.raises(NotFound):
            await storage.stat(Key(key))


async def test_deleting_twice_is_fine(storage: Storage) -> None:
    """A purge that was interrupted is repeated."""
    await save(storage, KEY, b"x")

    await storage.delete(KEY)
    await storage.delete(KEY)

    with pytest.raises(NotFound):
        await storage.stat(KEY)


async def test_a_deleted_key_can_be_saved_again(storage: Storage) -> None:
    """Whatever was tidied up with it is made anew."""
    await save(storage, KEY, b"older")
    await storage.delete(KEY)

    await save(storage, KEY, b"newer")

    assert await read(storage, KEY) == b"newer"


async def test_deleting_leaves_the_neighbours(storage: Storage) -> None:
    """Tidying up must not reach for more than it was asked to."""
    others = ["media/0190-a/0190-b/1-00ff.png", "media/0190-a/x.png", "media/y.png"]
    for key in [KEY, *others]:
        await save(storage, key, b"x")

    await storage.delete(KEY)

    assert set(await listed(storage)) == set(others)


async def test_saves_and_deletes_do_not_disturb_each_other(storage: Storage) -> None:
    """A purge may empty the folder in which a file is just being saved."""

    async def turn(number: int) -> None:
        for _ in range(6):
            await save(storage, f"media/job/attempt/{number}.png", b"x")
            await storage.delete(Key(f"media/job/attempt/{number}.png"))
        await save(storage, f"media/job/attempt/{number}.png", b"x")

    await asyncio.gather(*(turn(number) for number in range(8)))

    assert set(await listed(storage)) == {f"media/job/attempt/{n}.png" for n in range(8)}


async def test_keys_lists_exactly_what_is_there(storage: Storage) -> None:
    """The search for files that no job knows trusts it; what is in the spool is not listed."""
    sizes = {f"media/job-{number}/a/0-x.png": number for number in range(7)}
    sizes |= {f"metadata/job-{number}.json": number + 100 for number in range(7)}
    for key, size in sizes.items():
        await save(storage, key, b"x" * size)
    (storage.spool() / "not-complete").write_bytes(b"x")

    found = await listed(storage)

    assert found == sizes


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
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
    ],
)
async def test_keys_begin_with_the_prefix(
    storage: Storage, prefix: str, expected: set[str]
) -> None:
    """A prefix is a beginning, not a folder; one that leads outside begins nothing."""
    for key in ("media/ab/1", "media/ab/2", "media/abc/1", "metadata/ab.json"):
        await save(storage, key, b"x")

    found = await listed(storage, prefix)

    assert set(found) == expected


async def test_keys_tells_what_stat_tells(storage: Storage) -> None:
    """Ages decide what is purged."""
    await save(storage, KEY, b"12345")

    found = [stored async for stored in storage.keys("media/")]

    assert found == [Stored(KEY, 5, (await storage.stat(KEY)).modified_at)]


async def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    """Not even what the storage keeps for itself."""
    found = await listed(storage)

    assert found == {}


@pytest.mark.parametrize("key", NASTY, ids=lambda key: ascii(key[:24]))
async def test_a_nasty_key_names_nothing(storage: Storage, key: str) -> None:
    """A key cannot leave the root, and no spelling finds what another one has saved."""
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
async def test_any_text_names_a_file_of_ours_or_nothing(storage: Storage, key: str) -> None:
    """What can be saved is listed under that very key; what cannot is nowhere."""
    try:
        await save(storage, key, b"x")
    except ValueError:
        expected = {}
    else:
        expected = {key: 1}

    found = await listed(storage)
    await storage.delete(Key(key))

    assert found == expected


async def test_check_passes_when_a_file_could_be_written(storage: Storage) -> None:
    """It leaves nothing behind: readiness asks for it again and again."""
    await storage.check()

    assert await listed(storage) == {}
