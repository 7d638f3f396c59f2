"""fal's official Python client, unmodified, with the facade: a process and an environment of its own."""

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import Callable, Generator
from typing import Any, Final

import httpx2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from facade_site import KEY, Site
from fakes import PNG
from fleek.domain.job import Job, Status
from fleek.store import listing
from receivers import Received

PRO: Final = "black-forest-labs/flux-1.1-pro"

RunProgram = Callable[..., dict[str, Any]]
Check = Callable[[str], dict[str, Any]]


@pytest.fixture
def check(run_program: RunProgram, site: Site) -> Check:
    """Return a function that runs a program with the client, and returns what it has found."""

    def check(what: str) -> dict[str, Any]:
        host = site.base.removeprefix("https://")
        return run_program(
            *("fal", "fal_checks.py", what, PNG.hex(), site.hook.url),
            FAL_RUN_HOST=f"{host}/fal",
            FAL_QUEUE_RUN_HOST=f"{host}/fal-queue",
            FAL_KEY=f"any-id:{KEY}",
        )

    return check


@pytest.fixture
def plain(site: Site) -> Generator[httpx2.Client]:
    """Open an HTTP client with the key."""
    with httpx2.Client(
        base_url=site.base,
        verify=ssl.create_default_context(cafile=site.ca),
        headers={"Authorization": f"Key {KEY}"},
        timeout=60,
    ) as plain:
        yield plain


def test_the_client_works(site: Site, check: Check) -> None:
    """Run, subscribe, submit, status, result, cancel, fail, refuse, stream, files, webhooks."""
    received = len(site.hook.received)
    results = check("all")
    request_id = results.pop("webhook")

    assert results == {
        "run": [2, "https:", "fal run"],
        "subscribe": ["Completed", 1],
        "lifecycle": ["Completed", "Completed", True, True],
        "cancelled": ["request_cancelled", 400, "Request was cancelled"],
        "failed": [422, True, True],
        "refused": {"argument": 422, "prompt": 422, "application": 404},
        "stream": [1],
        "uploaded": 1,
        "uploaded_files": [
            1,
            3,
        ],  # the same bytes are kept once, unless their address was reserved
        "at_once": 3,
    }
    assert site.purchases("fal at once") == 3
    known = {job.prompt: job for job in site.jobs()}
    assert known["fal run"].input == {"num_outputs": 2}
    for number in range(4):
        assert str(known[f"fal upload {number}"].input["image_prompt"]).startswith("upload:")
    assert known["fal lifecycle"].priority < known["fal run"].priority
    assert known["[[emu:predict=60]] fal cancel"].status is Status.CANCELLED
    site.call(site.hook.wait_for(received + 1))
    hook = site.hook.received[-1]
    assert (hook.event["request_id"], hook.event["status"]) == (request_id, "OK")
    assert hook.event["payload"]["images"][0]["url"].startswith("https://")


def test_webhooks_are_verified_with_the_published_key(site: Site, plain: httpx2.Client) -> None:
    """As fal's documents say: Ed25519 over id, user, time and the hash of the body."""
    received = len(site.hook.received)
    params = {"fal_webhook": site.hook.url}
    made = plain.post(f"/fal-queue/{PRO}", params=params, json={"prompt": "[[emu:nsfw]] hook"})
    site.call(site.hook.wait_for(received + 1))
    hook = site.hook.received[received]
    keys = plain.get("/fal/.well-known/jwks.json").json()["keys"]

    _verify(hook, keys[0]["x"])
    with pytest.raises(InvalidSignature):
        _verify(Received(hook.headers, hook.body + b" "), keys[0]["x"])
    assert hook.event["request_id"] == made.json()["request_id"]
    assert hook.event["status"] == "ERROR"
    assert hook.event["payload"]["detail"][0]["type"] == "content_policy_violation"


