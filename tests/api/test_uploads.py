"""Uploads over HTTP: as a body or a form, once per tenant, within limits."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest

from fakes import PNG, Clock
from fleek.domain.uploads import UploadId
from fleek.engine.runtime import Runtime
from fleek.engine.uploads import expire_uploads
from fleek.settings import Settings
from fleek.store import uploads
from in_process_service import serving_on

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

PATH: Final = "/api/v1/uploads"
FORM: Final = "multipart/form-data; boundary=x"


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    """Return a form with the boundary ``x``."""
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


def part(content: bytes, name: bytes = b"file") -> bytes:
    """Return the part of a form that contains a file."""
    head = b'Content-Disposition: form-data; name="' + name + b'"; filename="a.png"'
    return head + b"\r\nContent-Type: image/png\r\n\r\n" + content


def files(rt: Runtime) -> list[Path]:
    """Return the files in the storage's area of uploads, without the hidden one of a health check."""
    root = rt.storage.spool().parent / "uploads"
    return [path for path in root.rglob("[!.]*") if path.is_file()]


def spooled(rt: Runtime) -> list[Path]:
    """Return the files of uploads left in the spool."""
    return list(rt.storage.spool().glob("upload-*"))


async def test_a_body_is_an_upload(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """Its type and dimensions come from its bytes, not from its header."""
    answer = await client.post(PATH, content=PNG, headers={"Content-Type": "text/html"})
    made = answer.json()
    read = await client.get(answer.headers["location"])

    assert answer.status_code == 201
    assert made["reference"] == f"upload:{made['id']}"
    assert made["url"].endswith(f"{PATH}/{made['id']}")
    assert (made["content_type"], made["width"], made["height"]) == ("image/png", 1, 1)
    assert (made["size_bytes"], made["sha256"]) == (len(PNG), hashlib.sha256(PNG).hexdigest())
    assert read.json() == made
    assert [path.read_bytes() for path in files(rt)] == [PNG]


@pytest.mark.parametrize("size", [1, 7, 4096, 10**6])
async def test_a_form_is_parsed_for_any_chunk_size(client: httpx2.AsyncClient, size: int) -> None:
    """The file may contain a boundary-like text, and may be cut anywhere."""
    content = PNG + b"\r\n--" + b"\r\n-x\r\n--y\0" * 300 + b"\r\n"
    body = b"preamble\r\n" + form(part(content))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    answer = await client.post(PATH, content=chunks(), headers={"Content-Type": FORM})

    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()


async def test_the_form_of_a_common_client_is_parsed(client: httpx2.AsyncClient) -> None:
    """As curl and browsers send it."""
    answer = await client.post(PATH, files={"file": ("cat.png", PNG, "image/png")})

    assert answer.json()["sha256"] == hashlib.sha256(PNG).hexdigest()


async def test_equal_files_are_stored_once(rt: Runtime, client_of: ClientOf, clock: Clock) -> None:
    """For the longer period; another tenant has its own file."""
    clock.time = rt.now()
    async with client_of(replace(rt, now=clock)) as client:
        first = (await client.post(PATH, content=PNG)).json()
        clock.tick(hours=1)
        second = (await client.post(PATH, content=PNG)).json()

    assert second["id"] == first["id"]
    assert second["expires_at"] > first["expires_at"]
    assert len(files(rt)) == 1


REFUSED: Final[dict[str, tuple[bytes, dict[str, str], int, str]]] = {
    "nothing": (b"", {}, 422, "empty_upload"),
    "compressed": (b"x", {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    "form without a boundary": (
        b"x",
        {"Content-Type": "multipart/form-data"},
        400,
        "unreadable",
    ),
    "form that is none": (b"x" * 20_000, {"Content-Type": FORM}, 400, "unreadable"),
    "form that ends early": (form(part(PNG), end=b""), {"Content-Type": FORM}, 400, "unreadable"),
    "form with nothing": (b"--x--\r\n", {"Content-Type": FORM}, 422, "not_one_file"),
    "form with an empty file": (form(part(b"")), {"Content-Type": FORM}, 422, "empty_upload"),
    "form with two files": (
        form(part(PNG), part(PNG)),
        {"Content-Type": FORM},
        422,
        "not_one_file",
    ),
    "form with long headers": (
        form(part(PNG, name=b"f" * 20_000)),
        {"Content-Type": FORM},
        400,
        "unreadable",
    ),
    "form with much behind it": (
        form(part(PNG)) + b"x" * 20_000,
        {"Content-Type": FORM},
        400,
        "unreadable",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_invalid_uploads_are_refused(
    client: httpx2.AsyncClient, rt: Runtime, name: str
) -> None:
    """Nothing of them is stored, not even in the spool."""
    content, headers, status, code = REFUSED[name]

    answer = await client.post(PATH, content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert files(rt) == []
    assert spooled(rt) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_file_is_refused(
    rt: Runtime, client_of: ClientOf, *, announced: bool
) -> None:
    """By its announced length, or when the limit is exceeded."""
    small = rt.settings.model_copy(update={"max_upload_bytes": 1024})

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    async with client_of(replace(rt, settings=small)) as client:
        answer = await client.post(PATH, content=b"x" * 1500 if announced else chunks())

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert spooled(rt) == []


async def test_an_upload_is_deleted(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """It is not found any more; its file is removed with the next turn, and may come again."""
    made = (await client.post(PATH, content=PNG)).json()
    place = f"{PATH}/{made['id']}"

    deleted = await client.delete(place)
    again = (await client.post(PATH, content=PNG)).json()
    await expire_uploads(rt)

    assert deleted.json() == made
    assert (await client.get(place)).status_code == 404
    assert (await client.delete(place)).status_code == 404
    assert again["id"] != made["id"]
    assert [path.stem for path in files(rt)] == [again["id"]]


async def test_large_uploads_are_streamed_to_disk(rt: Runtime) -> None:
    """Two of them together exceed the memory limit of bodies."""
    settings: Settings = rt.settings.model_copy(update={"max_held_body_bytes": 1_000_000})
    contents = [bytes([number]) * 3_000_000 for number in (1, 2)]

    async def slow(content: bytes, both: asyncio.Barrier) -> AsyncIterator[bytes]:
        yield content[:2_000_000]
        await both.wait()
        yield content[2_000_000:]

    async with (
        serving_on(replace(rt, settings=settings)) as served,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client,
    ):
        both = asyncio.Barrier(2)
        sending = (client.post(PATH, content=slow(content, both)) for content in contents)
        answers = await asyncio.gather(*sending)

    assert [answer.status_code for answer in answers] == [201, 201]
    assert {path.stat().st_size for path in files(rt)} == {3_000_000}


async def test_an_upload_expires(client: httpx2.AsyncClient, rt: Runtime, clock: Clock) -> None:
    """After a day by default."""
    made: dict[str, Any] = (await client.post(PATH, content=PNG)).json()
    clock.time = rt.now() + timedelta(hours=23)
    later = replace(rt, now=clock)

    await expire_uploads(later)
    kept = await uploads.get(rt.db, UploadId(UUID(made["id"])), tenant_id="default")
    clock.tick(hours=2)
    await expire_uploads(later)

    assert kept.stored
    assert (await client.get(f"{PATH}/{made['id']}")).status_code == 404
    assert files(rt) == []
