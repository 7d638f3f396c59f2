"""The tools, called by the official client in this process, over HTTP against the service."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from pydantic import SecretStr

from fakes import PNG, FakeProvider
from fleek.client import AsyncClient
from fleek.engine.runtime import Runtime
from in_process_service import serving_on

if TYPE_CHECKING:
    from mcp import Client

UNKNOWN: Final = "0198f000-0000-7000-8000-00000000ffff"


@asynccontextmanager
async def agent(
    rt: Runtime, *, folders: list[Path] | None = None, key: str = ""
) -> AsyncGenerator["Client"]:
    """Open an official client on the tools, with a service on `rt` behind them."""
    from mcp import Client  # noqa: PLC0415 - heavy, and each process of a run collects this

    from fleek.mcp_server.tools import Tools, server_of  # noqa: PLC0415 - likewise

    async with serving_on(rt) as service:
        url = f"http://127.0.0.1:{service.port}"
        tools = Tools(lambda _: AsyncClient(url, api_key=key), folders=folders or [])
        server = server_of(tools, by_path=folders is not None)
        async with Client(server) as client:
            yield client


async def called(client: "Client", tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool and return its structured result."""
    result: Any = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    found: dict[str, Any] = result.structured_content
    return found


async def refused(client: "Client", tool: str, **arguments: Any) -> str:
    """Call a tool that refuses, and return what it says."""
    result: Any = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    text: str = result.content[0].text
    return text


async def test_a_job_is_submitted_watched_listed_and_cancelled(rt: Runtime) -> None:
    """Two calls are two jobs unless they have the same key; a wait that runs out returns the job."""
    async with agent(rt) as client:
        job = await called(client, "submit", prompt="A cat", idempotency_key="one")
        again = await called(client, "submit", prompt="A cat", idempotency_key="one")
        other = await called(client, "submit", prompt="A cat")
        status = await called(client, "status", job_id=job["id"])
        waited = await called(client, "wait", job_id=job["id"], seconds=0)
        listed = await called(client, "list", status="pending", words="cat")
        cancelled = await called(client, "cancel", job_id=job["id"])

    assert again["id"] == status["id"] == waited["id"] == job["id"]
    assert (waited["status"], waited["ended"]) == ("pending", False)
    assert [one["id"] for one in listed["jobs"]] == [other["id"], job["id"]]
    assert (cancelled["status"], cancelled["ended"]) == ("cancelled", True)


async def test_models_are_listed_and_one_has_its_parameters(rt: Runtime) -> None:
    """The list stays short: it is read by a language model."""
    async with agent(rt) as client:
        listed = await called(client, "models")
        name = listed["models"][0]["name"]
        one = await called(client, "models", name=name)

    assert {model["parameters"] is None for model in listed["models"]} == {True}
    assert [model["name"] for model in one["models"]] == [name]


async def test_a_file_is_uploaded_by_content_or_by_a_path_in_the_folder(
    rt: Runtime, tmp_path: Path
) -> None:
    """Files outside of the folder stay where they are, whatever a prompt asks for."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "cat.png").write_bytes(PNG)
    (tmp_path / "secret").write_bytes(PNG)
    (folder / "link").symlink_to(tmp_path / "secret")
    content = base64.b64encode(PNG).decode()
    async with agent(rt, folders=[folder]) as client:
        by_path = await called(client, "upload", path=str(folder / "cat.png"))
        by_content = await called(client, "upload", content=content)
        outside = await refused(client, "upload", path=str(folder / "../secret"))
        linked = await refused(client, "upload", path=str(folder / "link"))
        neither = await refused(client, "upload")

    assert by_path["reference"] == by_content["reference"]
    assert by_path["content_type"] == "image/png"
    assert "outside of the folders" in outside
    assert "outside of the folders" in linked
    assert "either path or content" in neither


async def test_over_http_a_path_is_no_argument(rt: Runtime) -> None:
    """The path would be one of the server's own files."""
    async with agent(rt) as client:
        (upload,) = [tool for tool in (await client.list_tools()).tools if tool.name == "upload"]
        wrong = await refused(client, "upload", content="?")

    assert set(upload.input_schema["properties"]) == {"content"}
    assert "not base64" in wrong


REFUSED: Final[list[tuple[str, dict[str, Any], list[str]]]] = [
    ("submit", {"prompt": " "}, ["/prompt: must contain"]),
    ("submit", {"prompt": "A cat", "provider": "none"}, ["provider"]),
    ("status", {"job_id": UNKNOWN}, ["not_found"]),
    ("status", {"job_id": "x"}, ["job_id"]),
    ("wait", {"job_id": UNKNOWN}, ["not_found"]),
    ("wait", {"job_id": UNKNOWN, "seconds": 601}, ["seconds"]),
    ("list", {"limit": 101}, ["limit"]),
    ("cancel", {"job_id": UNKNOWN}, ["not_found"]),
    ("models", {"name": "no name"}, ["owner/name"]),
]


async def test_errors_say_what_is_wrong(rt: Runtime, subtests: pytest.Subtests) -> None:
    """A language model can correct itself with the code and the field."""
    async with agent(rt) as client:
        for tool, arguments, words in REFUSED:
            with subtests.test(tool=tool, arguments=arguments):
                said = await refused(client, tool, **arguments)

                assert [word for word in words if word not in said] == [], said


async def test_a_key_that_is_refused_is_an_error_of_the_tool(rt: Runtime) -> None:
    """No job is made, and nothing breaks."""
    settings = rt.settings.model_copy(update={"api_keys": SecretStr(f"tests:{'k' * 32}")})
    async with agent(replace(rt, settings=settings), key="another") as client:
        said = await refused(client, "submit", prompt="A cat")

    assert "unauthorized" in said


async def test_a_model_that_needs_no_prompt_is_given_none(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Another one is refused, and the language model reads which field is missing."""
    form = {"type": "object", "properties": {"image": {"type": "string"}}}
    async with agent(rt) as client:
        provider.parameters = {**form, "x-prompt": "none"}
        job = await called(client, "submit", parameters={"image": "https://example.com/a.png"})
        provider.parameters = dict(form)
        told = await refused(client, "submit")

    assert (job["prompt"], job["status"]) == ("", "pending")
    assert "prompt" in told
