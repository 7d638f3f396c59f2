"""Thumbnails: small, made on demand, and harmless whatever the file is."""

import asyncio
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from fleek.domain.job import Job
from fleek.domain.media import Key, original_key, thumbnail_key
from fleek.engine import thumbnails
from fleek.engine.orphan_files import OrphanSearch
from fleek.engine.purge import Retention
from fleek.engine.runtime import Runtime
from fleek.engine.thumbnails import Thumbnails
from fleek.store import jobs
from fleek.thumbnail_maker import opened

Make = Callable[..., Coroutine[Any, Any, Job]]


def picture(width: int, height: int, form: str = "PNG", **options: Any) -> bytes:
    """Return a picture."""
    data = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(data, form, **options)
    return data.getvalue()


def bomb(side: int) -> bytes:
    """Return a small file of this many pixels squared."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    lines = zlib.compress(bytes(side + 1) * 64, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    )


async def of(client: httpx2.AsyncClient, job: Job) -> dict[str, Any]:
    """Return the first output of a job, as the API presents it."""
    found: dict[str, Any] = (await client.get(f"/api/v1/jobs/{job.id}")).json()["outputs"][0]
    return found


async def test_both_sizes_are_made_when_one_is_asked_for(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """They fit into their size, are kept beside the file, and leave a placeholder."""
    job = await complete((picture(1600, 800), "image/png", "png"))
    output = await of(client, job)

    small = await client.get(output["thumbnails"]["320"])
    large = await client.get(output["thumbnails"]["960"])

    assert (small.status_code, small.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(small.content)).size == (320, 160)
    assert Image.open(io.BytesIO(large.content)).size == (960, 480)
    again = await of(client, job)
    assert again["placeholder"].startswith("data:image/webp;base64,")
    assert len(again["placeholder"]) <= 300
    assert output["placeholder"] is None
    keys = [stored.key async for stored in rt.storage.keys(f"media/{job.id}/")]
    assert len(keys) == 3
    assert {original_key(key) for key in keys} == {min(keys, key=len)}
    same = {"If-None-Match": small.headers["etag"]}
    assert (await client.get(output["thumbnails"]["320"], headers=same)).status_code == 304


async def test_one_that_is_missing_is_made_again(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """Whoever removes it loses nothing; without it, nothing is different."""
    job = await complete((picture(64, 64, "JPEG"), "image/jpeg", "jpg"))
    address = (await of(client, job))["thumbnails"]["320"]
    first = await client.get(address)
    view = await jobs.get(rt.db, job.id, tenant_id="default")
    await rt.storage.delete(thumbnail_key(view.media[0].key, 320))

    second = await client.get(address)

    assert second.content == first.content
    assert Image.open(io.BytesIO(second.content)).size == (64, 64)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bomb(30_000), "image/png"),
        (picture(300, 300)[:200], "image/png"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"some words", "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"words", "text/plain"),
    ],
    ids=["bomb", "truncated", "only-magic", "no-picture", "svg", "text"],
)
async def test_a_file_that_cannot_be_shown_has_none(
    client: httpx2.AsyncClient, complete: Make, data: bytes, kind: str
) -> None:
    """404, and the file itself is served as before."""
    job = await complete((data, kind, "bin"))
    output = await of(client, job)

    answer = await client.get(f"{output['url']}?size=320")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    assert (await client.get(output["url"])).content == data
    if kind.startswith("text"):
        assert output["thumbnails"] == {}


async def test_many_callers_have_it_made_once(
    client: httpx2.AsyncClient, complete: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gallery asks for it from several tabs."""
    job = await complete((picture(50, 40), "image/png", "png"))
    address = (await of(client, job))["thumbnails"]["320"]
    made: list[Key] = []
    make = Thumbnails._make

    async def counted(self: Thumbnails, rt: Runtime, media: Any) -> None:
        made.append(media.key)
        await make(self, rt, media)

    monkeypatch.setattr(Thumbnails, "_make", counted)

    answers = await asyncio.gather(*(client.get(address) for _ in range(5)))

    assert {answer.status_code for answer in answers} == {200}
    assert len([key for key in made if str(job.id) in key]) == 1  # others are of earlier tests


async def test_other_sizes_are_refused(client: httpx2.AsyncClient, complete: Make) -> None:
    """Only two are made."""
    job = await complete((picture(50, 40), "image/png", "png"))

    answer = await client.get(f"{(await of(client, job))['url']}?size=321")

    assert answer.status_code == 422


