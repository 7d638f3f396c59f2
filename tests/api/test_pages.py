"""Pages: all that they load is ours, and is what it was when it was taken in."""

import hashlib
import json
import re
from pathlib import Path

import httpx2
import pytest

import fleek
from fleek.api import pages

WEB = Path(fleek.__file__).parent / "web"
VENDORED = json.loads((WEB / "vendor" / "vendor.json").read_text())


@pytest.mark.parametrize("package", VENDORED, ids=lambda package: package["name"])
def test_vendored_files_are_untouched(package: dict[str, object]) -> None:
    """What others wrote is kept as they released it, with its licence."""
    folder = WEB / "vendor" / f"{package['name']}-{package['version']}"

    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    assert found == package["files"]
    assert "LICENSE.txt" in found


def test_nothing_vendored_is_unlisted() -> None:
    """A file without an entry could be anything."""
    listed = {f"{package['name']}-{package['version']}" for package in VENDORED}

    assert {path.name for path in (WEB / "vendor").iterdir()} == listed | {"vendor.json"}


@pytest.mark.parametrize(("page", "title"), [("/", "Fleek"), ("/docs", "API"), ("/redoc", "API")])
async def test_a_page_loads_only_from_here(
    client: httpx2.AsyncClient, page: str, title: str
) -> None:
    """Each file that it names is there, and its policy forbids all others."""
    answer = await client.get(page, headers={"Accept": "text/html"})

    names = re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text)
    files = [name for name in names if name.startswith("static/")]
    found = [await client.get(f"/{name}") for name in files]
    policy = answer.headers["content-security-policy"]
    assert title in answer.text
    assert not [name for name in names if "//" in name]
    assert {one.status_code for one in found} == {200}
    assert policy.startswith("default-src 'self';")
    assert "script-src" not in policy
    assert "<script>" not in answer.text


async def test_vendored_files_are_kept_for_ever(client: httpx2.AsyncClient) -> None:
    """Their address changes with their version; ours does not."""
    theirs = await client.get("/static/vendor/redoc-2.5.4/redoc.standalone.js")
    ours = await client.get("/static/style.css")

    assert theirs.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert theirs.headers["content-type"].startswith("text/javascript")
    assert ours.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    ["../api/errors.py", "..%2fapi%2ferrors.py", "vendor", "", "index.html", "%00", "/etc/passwd"],
)
async def test_only_listed_files_are_served(client: httpx2.AsyncClient, name: str) -> None:
    """No address is ever made into a path."""
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
    """It has 100 KB: whoever asks for it all day costs hardly anything, or nothing with its tag."""
    first = await client.get("/openapi.json")
    monkeypatch.setattr(pages, "describe", lambda _: pytest.fail("made again"))

    second = await client.get("/openapi.json")
    unchanged = await client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})

    assert second.content == first.content
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    "part", ["bytes=5-1", "bytes=99999999-", "bytes=" + "9" * 5000 + "-", "x"]
)
@pytest.mark.parametrize("page", ["/", "/docs", "/redoc", "/static/index.js"])
async def test_a_page_is_always_sent_whole(
    client: httpx2.AsyncClient, page: str, part: str
) -> None:
    """A part that is none would be an error in the framework's words, and no problem document."""
    answer = await client.get(page, headers={"Accept": "text/html", "Range": part})

    assert answer.status_code == 200
    assert answer.headers["accept-ranges"] == "none"
