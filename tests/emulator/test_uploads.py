"""Uploaded files: the requests of official clients, and reading them back."""

import base64
import hmac
from hashlib import sha256

import httpx2
import pytest

from fleek.emulator.server import Emulator

CONTENT = b"\x00\r\n--not the boundary\r\n\xff"


async def test_a_file_is_stored_unchanged(api: httpx2.AsyncClient) -> None:
    """Every byte, line ends included; metadata may be a field or a part."""
    files = {
        "content": ("cat.png", CONTENT, "image/png"),
        "metadata": ("blob", b'{"a": 1}', "application/json"),
    }
    made = (await api.post("/v1/files", files=files)).json()

    content = await api.get(f"{made['urls']['get']}/download")

    assert (made["name"], made["content_type"]) == ("cat.png", "image/png")
    assert made["metadata"] == {"a": 1}
    assert made["checksums"]["sha256"] == sha256(CONTENT).hexdigest()
    assert content.content == CONTENT


async def test_files_are_listed_and_deleted(api: httpx2.AsyncClient) -> None:
    """Deleted files are not found."""
    made = (await api.post("/v1/files", files={"content": ("a", b"a")})).json()

    listed = (await api.get("/v1/files")).json()["results"]
    deleted = await api.delete(f"/v1/files/{made['id']}")

    assert [row["id"] for row in listed] == [made["id"]]
    assert deleted.status_code == 204
    assert (await api.get(made["urls"]["get"])).status_code == 404
    assert (await api.delete(f"/v1/files/{made['id']}")).status_code == 404
    assert (await api.get(f"/v1/files/{made['id']}/download")).status_code == 404


async def test_a_signed_address_needs_no_token(
    emulator: Emulator, api: httpx2.AsyncClient
) -> None:
    """It works until it expires."""
    made = (await api.post("/v1/files", files={"content": ("a", b"a")})).json()
    expiry = str(int(emulator.account.now()) + 60)
    content = f"me {made['id']} {expiry}".encode()
    digest = hmac.digest(emulator.account.secret.encode(), content, sha256)
    query = {"owner": "me", "expiry": expiry, "signature": base64.b64encode(digest).decode()}
    url = f"{made['urls']['get']}/download"

    async with httpx2.AsyncClient(timeout=60) as stranger:
        fresh = await stranger.get(url, params=query)
        forged = await stranger.get(url, params=query | {"owner": "you"})
        emulator.account.clock.advance(61)
        late = await stranger.get(url, params=query)

    assert [fresh.status_code, forged.status_code, late.status_code] == [200, 403, 403]


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"other": ("a", b"a")}},
        {"content": b"plain"},
        {"files": {"content": ("a", b"a")}, "data": {"metadata": "{"}},
    ],
    ids=["no content", "no form", "bad metadata"],
)
async def test_an_invalid_form_is_422(api: httpx2.AsyncClient, form: dict[str, object]) -> None:
    """Nothing is stored."""
    response = await api.request("POST", "/v1/files", **form)  # type: ignore[arg-type]  # a table

    assert response.status_code == 422
    assert (await api.get("/v1/files")).json()["results"] == []
