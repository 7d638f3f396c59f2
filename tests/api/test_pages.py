"""Pages: all resources come from the service and are unchanged since they were vendored."""

import asyncio
import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

import fleek
from fleek.api import pages
from fleek.domain.errors import ResourcesExhausted

WEB = Path(fleek.__file__).parent / "web"
VENDORED = json.loads((WEB / "vendor" / "vendor.json").read_text())


@pytest.mark.parametrize("package", VENDORED, ids=lambda package: package["name"])
def test_vendored_files_are_unchanged(package: dict[str, object]) -> None:
    """They are stored as they were released, with their licence."""
    folder = WEB / "vendor" / f"{package['name']}-{package['version']}"

    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    assert found == package["files"]
    assert "LICENSE.txt" in found


def test_every_vendored_file_is_listed() -> None:
    """A file without an entry could be anything."""
    listed = {f"{package['name']}-{package['version']}" for package in VENDORED}

    assert {path.name for path in (WEB / "vendor").iterdir()} == listed | {"vendor.json"}


@pytest.mark.parametrize(("page", "title"), [("/", "Fleek"), ("/docs", "API"), ("/redoc", "API")])
async def test_a_page_loads_local_resources_only(
    client: httpx2.AsyncClient, page: str, title: str
) -> None:
    """Each of its files exists, and its policy forbids all others."""
    answer = await client.get(page, headers={"Accept": "text/html"})

    names = re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text)
    files = [name for name in names if name.startswith("static/")]
    found = [await client.get(f"/{name}") for name in files]
    policy = answer.headers["content-security-policy"]
    code = [one.split(" ", 1)[1] for one in policy.split("; ") if one.startswith("script-src")]
    assert title in answer.text
    assert not [name for name in names if "//" in name]
    assert {one.status_code for one in found} == {200}
    assert policy.startswith(("default-src 'self';", "default-src 'none';"))
    assert code in ([], ["'self'"])
    assert "<script>" not in answer.text


async def test_vendored_files_are_cached_for_ever(client: httpx2.AsyncClient) -> None:
    """Their address changes with their version; other files are revalidated."""
    theirs = await client.get("/static/vendor/redoc-2.5.4/redoc.standalone.js")
    ours = await client.get("/static/style/tokens.css")

    assert theirs.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert theirs.headers["content-type"].startswith("text/javascript")
    assert ours.headers["cache-control"] == "no-cache"


async def test_files_of_the_page_are_compressed_and_sent_once(client: httpx2.AsyncClient) -> None:
    """The page has some forty modules: a reload sends none of them again."""
    plain = await client.get("/static/app.js", headers={"Accept-Encoding": "identity"})
    small = await client.get("/static/app.js", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    refused = await client.get("/static/app.js", headers={"Accept-Encoding": "gzip; q=0"})
    known = {"If-None-Match": plain.headers["etag"]}
    unchanged = await client.get("/static/app.js", headers=known)

    sizes = [int(one.headers["content-length"]) for one in (plain, small, refused)]
    assert [one.headers.get("content-encoding") for one in (plain, small, refused)] == [
        None,
        "gzip",
        None,
    ]
    assert plain.content == small.content == refused.content
    assert sizes[1] < sizes[0] / 2
    assert sizes[2] == sizes[0]
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert {one.headers["vary"] for one in (plain, small, unchanged)} == {"Accept-Encoding"}


async def test_only_listed_files_are_served(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """No request path is ever used as a file path."""
    for name in [
        "../api/errors.py",
        "..%2fapi%2ferrors.py",
        "vendor",
        "",
        "index.html",
        "%00",
        "/etc/passwd",
    ]:
        with subtests.test(name=str(name)[:40]):
            answer = await client.get(f"/static/{name}")

            assert answer.status_code == 404


async def test_the_description_is_served(client: httpx2.AsyncClient) -> None:
    """Both pages read it."""
    first = await client.get("/openapi.json")
    second = await client.get("/openapi.json")

    assert first.json()["openapi"].startswith("3.1")
    assert first.json() == second.json()


async def test_the_description_is_serialized_once(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has 100 KB: frequent requests cost hardly anything, and nothing with its tag."""
    first = await client.get("/openapi.json")
    monkeypatch.setattr(pages, "describe", lambda _: pytest.fail("made again"))

    second = await client.get("/openapi.json")
    unchanged = await client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})

    assert second.content == first.content
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]


async def test_others_are_answered_while_the_description_is_made(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a third of a second, and needs no key: nobody may hold up a service with it."""
    begun, go_on = threading.Event(), threading.Event()
    made = pages.describe

    def slowly(app: FastAPI) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(60)
        return made(app)

    monkeypatch.setattr(pages, "describe", slowly)
    asked = [asyncio.create_task(client.get("/openapi.json")) for _ in range(3)]
    assert await asyncio.to_thread(begun.wait, 60)

    other = await client.get("/livez")
    asked[0].cancel()
    go_on.set()

    assert other.status_code == 200
    first, second = await asyncio.gather(*asked[1:])
    assert first.content == second.content
    with pytest.raises(asyncio.CancelledError):
        await asked[0]


def without_memory(_app: FastAPI) -> dict[str, Any]:
    """Fail as a process does that has none left."""
    raise ResourcesExhausted("this process has no memory left")


async def test_a_description_that_could_not_be_made_is_tried_again(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else there would be none until the process ends."""
    with monkeypatch.context() as short:
        short.setattr(pages, "describe", without_memory)
        refused = await client.get("/openapi.json")

    answer = await client.get("/openapi.json")

    assert (refused.status_code, answer.status_code) == (503, 200)


async def test_a_range_of_a_page_is_ignored(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """The framework's own error for an invalid range is no problem document."""
    for page in ["/", "/docs", "/redoc", "/static/app.js"]:
        for part in ["bytes=5-1", "bytes=99999999-", "bytes=" + "9" * 5000 + "-", "x"]:
            with subtests.test(page=str(page)[:40], part=str(part)[:40]):
                answer = await client.get(page, headers={"Accept": "text/html", "Range": part})

                assert answer.status_code == 200
                assert answer.headers["accept-ranges"] == "none"
