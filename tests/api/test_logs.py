"""The log of requests: one line each, without secrets."""

from dataclasses import replace
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from fakes import a_request
from fleek.app import create_app
from fleek.engine.runtime import Runtime
from fleek.engine.submit import submit


async def logged(rt: Runtime, method: str, path: str, **more: Any) -> list[dict[str, Any]]:
    """Return the log lines of one request."""
    transport = httpx2.ASGITransport(create_app(rt))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        with capture_logs() as lines:
            await http.request(method, path, **more)
    return [dict(line) for line in lines if line["event"] == "request_handled"]


async def test_a_request_is_one_line(rt: Runtime) -> None:
    """With the fields that operators search by: route, status, job, duration."""
    job = await submit(rt, a_request())

    (line,) = await logged(rt, "GET", f"/api/v1/jobs/{job.id}?x=1")

    assert line.pop("seconds") >= 0
    assert line == {
        "event": "request_handled",
        "log_level": "info",
        "method": "GET",
        "route": "/api/v1/jobs/{job_id}",
        "status": 422,
        "client": "127.0.0.1",
        "job_id": str(job.id),
    }


async def test_the_caller_s_address_comes_from_the_last_proxy(
    rt: Runtime, subtests: pytest.Subtests
) -> None:
    """Earlier entries of the header are ignored, and invalid addresses are not logged."""
    for forwarded, client in [
        (["203.0.113.7"], "203.0.113.7"),
        (["1.2.3.4, 203.0.113.7"], "203.0.113.7"),
        (["1.2.3.4", "203.0.113.7 , 10.0.0.9"], "203.0.113.7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["10.0.0.9"], "10.0.0.9"),
        (["unknown, 10.0.0.9"], "10.0.0.9"),
        (["1.2.3.4, evil=1 level=error"], "127.0.0.1"),
        (["fe80::1%\t1"], "127.0.0.1"),
        ([","], "127.0.0.1"),
        (["1.2.3.4" + ",10.0.0.1" * 3000], "10.0.0.1"),
        ([], "127.0.0.1"),
    ]:
        with subtests.test(forwarded=str(forwarded)[:40], client=str(client)[:40]):
            settings = rt.settings.model_copy(
                update={"forwarded_allow_ips": ("127.0.0.1", "10.0.0.0/8")}
            )
            headers = [("X-Forwarded-For", value) for value in forwarded]

            (line,) = await logged(replace(rt, settings=settings), "GET", "/info", headers=headers)

            assert line["client"] == client


async def test_a_forwarded_address_of_an_untrusted_caller_is_ignored(rt: Runtime) -> None:
    """It could blame other addresses."""
    settings = rt.settings.model_copy(update={"forwarded_allow_ips": ("10.0.0.0/8",)})
    headers = [("X-Forwarded-For", "203.0.113.7")]

    (line,) = await logged(replace(rt, settings=settings), "GET", "/info", headers=headers)

    assert line["client"] == "127.0.0.1"


async def test_tokens_in_paths_are_not_logged(rt: Runtime) -> None:
    """A provider's callback is authenticated by one."""
    (line,) = await logged(
        rt, "POST", "/webhooks/replicate/secret-token?also=secret", content=b"{}"
    )

    assert line["route"] == "/webhooks/{provider}/{token}"
    assert "secret" not in str(line)


async def test_health_checks_do_not_fill_the_log(rt: Runtime) -> None:
    """They come every few seconds."""
    lines = await logged(rt, "GET", "/livez")

    assert [line for line in lines if line["log_level"] != "debug"] == []
