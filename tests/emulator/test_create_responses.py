"""Faults of whole responses: to a creation, and to the download of a file."""

import io
import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest
from PIL import Image

from fleek.emulator.media import CONTENT_TYPES, render
from fleek.emulator.server import Emulator


@pytest.mark.parametrize(
    ("fault", "status", "recorded"),
    [
        ("create_429", 429, 0),
        ("create_402", 402, 0),
        ("create_422", 422, 0),
        ("create_401", 401, 0),
        ("create_5xx=502", 502, 0),
        ("create_redirect", 307, 0),
        ("create_then_500", 500, 1),
        ("create_html", 201, 1),
        ("create_empty", 201, 1),
        ("create_truncated", 201, 1),
        ("create_invalid", 201, 1),
        ("create_huge=1", 201, 1),
        ("create_odd_id", 201, 1),
        ("create_200", 200, 1),
        ("create_then_delay=0", 201, 1),
        ("delay=0", 201, 1),
    ],
)
async def test_an_error_status_may_follow_a_creation(
    emulator: Emulator, create: Any, fault: str, status: int, recorded: int
) -> None:
    """The fault comes before or after it, and only the ledger shows which."""
    response = await create(f"[[emu:{fault}]]")

    assert response.status_code == status
    assert emulator.totals()["predictions"] == recorded


@pytest.mark.parametrize(
    "fault", ["create_html", "create_empty", "create_truncated", "create_invalid"]
)
async def test_a_201_may_be_unreadable(create: Any, fault: str) -> None:
    """The prediction is created, and its id is unknown."""
    response = await create(f"[[emu:{fault}]]")

    with pytest.raises(json.JSONDecodeError):
        json.loads(response.content)


@pytest.mark.parametrize(
    ("kind", "accepts"),
    [
        ("7", lambda text, _: text == "7"),
        ("date", lambda text, asked_at: parsedate_to_datetime(text) > asked_at),
        ("garbage", lambda text, _: not text.isdigit()),
        ("none", lambda text, _: text is None),
        ("-5", lambda text, _: text == "-5"),
    ],
)
async def test_retry_after_comes_in_many_forms(create: Any, kind: str, accepts: Any) -> None:
    """Seconds, a date, invalid text, or no header."""
    asked_at = datetime.now(UTC)

    response = await create(f"[[emu:create_429={kind}]]")

    assert accepts(response.headers.get("retry-after"), asked_at)


async def test_the_response_may_contain_another_prediction_s_id(create: Any) -> None:
    """Two attempts must not share one prediction."""
    first = (await create("one")).json()

    second = (await create("two [[emu:create_duplicate_id]]")).json()

    assert first["id"] == second["id"]


async def test_a_decompression_bomb_in_place_of_json(emulator: Emulator) -> None:
    """It expands to a gigabyte without a limit."""
    body = {"version": "a/b", "input": {"prompt": "[[emu:create_gzip_bomb]]"}}
    headers = {"authorization": "Bearer t"}
    url = f"{emulator.api_url}/predictions"

    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", url, json=body, headers=headers) as response,
    ):
        size = int(response.headers["content-length"])
        unpacked = len(await anext(response.aiter_bytes()))

    assert response.headers["content-encoding"] == "gzip"
    assert unpacked > 10_000
    assert size < 4_000_000


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ("file_type=text/css", 200, "text/css; charset=utf-8"),
        ("file_html", 200, "image/png"),
        ("file_svg", 200, "image/svg+xml"),
        ("file_pixel_bomb", 200, "image/png"),
        ("file_empty", 200, "image/png"),
        ("file_gone=410", 410, "text/plain; charset=utf-8"),
        ("file_5xx", 503, "application/json"),
        ("file_429", 429, "application/json"),
    ],
)
async def test_a_file_may_have_another_type(
    api: httpx2.AsyncClient, create: Any, fault: str, status: int, content_type: str
) -> None:
    """Only its bytes show its type."""
    made = (await create(f"[[emu:{fault}]]", version="a/b", prefer="wait")).json()

    response = await api.get(made["output"][0])

    assert (response.status_code, response.headers["content-type"]) == (status, content_type)


@pytest.mark.parametrize(
    ("fault", "target"),
    [
        ("file_redirect_loop", None),
        ("file_redirect_to", "http://169.254.169.254/latest/"),
        ("file_redirect_to=http://127.0.0.1:1/", "http://127.0.0.1:1/"),
        ("file_redirect_to=file:///etc/passwd", "file:///etc/passwd"),
    ],
)
async def test_a_file_may_be_a_redirect(
    api: httpx2.AsyncClient, create: Any, fault: str, target: str | None
) -> None:
    """In a loop, or to a forbidden address."""
    made = (await create(f"[[emu:{fault}]]", version="a/b", prefer="wait")).json()

    response = await api.get(made["output"][0])

    assert response.status_code == 302
    assert response.headers["location"] == (target or made["output"][0])


async def test_a_chain_of_redirects_ends_at_the_file(api: httpx2.AsyncClient, create: Any) -> None:
    """The length of the chain is configurable."""
    made = (await create("[[emu:file_redirect=3]]", version="a/b", prefer="wait")).json()

    response = await api.get(made["output"][0], follow_redirects=True)

    assert len(response.history) == 3
    assert response.content == render(f"{made['id']}/0", "png")


async def test_ranges_are_honoured(api: httpx2.AsyncClient, create: Any) -> None:
    """With an ETag, like the real file host."""
    made = (await create(version="a/b", prefer="wait")).json()

    whole = await api.get(made["output"][0])
    part = await api.get(made["output"][0], headers={"range": "bytes=10-19"})
    none = await api.get(made["output"][0], headers={"range": "bytes=999999-"})

    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["etag"] == whole.headers["etag"]
    assert none.status_code == 416


@pytest.mark.parametrize("fault", ["file_range_ignored", "file_etag_changes"])
async def test_ranges_may_be_wrong(api: httpx2.AsyncClient, create: Any, fault: str) -> None:
    """Resuming clients must check the response."""
    made = (await create(f"[[emu:{fault}]]", version="a/b", prefer="wait")).json()
    whole = await api.get(made["output"][0])

    part = await api.get(
        made["output"][0], headers={"range": "bytes=10-19", "if-range": whole.headers["etag"]}
    )

    assert (part.status_code, part.content) == (200, whole.content)


async def test_one_output_may_be_missing(create: Any) -> None:
    """Four were requested and paid for."""
    made = await create("[[emu:images=4]][[emu:missing_output]]", version="a/b", prefer="wait")

    assert len(made.json()["output"]) == 3


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "gif"])
def test_images_are_valid(extension: str) -> None:
    """The bytes depend on the name only."""
    picture = Image.open(io.BytesIO(render("p/0", extension)))

    assert Image.MIME[str(picture.format)] == CONTENT_TYPES[extension]
    assert picture.size == (64, 64)
    assert render("p/0", extension) != render("p/1", extension)


@pytest.mark.parametrize(
    ("extension", "start"),
    [("wav", b"RIFF"), ("mp4", b"\x00\x00\x00\x18ftypisom"), ("txt", b"p/0")],
)
def test_other_files_have_valid_signatures(extension: str, start: bytes) -> None:
    """Enough for type detection."""
    assert render("p/0", extension).startswith(start)