def _verify(hook: Received, x: str) -> None:
    parts = [
        hook.headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")
    ]
    content = "\n".join([*parts, hashlib.sha256(hook.body).hexdigest()])
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(f"{x}="))
    key.verify(bytes.fromhex(hook.headers["x-fal-webhook-signature"]), content.encode())


def test_the_clients_repetitions_pay_once(site: Site, check: Check) -> None:
    """It sends a request up to ten times if the answers are lost: in the queue, and of a direct call."""
    line = site.line

    async def accepted() -> None:
        while not any(job.prompt == "fal run lost" for job in await _jobs(site)):
            await asyncio.sleep(0.01)

    async def at_once() -> None:  # one of the queue is answered too soon to be lost any later
        if line.lost == 1:
            line.where, line.lose, line.losing = "POST /fal/", 1, accepted

    line.losing, line.lose = at_once, 2

    results = check("lost")

    assert results == {"lost": [1, 1]}
    assert site.line.lost == 3
    assert [site.purchases(prompt) for prompt in ("fal lost", "fal run lost")] == [1, 1]


async def _jobs(site: Site) -> list[Job]:
    page = await listing.page(site.rt.db, tenant_id="default", limit=100)
    return [view.job for view in page.views]


def test_statuses_and_errors_have_fals_form(plain: httpx2.Client) -> None:
    """Whatever is asked for below the prefixes."""
    made = plain.post(
        f"/fal-queue/{PRO}",
        json={"prompt": "[[emu:predict=60]] form", "sync_mode": True},
        headers={"X-Fal-Request-Timeout": "30"},
    )
    urls = made.json()

    early = plain.get(urls["response_url"])
    status = plain.get(urls["status_url"], params={"logs": 1})
    cancelled = plain.put(urls["cancel_url"])
    again = plain.put(urls["cancel_url"])
    stream = plain.get(f"{urls['status_url']}/stream")
    missing = plain.get(f"/fal-queue/{PRO}/requests/0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41/status")
    nothing = plain.get("/fal/nothing")
    stranger = plain.post(f"/fal/{PRO}", json={}, headers={"Authorization": "Key x"})
    malformed = plain.post(f"/fal/{PRO}", json={"prompt": "x", "seed": "seven"})

    assert made.headers["x-fleek-ignored"] == "sync_mode, X-Fal-Request-Timeout"
    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
    assert (status.status_code, status.json()["status"]) in [
        (202, "IN_QUEUE"),
        (202, "IN_PROGRESS"),
    ]
    assert (cancelled.status_code, cancelled.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert json.loads(stream.text.removeprefix("data: "))["status"] == "COMPLETED"
    assert [missing.status_code, nothing.status_code, stranger.status_code] == [404, 405, 401]
    assert all(isinstance(each.json()["detail"], str) for each in (missing, nothing, stranger))
    assert malformed.json()["detail"][0]["loc"] == ["body", "seed"]


def test_the_proxy_leads_to_no_other_host(plain: httpx2.Client) -> None:
    """Nor to itself. Its targets are addresses of fal, which are handled here; each asks for the key."""
    target = {"x-fal-target-url": f"https://queue.fal.run/{PRO}"}
    body = {"prompt": "fal proxy"}
    made = plain.post("/fal/proxy", json=body, headers=target)
    status = plain.get(
        "/fal/proxy",
        headers={
            "x-fal-target-url": f"https://queue.fal.run/{PRO}/requests/"
            f"{made.json()['request_id']}/status?logs=1"
        },
    )
    refused = [
        plain.post("/fal/proxy", json=body, headers={"x-fal-target-url": address}).status_code
        for address in (
            "https://example.com/x",
            "http://fal.run/x",
            "https://fal.run.evil.com/x",
            "https://fal.run/proxy",
            "https://rest.fal.ai/proxy/",
            "",
        )
    ]
    stranger = plain.post("/fal/proxy", json=body, headers={**target, "Authorization": "Key x"})

    assert (made.status_code, status.json()["request_id"]) == (200, made.json()["request_id"])
    assert refused == [422] * 6
    assert stranger.status_code == 401
