"""Posters: the first frame of a film, decoded under limits by ffmpeg, and none where that is missing."""

import asyncio
import io
import os
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from PIL import Image

from fleek.domain.job import Job
from fleek.domain.media import thumbnail_key
from fleek.engine import thumbnails as making
from fleek.engine.runtime import Runtime
from fleek.sniff import thumbnails
from fleek.sniff.thumbnails import film_decoder
from fleek.store import jobs

Make = Callable[..., Coroutine[Any, Any, Job]]
Film = Callable[..., bytes]
Encoded = Callable[..., bytes]

TYPES: Final = {
    "mp4": ("video/mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "mov": ("video/quicktime", "-c:v", "mpeg4"),
    "webm": ("video/webm", "-c:v", "libvpx", "-b:v", "400k"),
    "mkv": ("video/x-matroska", "-c:v", "mpeg4"),
    "avi": ("video/x-msvideo", "-c:v", "mpeg4"),
}


@pytest.fixture
def decoder(_full_suite: None) -> str:
    """Return a decoder: the system's, else that of a wheel, so that nothing is left out anywhere."""
    found = film_decoder()
    assert found is not None, "run `make install`: it brings ffmpeg in a wheel"
    return found


@pytest.fixture
def encoded(decoder: str, tmp_path: Path) -> Encoded:
    """Return a function that runs the program in a folder, and returns the file that it has written there."""

    def made(name: str, *arguments: str) -> bytes:
        command = [decoder, "-v", "error", "-nostdin", *arguments, "-y", name]
        subprocess.run(command, check=True, cwd=tmp_path)  # noqa: S603 - no shell
        return (tmp_path / name).read_bytes()

    return made


@pytest.fixture
def film(encoded: Encoded) -> Film:
    """Return a function that makes a film of half a second, red at first and then blue."""

    def made(ending: str, *, width: int = 1280, height: int = 720) -> bytes:
        red, blue = (
            f"color={name}:size={width}x{height}:rate=4:d=0.25" for name in ("red", "blue")
        )
        sources = ["-f", "lavfi", "-i", red, "-f", "lavfi", "-i", blue]
        both = ["-filter_complex", "[0:v][1:v]concat=n=2:v=1:a=0"]
        return encoded(f"film.{ending}", *sources, *both, *TYPES[ending][1:])

    return made


@pytest.fixture
def square(encoded: Encoded, tmp_path: Path) -> Callable[[int], bytes]:
    """Return a function that makes a film of one black frame with this side, in pixels."""

    def made(side: int) -> bytes:
        Image.new("1", (side, side)).save(tmp_path / "frame.png")
        return encoded("square.mov", "-f", "png_pipe", "-i", "frame.png", "-c", "copy")

    return made


async def output(client: httpx2.AsyncClient, job: Job) -> dict[str, Any]:
    """Return the first output of a job, as the API presents it."""
    found: dict[str, Any] = (await client.get(f"/api/v1/jobs/{job.id}")).json()["outputs"][0]
    return found


@pytest.mark.parametrize("ending", TYPES)
async def test_the_first_frame_is_the_poster(
    client: httpx2.AsyncClient, complete: Make, film: Film, ending: str
) -> None:
    """In both sizes, with a placeholder, of each container that is known."""
    job = await complete((film(ending), TYPES[ending][0], ending))
    shown = await output(client, job)

    poster = await client.get(shown["poster"])

    image = Image.open(io.BytesIO(poster.content)).convert("RGB")
    small = await client.get(shown["thumbnails"]["320"])
    pixel = image.getpixel((480, 270))
    assert (image.size, Image.open(io.BytesIO(small.content)).size) == ((960, 540), (320, 180))
    assert isinstance(pixel, tuple)
    assert (pixel[0] > 150, pixel[2] < 100) == (True, True)
    assert (await output(client, job))["placeholder"].startswith("data:image/webp;base64,")


def disguised(film: bytes) -> bytes:
    """Return a playlist of files of this machine behind the first bytes of a film."""
    return film[:32] + b"\n#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


def enlarged(film: bytes) -> bytes:
    """Return a film whose container claims 30,000 by 30,000 pixels; its stream still has its own size."""
    old, new = (1280).to_bytes(2) + (720).to_bytes(2), (30_000).to_bytes(2) * 2
    assert old in film
    return film.replace(old, new)


def emptied(film: bytes) -> bytes:
    """Return a film that announces all of its frames, of which nothing is left but zeros."""
    start, end = film.index(b"mdat") + 4, film.index(b"moov") - 4
    return film[:start] + bytes(end - start) + film[end:]


@pytest.mark.parametrize(
    "broken",
    [disguised, lambda film: film[:200], lambda film: film[:48] + bytes(100_000), emptied],
    ids=["playlist", "truncated", "zeros", "emptied"],
)
async def test_a_film_that_cannot_be_decoded_has_none(
    client: httpx2.AsyncClient, complete: Make, film: Film, broken: Callable[[bytes], bytes]
) -> None:
    """The file is served as before, and the service is unharmed."""
    data = broken(film("mov"))
    job = await complete((data, "video/quicktime", "mov"))
    shown = await output(client, job)

    answer = await client.get(shown["poster"])

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await client.get(shown["url"])).content == data


