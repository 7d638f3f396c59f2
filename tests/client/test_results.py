"""Results: outputs that are saved, read or opened; and the options of a new job."""

import asyncio
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fleek import AsyncClient, Client, InvalidInput, JobFailed, NotFound, ResponseLost
from fleek.client import RetryPolicy

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
BYTES = b"\x89PNG"
DIGEST = hashlib.sha256(BYTES).hexdigest()
UPLOAD = "0198f000-0000-7000-8000-000000000002"
QUICK = RetryPolicy(backoff_seconds=0.001, poll_seconds=0.001, max_poll_seconds=0.002)


def png(content: bytes = BYTES) -> httpx2.Response:
    """Return a downloaded file."""
    return httpx2.Response(200, content=content, headers={"content-type": "image/png"})


def uploaded() -> httpx2.Response:
    """Return the answer to an upload."""
    names = ("width", "height", "duration_seconds")
    upload: dict[str, Any] = {"id": UPLOAD, "reference": f"upload:{UPLOAD}", "url": "http://x/"}
    upload |= {"content_type": "image/png", "size_bytes": 4, "sha256": DIGEST}
    times = {"created_at": "2026-01-02T03:04:05Z", "expires_at": "2026-01-03T03:04:05Z"}
    return httpx2.Response(201, json={**upload, **dict.fromkeys(names), **times})


@pytest.fixture
def done(a_job: Maker, an_output: Maker) -> dict[str, Any]:
    """Return a completed job with two outputs."""
    outputs = [an_output(DIGEST), an_output(DIGEST, index=1)]
    return a_job("completed", completed_at="2026-01-02T03:04:07Z", outputs=outputs)


@pytest.fixture
def plain(server: Any) -> Client:
    """Return a synchronous client."""
    return Client("http://fleek.test", transport=httpx2.MockTransport(server), retry_policy=QUICK)


def test_generate_waits_and_returns_the_outputs(
    plain: Client, server: Any, a_job: Maker, done: Any, tmp_path: Path
) -> None:
    """Each is saved under its own name, read, or opened as a file."""
    answers = [httpx2.Response(201, json=a_job()), httpx2.Response(200, json=a_job("processing"))]
    server.script = [*answers, httpx2.Response(200, json=done), *(png() for _ in range(5))]

    result = plain.generate("a cat", tags=("sea",), priority=9)

    assert (str(result.id), result.job.status) == (JOB, "completed")
    assert json.loads(server.requests[0].content) == {
        "prompt": "a cat",
        "tags": ["sea"],
        "priority": 9,
    }
    in_folder, as_file = result.save(tmp_path), result.save(tmp_path / "cat.png")
    assert [path.name for path in in_folder] == [f"{JOB}.png", f"{JOB}-1.png"]
    assert [path.name for path in as_file] == ["cat.png", "cat-1.png"]
    assert {path.read_bytes() for path in (*in_folder, *as_file)} == {BYTES}
    with result.output.open() as file:
        assert (file.seek(1), file.read()) == (1, BYTES[1:])


async def test_the_asynchronous_client_does_the_same(
    server: Any, a_job: Maker, done: Any, tmp_path: Path
) -> None:
    """Everything that waits is awaited."""
    answers = [httpx2.Response(201, json=a_job()), httpx2.Response(200, json=done)]
    server.script = [*answers, *(png() for _ in range(4))]
    transport = httpx2.MockTransport(server)

    async with AsyncClient("http://fleek.test", transport=transport) as client:
        result = await client.generate("a cat")
        paths = await result.save(tmp_path)
        content = await result.output.read()
        with await result.outputs[1].open() as file:
            opened = await asyncio.to_thread(file.read)

    assert [path.name for path in paths] == [f"{JOB}.png", f"{JOB}-1.png"]
    assert content == opened == BYTES


def test_run_has_the_form_of_replicate_s_client(
    plain: Client, server: Any, a_job: Maker, done: Any
) -> None:
    """The prompt is one of the inputs; whether the model needs one is for the service to say."""
    server.script = [httpx2.Response(201, json=a_job()), httpx2.Response(200, json=done)] * 2

    result = plain.run("fleek/art", input={"prompt": "a cat", "width": 64})

    assert result.output.content_type == "image/png"
    assert json.loads(server.requests[0].content) == {
        "prompt": "a cat",
        "model_name": "fleek/art",
        "parameters": {"width": 64},
    }
    plain.run("fleek/art", input={"width": 64})
    assert json.loads(server.requests[2].content)["prompt"] == ""
    with pytest.raises(InvalidInput, match="prompt"):
        plain.run("fleek/art", input={"prompt": 7})


def test_files_among_the_parameters_are_uploaded(
    client: Client, server: Any, a_job: Maker, tmp_path: Path
) -> None:
    """As paths, bytes and open files, also in lists."""
    path = tmp_path / "cat.png"
    path.write_bytes(BYTES)
    server.script = [uploaded(), uploaded(), uploaded(), httpx2.Response(201, json=a_job())]
    parameters = {"image": path, "others": [BYTES, io.BytesIO(BYTES)], "width": 64}

    client.submit("a cat", parameters=parameters)

    *uploads, created = server.requests
    assert {request.content for request in uploads} == {BYTES}
    reference = f"upload:{UPLOAD}"
    assert json.loads(created.content)["parameters"] == {
        "image": reference,
        "others": [reference, reference],
        "width": 64,
    }


def test_an_unknown_option_is_refused(client: Client, server: Any) -> None:
    """As an unknown argument; nothing is sent."""
    with pytest.raises(TypeError, match="width"):
        client.submit("a cat", width=64)  # type: ignore[call-arg] # is a parameter of the model

    assert server.requests == []


def test_a_damaged_output_is_not_returned(plain: Client, server: Any, done: Any) -> None:
    """It is fetched again first."""
    server.script = [httpx2.Response(200, json=done), png(b"cut"), png()]
    result = plain.result(JOB)

    assert result.output.read() == BYTES
    server.script = [png(b"cut")] * 3
    with pytest.raises(ResponseLost):
        result.output.read()


def test_a_failed_job_has_no_result(client: Client, server: Any, a_job: Maker) -> None:
    """The error has the job."""
    failed = a_job("failed", error_code="nsfw", error_message="refused")
    server.script = [httpx2.Response(201, json=a_job()), httpx2.Response(200, json=failed)]

    with pytest.raises(JobFailed, match="refused") as caught:
        client.generate("a cat")

    assert str(caught.value.job.id) == JOB


def test_a_result_may_have_no_outputs(plain: Client, server: Any, a_job: Maker) -> None:
    """Such as those of a purged job."""
    server.script = [httpx2.Response(200, json=a_job("completed"))]

    result = plain.result(JOB)

    assert repr(result) == f"<Result {JOB} of fleek/art: no outputs>"
    with pytest.raises(NotFound):
        _ = result.output
