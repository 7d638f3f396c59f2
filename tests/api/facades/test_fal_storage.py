"""Files for fal's clients: sent with a key, or to an address that was given before, which needs none."""

import http.client
import ssl
from collections.abc import Generator
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest

from facade_site import KEY, Site
from fakes import PNG
from fleek.domain.errors import NotFound
from fleek.domain.uploads import UploadId
from fleek.engine import media_links
from fleek.store import uploads

PRO: Final = "black-forest-labs/flux-1.1-pro"
INITIATE: Final = "/fal/storage/upload/initiate"
ANNOUNCED: Final = {"content_type": "image/png", "file_name": "cat.png"}


@pytest.fixture
def stranger(site: Site) -> Generator[httpx2.Client]:
    """Open an HTTP client without a key."""
    trusting = ssl.create_default_context(cafile=site.ca)
    with httpx2.Client(base_url=site.base, verify=trusting, timeout=60) as client:
        yield client


@pytest.fixture
def caller(site: Site) -> Generator[httpx2.Client]:
    """Open an HTTP client with a key."""
    trusting, headers = ssl.create_default_context(cafile=site.ca), {"Authorization": f"Key {KEY}"}
    with httpx2.Client(base_url=site.base, verify=trusting, timeout=60, headers=headers) as client:
        yield client


def given(caller: httpx2.Client) -> dict[str, str]:
    """Return the addresses of a file that is to be sent."""
    answer = caller.post(INITIATE, params={"storage_type": "fal-cdn-v3"}, json=ANNOUNCED)
    assert answer.status_code == 200, answer.text
    addresses: dict[str, str] = answer.json()
    return addresses


def id_of(file_url: str) -> str:
    """Return the id of an upload."""
    return file_url.rpartition("/")[2]


def run(caller: httpx2.Client, prompt: str, address: str) -> httpx2.Response:
    """Run a model with a file."""
    return caller.post(f"/fal/{PRO}", json={"prompt": prompt, "image_url": address})


def test_a_file_is_sent_without_a_key_and_is_an_argument(
    site: Site, caller: httpx2.Client, stranger: httpx2.Client
) -> None:
    """Under the address that was given before; the argument is refused until then."""
    addresses = given(caller)

    early = run(caller, "fal reserved early", addresses["file_url"])
    sent = stranger.put(addresses["upload_url"], content=PNG)
    made = run(caller, "fal reserved", addresses["file_url"])

    assert (early.status_code, early.json()["detail"][0]["loc"]) == (422, ["body", "image_prompt"])
    assert (sent.status_code, sent.json()) == (200, {"access_url": addresses["file_url"]})
    assert made.status_code == 200
    job = next(job for job in site.jobs() if job.prompt == "fal reserved")
    assert job.input["image_prompt"] == f"upload:{id_of(addresses['file_url'])}"


def test_an_address_takes_one_file(caller: httpx2.Client, stranger: httpx2.Client) -> None:
    """The same one again, as a client repeats it whose answer was lost; others have its bytes, too."""
    addresses, others = given(caller), given(caller)

    answers = [
        stranger.put(addresses["upload_url"], content=content)
        for content in (PNG, PNG, PNG + b"x", b"")
    ]
    copies = [
        stranger.put(others["upload_url"], content=PNG).json()["access_url"],
        caller.post("/fal/files/upload", content=PNG).json()["access_url"],
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 409, 422]
    assert len({addresses["file_url"], *copies}) == 3
    removed = caller.delete(f"/api/v1/uploads/{id_of(others['file_url'])}")
    kept = caller.get(f"/api/v1/uploads/{id_of(addresses['file_url'])}")
    assert (removed.status_code, kept.status_code) == (200, 200)


def test_signatures_hold_for_one_address_of_one_tenant_for_a_time(
    site: Site, caller: httpx2.Client, stranger: httpx2.Client
) -> None:
    """Whatever is changed, nothing is stored; a key in the header does not help either."""
    addresses = given(caller)
    url = addresses["upload_url"]
    name = url.rpartition("/")[2].partition("?")[0]
    past = site.call(_now(site)) - timedelta(hours=3)
    secret = site.rt.keys.media_secret
    another = id_of(given(caller)["file_url"])
    forged = {
        "expired": url.partition("?")[0] + media_links.query(secret, name, now=past),
        "other secret": url.partition("?")[0]
        + media_links.query(b"no such secret", name, now=past + timedelta(hours=3)),
        "without signature": url.partition("?")[0],
        "later": url.replace("exp=", "exp=9"),
        "other id": url.replace(id_of(addresses["file_url"]), another),
        "other key": url.replace("setting:tests.upload", "setting:other.upload"),
        "other tenant": url.replace("~default~", "~acme~"),
        "no upload": url.replace("~setting:tests.upload", ".png"),
        "a key in the address": f"{url}&token={KEY}",
    }

    statuses = {name: stranger.put(each, content=PNG).status_code for name, each in forged.items()}
    with_key = caller.put(forged["without signature"], content=PNG)

    assert statuses == {
        **dict.fromkeys(forged, 401),
        "a key in the address": statuses["a key in the address"],
    }
    assert statuses["a key in the address"] in {400, 422}
    assert with_key.status_code == 401
    assert caller.get(f"/api/v1/uploads/{another}").status_code == 404


