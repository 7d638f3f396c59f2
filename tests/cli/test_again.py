"""Commands that begin with a job that is there."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
OTHER = "0198f000-0000-7000-8000-000000000002"
BYTES = b"\x89PNG"
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def first(service: Any, a_job: Maker, an_output: Maker) -> Any:
    """Return a server with a job, which makes another one."""
    given = {"width": 64, "seed": 7}
    service.answers(f"GET /api/v1/jobs/{JOB}", a_job("completed", parameters=given, tags=["sea"]))
    done = a_job("completed", id=OTHER, outputs=[an_output(0, SHA256)])
    service.answers("POST /api/v1/generate", a_job(id=OTHER), status=201)
    service.answers(f"GET /api/v1/jobs/{OTHER}", done)
    service.answers(f"GET /api/v1/download/{OTHER}", BYTES, kind="image/png")
    return service


def sent(service: Any) -> Any:
    """Return the request that created a job."""
    return next(
        json.loads(request.body)
        for request in service.requests
        if request.line == "POST /api/v1/generate"
    )


def test_a_job_is_made_again_with_changes(first: Any, fleek: Any) -> None:
    """What the options do not name is as it was."""
    ended = fleek("again", JOB, "-p", "seed=8", "--prompt", "a dog", "-o", "dog.png")

    assert (ended.code, ended.out) == (0, "dog.png\n")
    assert sent(first) == {
        "prompt": "a dog",
        "model_name": "fleek/art",
        "provider": "placeholder",
        "parameters": {"width": 64, "seed": 8},
        "tags": ["sea"],
        "priority": 5,
    }


def test_the_request_counts_and_not_where_it_ended(first: Any, fleek: Any, a_job: Maker) -> None:
    """A job that went on at another model is asked for as it was."""
    route: dict[str, Any] = {
        "provider": "openai",
        "model_name": "gpt",
        "requested": ["flux-schnell", "gpt"],
    }
    route |= {"requested_parameters": {"width": 64}, "alternatives": [], "tried": []}
    moved = a_job("completed", parameters={"size": "64x64"}, route=route)
    first.answers(f"GET /api/v1/jobs/{JOB}", moved)

    fleek("again", JOB, "--priority", "9")
    asked = sent(first)
    first.requests.clear()
    fleek("again", JOB, "-m", "acme/draw")

    assert (asked["models"], asked["parameters"]) == (["flux-schnell", "gpt"], {"width": 64})
    assert (asked["priority"], asked.get("provider")) == (9, None)
    assert sent(first)["model_name"] == "acme/draw"
    assert "models" not in sent(first)


def test_the_page_of_a_job_is_opened(
    service: Any, fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the browser, or with --print on stdout."""
    opened: list[str] = []

    def opens(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", opens)

    ended = fleek("open", JOB)
    printed = fleek("open", JOB, "--print")

    assert opened == [f"{service.url}/#/jobs/{JOB}"]
    assert (ended.code, ended.out) == (0, "")
    assert (printed.code, printed.out) == (0, f"{service.url}/#/jobs/{JOB}\n")


def test_without_a_browser_the_address_is_written(
    fleek: Any, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server."""
    monkeypatch.setattr("webbrowser.open", lambda _: False)

    ended = fleek("open", JOB)

    assert (ended.code, ended.out) == (1, f"{service.url}/#/jobs/{JOB}\n")
