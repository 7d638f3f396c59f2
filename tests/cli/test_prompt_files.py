"""`generate --from`: resumed after any interruption, nothing is made twice."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

Maker = Callable[..., dict[str, Any]]
BYTES = b"\x89PNG"
SHA256 = hashlib.sha256(BYTES).hexdigest()
GENERATE = "POST /api/v1/generate"
COMMAND = ("generate", "--from", "prompts.txt", "-o", "out")


def job_id(number: int) -> str:
    """Return the id of a job."""
    return str(UUID(int=number))


@pytest.fixture
def making(service: Any, a_job: Maker, an_output: Maker, tmp_path: Path) -> Any:
    """Return a server that completes three jobs, and write a file of three prompts."""
    (tmp_path / "prompts.txt").write_text("one\n\n two \nthree\n")
    created = [a_job(id=job_id(number)) for number in (1, 2, 3)]
    service.answers(GENERATE, *created, status=201)
    for number in (1, 2, 3):
        done = a_job("completed", id=job_id(number), outputs=[an_output(0, SHA256)])
        service.answers(f"GET /api/v1/jobs/{job_id(number)}", done)
        service.answers(f"GET /api/v1/download/{job_id(number)}", BYTES, kind="image/png")
    return service


def created(service: Any) -> list[tuple[str, str]]:
    """Return the prompt and the idempotency key of each creation."""
    return [
        (json.loads(request.body)["prompt"], request.headers["idempotency-key"])
        for request in service.requests
        if request.line == GENERATE
    ]


def test_each_line_is_a_file_in_the_folder(making: Any, fleek: Any, tmp_path: Path) -> None:
    """Named by its number; a second run makes nothing."""
    first = fleek(*COMMAND)
    requests = len(making.requests)
    second = fleek(*COMMAND)

    assert (first.code, second.code) == (0, 0)
    names = [f"0000{number}.png" for number in (1, 2, 3)]
    assert sorted(first.out.splitlines()) == [f"out/{name}" for name in names]
    assert {(tmp_path / "out" / name).read_bytes() for name in names} == {BYTES}
    assert [prompt for prompt, _ in created(making)] == ["one", "two", "three"]
    assert (second.out, len(making.requests)) == ("", requests)


def test_a_lost_file_is_fetched_again(making: Any, fleek: Any, tmp_path: Path) -> None:
    """The job is there already."""
    fleek(*COMMAND)
    (tmp_path / "out/00002.png").unlink()
    making.requests.clear()

    ended = fleek(*COMMAND)

    assert (ended.code, ended.out) == (0, "out/00002.png\n")
    assert created(making) == []


def test_an_interrupted_submission_is_repeated_with_its_key(
    making: Any, fleek: Any, a_job: Maker, tmp_path: Path
) -> None:
    """The response was lost, so nobody knows whether there is a job: the key finds it."""
    one, two, three = (a_job(id=job_id(number)) for number in (1, 2, 3))
    making.script(
        GENERATE,
        (201, "application/json", one),
        (500, "application/problem+json", {"detail": "no"}),
        (201, "application/json", two),
        (201, "application/json", three),
    )

    first = fleek(*COMMAND)
    with (tmp_path / "out/.fleek-jobs.jsonl").open("a") as journal:
        journal.write('{"line": 2, "dig')  # the process ended while it wrote
    second = fleek(*COMMAND)
    third = fleek(*COMMAND)

    assert (first.code, second.code, third.code) == (6, 0, 0)
    assert "same command" in first.err
    assert [prompt for prompt, _ in created(making)] == ["one", "two", "two", "three"]
    assert len({key for _, key in created(making)}) == 3
    assert third.out == ""


def test_a_failed_line_is_retried_by_the_next_run(making: Any, fleek: Any, a_job: Maker) -> None:
    """As a retry, which is one job however often it is asked for."""
    failed = a_job("failed", id=job_id(3), error_code="x", error_message="no")
    making.answers(f"GET /api/v1/jobs/{job_id(3)}", failed)
    first = fleek(*COMMAND)
    retried = a_job(id=job_id(2))
    making.answers(f"POST /api/v1/jobs/{job_id(3)}/retry", retried, status=201)

    second = fleek(*COMMAND)

    assert (first.code, second.code) == (1, 0)
    assert second.out == "out/00003.png\n"


def test_another_request_is_made_anew(making: Any, fleek: Any) -> None:
    """The parameters belong to what a line is."""
    fleek(*COMMAND)
    making.requests.clear()

    fleek(*COMMAND, "-p", "seed=7")

    assert len(created(making)) == 3


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("a cat",), "either"),
        (("--from", "missing.txt"), "missing.txt"),
        (("--from", "empty.txt"), "1 to"),
        (("--from", "latin.txt"), "UTF-8"),
    ],
)
def test_an_unusable_file_is_refused(
    making: Any, fleek: Any, tmp_path: Path, args: tuple[str, ...], complaint: str
) -> None:
    """Before anything is sent."""
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    rest = ("--from", "prompts.txt") if args == ("a cat",) else ()

    ended = fleek("generate", *args, *rest)

    assert ended.code == 2
    assert complaint in ended.err
    assert making.requests == []
