"""Webhooks of single jobs over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx2
import pytest

from fleek.domain.job import JobId
from fleek.engine.runtime import Runtime
from fleek.outbound.addresses import Policy
from fleek.outbound.client import Client
from fleek.settings import Settings
from fleek.store import jobs

ClientOf = Callable[[Runtime], httpx2.AsyncClient]

HOOK = "https://example.com/hook?token=t"


async def test_a_job_hides_its_webhook_url(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """The address may contain a token."""
    body = {"prompt": "A cat", "webhook_url": HOOK, "webhook_events": ["job.failed"]}

    answer = await client.post("/api/v1/generate", json=body)

    job = answer.json()
    assert answer.status_code == 201
    assert "token" not in answer.text
    stored = await jobs.get_any_tenant(rt.db, JobId(UUID(job["id"])))
    assert stored.webhook is not None
    assert (stored.webhook.url, stored.webhook.events) == (HOOK, ("job.failed",))


async def test_an_unusable_webhook_is_refused(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """At once, and not in a log that is rarely read; the address is not repeated."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"webhook_url": "http://example.com/"}, "/webhook_url"),
        ({"webhook_url": "https://127.0.0.1/"}, "/webhook_url"),
        ({"webhook_url": "https://169.254.169.254/"}, "/webhook_url"),
        ({"webhook_url": "https://localhost/"}, "/webhook_url"),
        ({"webhook_url": "https://user:pw@example.com/"}, "/webhook_url"),
        ({"webhook_url": "https://example.com:22/"}, "/webhook_url"),
        ({"webhook_url": HOOK, "webhook_events": ["job.done"]}, "/webhook_events/0"),
        ({"webhook_url": HOOK, "webhook_events": []}, "/webhook_events"),
        ({"webhook_events": ["job.failed"]}, ""),
    ]
    for fields, pointer in cases:
        with subtests.test(fields=str(fields)[:40], pointer=str(pointer)[:40]):
            answer = await client.post("/api/v1/generate", json={"prompt": "A cat", **fields})

            problem = answer.json()
            assert answer.status_code == 422
            assert problem["errors"][0]["pointer"] == pointer
            assert "example.com" not in answer.text


async def test_the_service_does_not_call_itself(rt: Runtime, client_of: ClientOf) -> None:
    """A webhook that creates a job would loop for ever."""
    policy = Policy(networks=(ip_network("127.0.0.0/8"),), plain=True)
    async with client_of(replace(rt, webhooks=Client(policy))) as client:
        url = f"{rt.settings.public_base}/generate"

        answer = await client.post(
            "/api/v1/generate", json={"prompt": "A cat", "webhook_url": url}
        )

    assert answer.json()["code"] == "unsafe_url"


async def test_the_secret_is_created_once(client: httpx2.AsyncClient) -> None:
    """Receivers are configured with it."""
    first = await client.get("/api/v1/webhooks/secret")
    second = await client.get("/api/v1/webhooks/secret")

    assert first.status_code == 200
    assert first.json()["secret"].startswith("whsec_")
    assert first.json() == second.json()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssrf_allow_cidrs", "10.0.0.0/99"),
        ("master_key", "c2hvcnQ="),
        ("master_key", "not base64 at all"),
        ("webhook_allow_http", "true"),
    ],
)
def test_an_invalid_setting_prevents_the_start(name: str, value: str) -> None:
    """Otherwise webhooks would never arrive."""
    with pytest.raises(ValueError, match=name.upper() if name == "webhook_allow_http" else "must"):
        Settings(**{name: value})  # type: ignore[arg-type]  # as in the environment