async def test_thumbnails_are_no_orphans_and_go_with_their_file(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """The search for orphaned files leaves them; a purge removes them, and refuses their addresses."""
    job = await complete((picture(50, 40), "image/png", "png"))
    address = (await of(client, job))["thumbnails"]["320"]
    await client.get(address)
    search = OrphanSearch(rt, grace=timedelta(0))

    await search.batch()
    await client.delete(f"/api/v1/jobs/{job.id}", params={"purge": "true"})
    await Retention(rt).turn()

    assert search.result.orphans == 0
    assert [stored.key async for stored in rt.storage.keys(f"media/{job.id}/")] == []
    assert (await client.get(address)).status_code == 410


@pytest.mark.parametrize("form", ["WEBP", "PNG", "JPEG"])
@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0garbage"])
def test_damaged_exif_data_are_ignored(form: str, exif: bytes, tmp_path: Path) -> None:
    """They say which side is up, and the picture can be shown without them."""
    source = tmp_path / "picture"
    source.write_bytes(picture(40, 30, form, exif=exif))

    assert opened(source).size == (40, 30)


def test_a_picture_is_shown_upright(tmp_path: Path) -> None:
    """As its Exif data say."""
    turned = Image.Exif()
    turned[0x0112] = 6  # by 90 degrees
    source = tmp_path / "picture"
    source.write_bytes(picture(40, 30, "WEBP", exif=turned))

    assert opened(source).size == (30, 40)


@pytest.mark.usefixtures("_full_suite")
def test_the_maker_limits_itself_first(tmp_path: Path) -> None:
    """A picture that needs more memory than that ends the program, and nothing else."""
    source = tmp_path / "large.png"
    Image.new("RGB", (9000, 9000)).save(source, compress_level=1)
    program = (
        "import fleek.thumbnail_maker as m, sys, pathlib; m.MAX_MEMORY = 300 << 20; m.limit(); "
        "m.main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    )

    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, str(source), str(tmp_path)],
        capture_output=True,
        check=False,
    )

    assert done.returncode != 0
    assert not (tmp_path / "320.webp").exists()


async def test_those_of_a_completed_job_are_made_without_being_asked_for(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """The worker makes them, so that the first look at a gallery is quick; later looks make nothing."""
    job = await complete((picture(64, 48), "image/png", "png"), (b"words", "text/plain", "txt"))
    view = await jobs.get(rt.db, job.id, tenant_id="default")

    rt.thumbnails.announce(rt, view.media)
    wait = await rt.thumbnails.make_next(rt)

    keys = [stored.key async for stored in rt.storage.keys(f"media/{job.id}/")]
    assert thumbnail_key(view.media[0].key, 320) in keys
    assert wait == timedelta(0)
    assert await rt.thumbnails.make_next(rt) > timedelta(0)
    assert (await of(client, job))["placeholder"]


async def test_of_a_job_that_was_purged_meanwhile_none_is_kept(
    rt: Runtime, client: httpx2.AsyncClient, complete: Make
) -> None:
    """What was announced before it was purged leaves nothing behind."""
    job = await complete((picture(64, 48), "image/png", "png"))
    view = await jobs.get(rt.db, job.id, tenant_id="default")
    rt.thumbnails.announce(rt, view.media)
    await client.delete(f"/api/v1/jobs/{job.id}", params={"purge": "true"})

    await rt.thumbnails.make_next(rt)

    keys = [stored.key async for stored in rt.storage.keys(f"media/{job.id}/")]
    assert keys == [view.media[0].key]


async def test_a_worker_makes_none_if_the_setting_says_so(rt: Runtime, complete: Make) -> None:
    """MAKE_THUMBNAILS=false leaves them to the first look."""
    job = await complete((picture(64, 48), "image/png", "png"))
    view = await jobs.get(rt.db, job.id, tenant_id="default")
    calm = replace(rt, settings=rt.settings.model_copy(update={"make_thumbnails": False}))

    calm.thumbnails.announce(calm, view.media)

    assert await calm.thumbnails.make_next(calm) > timedelta(0)


async def test_one_that_is_being_made_ends_with_the_service(
    rt: Runtime, complete: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write to a database that is closed, and leave its files behind."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def run(*_: Any, **__: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(thumbnails, "run_program", run)
    job = await complete((picture(64, 64), "image/png", "png"))
    view = await jobs.get(rt.db, job.id, tenant_id="default")
    asking = asyncio.create_task(rt.thumbnails.read(rt, view.media[0], 320))
    await begun.wait()

    await rt.thumbnails.close()

    assert ended.is_set()
    with pytest.raises(asyncio.CancelledError):
        await asking
