"""`fleek mcp` as a process, called by the official client on both transports."""

import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from backing_services import free_port
from service_process import PATIENCE, SMALL, Service, delay, running

KEY: Final = "k" * 32

pytestmark = pytest.mark.usefixtures("_full_suite")


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    """Run a service that asks for a key."""
    with running(tmp_path, API_KEYS=f"tests:{KEY}", **delay("0.05")) as service:
        service.serve()
        yield service


def on_stdio(service: Service, key: str = KEY) -> Client:
    """Return an official client that starts `fleek mcp` itself."""
    env = {"FLEEK_URL": str(service.http.base_url), "FLEEK_API_KEY": key}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "fleek", "mcp"], env=env, cwd=service.folder
    )
    return Client(command)


@asynccontextmanager
async def on_http(port: int, key: str = KEY) -> AsyncGenerator[Client]:
    """Open an official client of a `fleek mcp --http` that runs already."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
        async with Client(transport) as client:
            yield client


async def called(client: Client, tool: str, **arguments: Any) -> Any:
    """Call a tool and return its structured result."""
    result: Any = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def test_stdio_makes_a_picture_and_reports_progress(service: Service) -> None:
    """The key is that of the process."""
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - the protocol's
        seen.append(progress)

    async with on_stdio(service) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        job = await called(client, "submit", prompt="A cat", parameters=SMALL)
        arguments = {"job_id": job["id"]}
        await client.call_tool("wait", arguments, progress_callback=note)
        done = await called(client, "wait", **arguments)

    assert tools == {"submit", "status", "wait", "list", "cancel", "models", "upload"}
    assert done["status"] == "completed"
    assert (
        httpx2.get(done["files"][0]["url"], timeout=PATIENCE).headers["content-type"]
        == "image/png"
    )
    assert seen == sorted(set(seen))
    assert seen[-1] == 1.0


async def test_jobs_outlive_the_tools_and_the_service(service: Service) -> None:
    """Both processes are killed; the job is found, goes on, and was paid for once."""
    port = free_port()
    command = ("mcp", "--http", "--port", str(port), "--url", str(service.http.base_url))
    tools = service.start(*command)
    tools.await_line("is ready")
    async with on_http(port) as client:
        job = await called(client, "submit", prompt="A cat", parameters=SMALL)

    for process in service.processes:
        process.kill()
    service.serve()
    service.start(*command).await_line("is ready")
    async with on_http(port) as client:
        done = await called(client, "wait", job_id=job["id"])

    assert done["status"] == "completed"
    assert service.rows("SELECT count(*) FROM attempts WHERE verdict = 'succeeded'") == [(1,)]


async def test_over_http_each_caller_uses_its_own_key(service: Service) -> None:
    """The key of the process is never lent to a caller without one; web pages are refused."""
    port = free_port()
    command = ("mcp", "--http", "--port", str(port), "--url", str(service.http.base_url))
    tools = service.start(*command, FLEEK_API_KEY=KEY)
    tools.await_line("is ready")

    async with on_http(port, key="x") as client:
        result: Any = await client.call_tool("submit", {"prompt": "A cat"})
    page = httpx2.post(
        f"http://127.0.0.1:{port}/mcp",
        json={},
        headers={"origin": "https://evil.example"},
        timeout=PATIENCE,
    )

    assert result.is_error
    assert "unauthorized" in result.content[0].text
    assert page.status_code == 403
    assert service.rows("SELECT count(*) FROM jobs") == [(0,)]
    assert tools.stop() == 0