async def _now(site: Site) -> Any:
    return site.rt.now()


def test_a_signature_opens_nothing_else(caller: httpx2.Client, stranger: httpx2.Client) -> None:
    """Neither files, nor streams, nor models that have its name."""
    url = given(caller)["upload_url"]
    name, _, query = url.rpartition("/")[2].partition("?")

    answers = [
        stranger.get(f"/media/{name}?{query}"),
        stranger.get(f"/replicate/v1/streams/{name}?{query}"),
        stranger.post(f"/replicate/v1/models/x/{name}/predictions?{query}", json={"input": {}}),
        stranger.post(f"/fal/storage/files/{name}?{query}", json={"prompt": "x"}),
        stranger.get(url),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 401, 401, 405]


def test_files_of_other_tenants_are_not_found(
    site: Site, caller: httpx2.Client, stranger: httpx2.Client
) -> None:
    """The tenant of an upload is that of the key which the address was given to."""
    addresses = given(caller)
    stranger.put(addresses["upload_url"], content=PNG)
    upload_id = UploadId(UUID(id_of(addresses["file_url"])))

    own = site.call(uploads.get(site.rt.db, upload_id, tenant_id="default"))
    with pytest.raises(NotFound):
        site.call(uploads.get(site.rt.db, upload_id, tenant_id="acme"))

    assert own.tenant_id == "default"


def test_files_that_are_too_large_are_refused_before_they_are_read(
    site: Site, caller: httpx2.Client
) -> None:
    """By their announced length; files in parts, which are larger, with what to do."""
    path = given(caller)["upload_url"].removeprefix(site.base)
    most = site.rt.settings.max_upload_bytes
    sending = http.client.HTTPConnection("127.0.0.1", site.line.upstream, timeout=60)
    sending.putrequest("PUT", path)
    sending.putheader("Content-Length", str(most + 1))
    sending.endheaders()
    answer = sending.getresponse()
    problem = answer.read().decode()
    sending.close()
    parts = [
        caller.post(
            f"{INITIATE}-multipart", params={"storage_type": "fal-cdn-v3"}, json=ANNOUNCED
        ),
        caller.post("/fal/files/upload/multipart"),
    ]

    assert (answer.status, "MAX_UPLOAD_BYTES" in problem) == (413, True)
    assert [each.status_code for each in parts] == [413, 413]
    assert all("/api/v1/uploads" in each.json()["detail"] for each in parts)


def test_announcements_are_checked(caller: httpx2.Client, stranger: httpx2.Client) -> None:
    """Addresses are given to callers with a key; how long fal would keep a file has no effect."""
    lifetime = {"X-Fal-Object-Lifecycle": '{"expiration_duration_seconds":3600}'}

    noted = caller.post(INITIATE, json=ANNOUNCED, headers=lifetime)
    refused = [
        caller.post(INITIATE, json=body).status_code
        for body in ({}, {**ANNOUNCED, "size": 1}, {**ANNOUNCED, "file_name": 7})
    ]

    assert noted.headers["x-fleek-ignored"] == "X-Fal-Object-Lifecycle"
    assert refused == [422] * 3
    assert stranger.post(INITIATE, json=ANNOUNCED).status_code == 401


def test_pythons_client_sends_a_file_with_its_key(caller: httpx2.Client) -> None:
    """To the address, and with the token, that it asks for first."""
    token = caller.post("/fal/storage/auth/token?storage_type=fal-cdn-v3", json={}).json()
    headers = {
        "Authorization": f"{token['token_type']} {token['token']}",
        "Content-Type": "image/png",
        "X-Fal-File-Name": "cat.png",
    }
    sent = caller.post(f"{token['base_url']}/files/upload", content=PNG, headers=headers)

    assert run(caller, "fal upload", sent.json()["access_url"]).status_code == 200
