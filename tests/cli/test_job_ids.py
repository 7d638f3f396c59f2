"""Jobs by parts of their ids and by ``@last``; what a shell completes."""

from collections.abc import Callable
from typing import Any

import pytest
import typer.main

from fleek.cli.root import app

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
OTHER = "0198f000-0000-7000-8000-0000000abcde"
LIST = "GET /api/v1/jobs"


@pytest.fixture
def two(service: Any, a_job: Maker) -> Any:
    """Return a server with two jobs, the newest first."""
    service.answers(LIST, [a_job(id=OTHER), a_job()])
    service.answers(f"GET /api/v1/jobs/{OTHER}", a_job(id=OTHER, prompt="the newest"))
    service.answers(f"GET /api/v1/jobs/{JOB}", a_job())
    return service


@pytest.mark.parametrize("text", ["@last", "abcde", "ABCDE", OTHER, OTHER.replace("-", "")])
def test_a_job_is_found_by_a_part_of_its_id(two: Any, fleek: Any, text: str) -> None:
    """Or as the newest one."""
    ended = fleek("status", text)

    assert ended.code == 0
    assert "the newest" in ended.out
    assert two.requests[-1].line == f"GET /api/v1/jobs/{OTHER}"


@pytest.mark.parametrize(
    ("text", "code", "complaint"),
    [("0198f", 2, OTHER), ("ffff", 4, "ffff"), ("abc", 2, "4 characters"), ("now", 2, "@last")],
)
@pytest.mark.usefixtures("two")
def test_a_part_that_is_not_unique_is_refused(
    fleek: Any, text: str, code: int, complaint: str
) -> None:
    """The ids are named, so that one can be chosen."""
    ended = fleek("cancel", text)

    assert ended.code == code
    assert complaint in ended.err


def test_without_jobs_there_is_no_last_one(service: Any, fleek: Any) -> None:
    """It is said, not guessed."""
    service.answers(LIST, [])

    ended = fleek("watch", "@last")

    assert ended.code == 4
    assert "no jobs" in ended.err


def completed(monkeypatch: pytest.MonkeyPatch, capsys: Any, words: str) -> list[str]:
    """Return what bash completes after these words."""
    monkeypatch.setenv("_FLEEK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        typer.main.get_command(app).main(args=[], prog_name="fleek")
    return [str(line) for line in capsys.readouterr().out.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("fleek status ", ["@last", OTHER, JOB]),
        ("fleek watch 0198f000-0000-7000-8000-0000000a", [OTHER]),
        ("fleek generate -m flee", ["fleek/art"]),
        ("fleek generate -m fleek/art -p format=", ["format=png", "format=webp"]),
        ("fleek generate -m fleek/art -p w", ["width="]),
    ],
)
def test_a_shell_completes_what_the_server_knows(
    two: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: str, values: list[str]
) -> None:
    """Ids, models, and the parameters of the chosen model with their choices."""
    model = {"name": "fleek/art", "provider": "placeholder", "description": "", "output": "image"}
    choices = {"format": {"enum": ["png", "webp"]}, "width": {"type": "integer"}}
    model |= {"default": True, "parameters": {"properties": choices}}  # type: ignore[dict-item] # a model
    two.answers("GET /api/v1/models", [model])
    two.answers("GET /api/v1/models/fleek/art", model)

    assert completed(monkeypatch, capsys, words) == values


def test_a_silent_server_completes_nothing(
    service: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A shell shows no error."""
    service.answers(LIST, {"detail": "no"}, status=500)

    assert completed(monkeypatch, capsys, "fleek status 0") == []