async def test_a_size_that_only_the_container_claims_is_not_believed(
    client: httpx2.AsyncClient, complete: Make, film: Film
) -> None:
    """Neither memory nor a poster of that size: the stream says how large its frames are."""
    job = await complete((enlarged(film("mov")), "video/quicktime", "mov"))

    answer = await client.get((await output(client, job))["poster"])

    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).size == (960, 540)


@pytest.mark.parametrize(("side", "status"), [(4000, 200), (10_100, 404)])
async def test_a_frame_with_too_many_pixels_is_refused(
    client: httpx2.AsyncClient,
    complete: Make,
    square: Callable[[int], bytes],
    side: int,
    status: int,
) -> None:
    """Its file has a few kilobytes, and an ordinary number of pixels is decoded from such a one."""
    data = square(side)
    job = await complete((data, "video/quicktime", "mov"))

    answer = await client.get((await output(client, job))["poster"])

    assert len(data) < 100_000
    assert answer.status_code == status


async def test_of_a_film_of_days_only_the_first_frame_is_decoded(
    client: httpx2.AsyncClient, complete: Make, encoded: Encoded
) -> None:
    """However long it is, its poster is that of a short one."""
    still = "color=red:size=64x64:rate=1/3600:d=360000"
    data = encoded("long.avi", "-f", "lavfi", "-i", still, "-c:v", "mpeg4")
    job = await complete((data, "video/x-msvideo", "avi"))

    answer = await client.get((await output(client, job))["poster"])

    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)


async def test_a_decoder_that_does_not_end_is_ended(
    client: httpx2.AsyncClient,
    complete: Make,
    film: Film,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no poster now; a machine that was only busy makes it when it is asked for again."""
    stuck = tmp_path / "stuck"
    os.mkfifo(tmp_path / "open")  # for as long as the decoder lives
    stuck.write_text(f"#!/bin/sh\nexec sleep 600 > {tmp_path}/open\n")
    stuck.chmod(0o700)
    job = await complete((film("mp4"), "video/mp4", "mp4"))
    poster = (await output(client, job))["poster"]
    until_it_is_closed = asyncio.create_task(asyncio.to_thread((tmp_path / "open").read_bytes))
    with monkeypatch.context() as patch:
        patch.setattr(making, "film_decoder", lambda: str(stuck))
        patch.setattr(making, "TIMEOUT_SECONDS", 3.0)

        refused = await client.get(poster)

    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert await asyncio.wait_for(until_it_is_closed, 60) == b""
    assert (await client.get(poster)).status_code == 200


async def test_where_no_decoder_is_there_is_no_poster(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is announced and none is served, unless another machine with a decoder has made it."""
    monkeypatch.setattr(thumbnails, "film_decoder", lambda: None)
    job = await complete((b"a film", "video/mp4", "mp4"))
    shown = await output(client, job)
    assert (shown["poster"], shown["thumbnails"]) == (None, {})
    address = f"{shown['url']}?size=960"
    assert (await client.get(address)).status_code == 404
    view = await jobs.get(rt.db, job.id, tenant_id="default")

    async def bytes_of_it() -> None:
        path = rt.storage.spool() / "poster"
        path.write_bytes(b"made elsewhere")
        key = thumbnail_key(view.media[0].key, 960)
        await rt.storage.save(key, path, content_type="image/webp")

    await bytes_of_it()

    assert (await client.get(address)).content == b"made elsewhere"
