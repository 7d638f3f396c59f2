"""Users' commands: what they send, write and return, against a server with a script."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from fleek import Client
from fleek.cli.generate import texts

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
OTHER = "0198f000-0000-7000-8000-000000000002"
BYTES = b"\x89PNG"
SHA256 = hashlib.sha256(BYTES).hexdigest()
GENERATE = "POST /api/v1/generate"
STATUS = f"GET /api/v1/jobs/{JOB}"
PROBLEM = "application/problem+json"
DOWNLOAD = f"GET /api/v1/download/{JOB}"


@pytest.fixture
def making(service: Any, a_job: Maker, an_output: Maker) -> Any:
    """Return a service that accepts a job and completes it with one picture."""
    done = a_job("completed", outputs=[an_output(0, SHA256)], result_url="http://x/media/1.png")
    service.answers(GENERATE, a_job(), status=201)
    service.answers(STATUS, a_job("processing"), done)
    service.answers(DOWNLOAD, BYTES, kind="image/png")
    return service


def test_generate_makes_a_file(making: Any, fleek: Any, tmp_path: Path) -> None:
    """The path is data; how it went is not."""
    ended = fleek("generate", "a cat", "-o", "cat.png")

    assert ended.code == 0
    assert ended.out == "cat.png\n"
    assert ended.err == f"{JOB} processing\n{JOB} completed after 2.5 s\n"
    assert (tmp_path / "cat.png").read_bytes() == BYTES
    assert json.loads(making.requests[0].body) == {"prompt": "a cat"}


@pytest.mark.usefixtures("making")
def test_generate_names_the_file_by_the_job(fleek: Any, tmp_path: Path) -> None:
    """Without -o the file goes here, under a name that no other job has."""
    ended = fleek("generate", "a cat")

    assert ended.out == f"{JOB}.png\n"
    assert (tmp_path / f"{JOB}.png").exists()


@pytest.mark.usefixtures("making")
def test_generate_makes_the_folder(fleek: Any, tmp_path: Path) -> None:
    """A path that ends in a slash is a folder."""
    ended = fleek("generate", "a cat", "-o", "new/deep/")

    assert ended.out == f"new/deep/{JOB}.png\n"
    assert (tmp_path / "new/deep" / f"{JOB}.png").exists()


def test_generate_numbers_several_outputs(
    making: Any, fleek: Any, a_job: Maker, an_output: Maker, tmp_path: Path
) -> None:
    """One name is not enough for two files."""
    outputs = [an_output(0, SHA256), an_output(1, SHA256)]
    making.answers(STATUS, a_job("completed", outputs=outputs))

    ended = fleek("generate", "a cat", "-o", "cat.png")

    assert ended.out == "cat.png\ncat-1.png\n"
    assert (tmp_path / "cat-1.png").exists()


def test_generate_sends_what_is_asked(making: Any, fleek: Any) -> None:
    """Values of -p are JSON where they can be, else text; -p wins over --parameters."""
    fleek(
        *("generate", "a cat", "-m", "acme/draw", "-p", "width=64", "-p", "scheduler=DDIM"),
        *("--parameters", '{"width": 1, "seed": 7}', "--metadata", '{"a": 1}', "--priority", "9"),
        *("--run-at", "2026-12-24T18:00:00Z", "--deadline", "60", "--max-attempts", "2"),
        *("--provider", "placeholder"),
    )

    assert json.loads(making.requests[0].body) == {
        "prompt": "a cat",
        "model_name": "acme/draw",
        "parameters": {"width": 64, "seed": 7, "scheduler": "DDIM"},
        "metadata": {"a": 1},
        "priority": 9,
        "run_at": "2026-12-24T18:00:00+00:00",
        "deadline_seconds": 60,
        "max_attempts": 2,
        "provider": "placeholder",
    }


def test_a_time_without_a_zone_is_the_users(making: Any, fleek: Any) -> None:
    """Who types 18:00 means the clock on the wall."""
    fleek("submit", "a cat", "--run-at", "2026-12-24T18:00")

    assert json.loads(making.requests[0].body)["run_at"].startswith("2026-12-24T18:00:00")


def test_a_time_may_be_counted_from_now(making: Any, fleek: Any) -> None:
    """Nobody works out what two hours from now is."""
    before = datetime.now(UTC)
    fleek("submit", "a cat", "--run-at", "2h")

    run_at = datetime.fromisoformat(json.loads(making.requests[0].body)["run_at"])
    assert before <= run_at - timedelta(hours=2) <= datetime.now(UTC)


def test_prompts_come_from_stdin_too() -> None:
    """One for each line that says something, in the place of the dash."""
    assert texts(["-", "three"], ["one\n", "\n", "  two \n"]) == ["one", "two", "three"]


def test_no_prompt_on_stdin() -> None:
    """An empty pipe is a mistake, not nothing to do."""
    with pytest.raises(typer.BadParameter, match="no prompt"):
        texts(["-"], ["\n"])


def test_submit_writes_json(making: Any, fleek: Any) -> None:
    """One line for each job."""
    ended = fleek("submit", "a cat", "a dog", "--json", "--quiet")

    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == [JOB, JOB]
    assert len(making.requests) == 2


@pytest.mark.usefixtures("making")
def test_generate_writes_json(fleek: Any) -> None:
    """One line for each job, with the files."""
    ended = fleek("generate", "a cat", "--json", "--quiet")

    job = json.loads(ended.out)
    assert job["files"] == [f"{JOB}.png"]
    assert job["status"] == "completed"
    assert ended.err == ""


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("quiet", [(), ("--quiet",)], ids=["loud", "quiet"])
def test_a_job_that_does_not_complete_is_exit_1(
    making: Any, fleek: Any, a_job: Maker, status: str, quiet: tuple[str, ...]
) -> None:
    """An error is told even if it shall be quiet."""
    making.answers(STATUS, a_job(status, error_code="x", error_message="no paint"))

    ended = fleek("generate", "a cat", *quiet)

    assert ended.code == 1
    assert ended.out == ""
    assert f"{status} after 2.5 s: no paint" in ended.err


def test_several_jobs_are_seen_through_although_one_fails(
    making: Any, fleek: Any, a_job: Maker, an_output: Maker
) -> None:
    """The good files are there; the exit code says that not all are."""
    done = a_job("completed", id=OTHER, outputs=[an_output(0, SHA256)])
    making.answers(GENERATE, a_job(), a_job(id=OTHER), status=201)
    making.answers(STATUS, a_job("failed", error_code="x", error_message="no"))
    making.answers(f"GET /api/v1/jobs/{OTHER}", done)
    making.answers(f"GET /api/v1/download/{OTHER}", BYTES)

    ended = fleek("generate", "one", "two", "-o", "out")

    assert ended.code == 1
    assert ended.out == f"out/{OTHER}.png\n"


def test_a_file_that_cannot_be_fetched_is_said(making: Any, fleek: Any) -> None:
    """The job is done and paid for; only the file is missing, and can be had again."""
    making.answers(DOWNLOAD, {"detail": "purged", "code": "gone"}, status=410, kind=PROBLEM)

    ended = fleek("generate", "a cat")

    assert ended.code == 4
    assert ended.out == ""
    assert "purged" in ended.err


def test_a_timeout_is_exit_5_and_the_job_goes_on(making: Any, fleek: Any, a_job: Maker) -> None:
    """Who stops waiting must be told how to come back."""
    making.answers(STATUS, a_job("processing"))

    ended = fleek("generate", "a cat", "--timeout", "0.01")

    assert ended.code == 5
    assert f"fleek watch {JOB}" in ended.err
    assert f"fleek cancel {JOB}" in ended.err


@pytest.mark.usefixtures("making")
def test_ctrl_c_is_exit_130_and_the_job_goes_on(
    fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending the command does not end the job, which is not what people expect."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "status", interrupted)

    ended = fleek("generate", "a cat")

    assert ended.code == 130
    assert ended.err.startswith("Interrupted.\nThis job continues:\n")
    assert f"fleek watch {JOB}" in ended.err


def test_when_a_later_prompt_is_refused_the_earlier_job_is_named(
    making: Any, fleek: Any, a_job: Maker
) -> None:
    """It was accepted and goes on."""
    making.answers(GENERATE, a_job(), b"<html>", status=201)

    ended = fleek("generate", "one", "two", "-o", "out")

    assert ended.code == 6
    assert f"fleek watch {JOB}" in ended.err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("-p", "width"), "KEY=VALUE"),
        (("--parameters", "[1]"), "JSON object"),
        (("--parameters", "{"), "JSON object"),
        (("--run-at", "soon"), "2026-12-24"),
        (("--run-at", "2w"), "2h"),
        (("--run-at", "999999d"), "2h"),
        (("-o", "missing/cat.png"), "missing"),
        (("-o", "a-file/"), "a-file"),
    ],
)
def test_a_wrong_option_is_exit_2_before_anything_is_sent(
    making: Any, fleek: Any, tmp_path: Path, args: tuple[str, str], complaint: str
) -> None:
    """A job whose file cannot be kept should not be made."""
    (tmp_path / "a-file").touch()

    ended = fleek("generate", "a cat", *args)

    assert ended.code == 2
    assert complaint in ended.err
    assert making.requests == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 3), (403, 3), (404, 4), (409, 1), (410, 4), (422, 2), (413, 2), (500, 6)],
)
def test_a_refusal_has_its_exit_code(service: Any, fleek: Any, status: int, code: int) -> None:
    """Scripts tell refusals apart by the code alone."""
    problem = {"title": "No", "detail": "no, thanks", "code": "why"}
    service.answers(f"POST /api/v1/jobs/{JOB}/retry", problem, status=status, kind=PROBLEM)

    ended = fleek("retry", JOB)

    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("fleek: no, thanks")


def test_each_field_is_named(service: Any, fleek: Any) -> None:
    """A refusal that names the field can be acted on."""
    fault = {"pointer": "/parameters/width", "code": "maximum", "detail": "at most 4096"}
    problem = {"detail": "The request is not valid.", "code": "x", "errors": [fault]}
    service.answers(GENERATE, problem, status=422, kind=PROBLEM)

    ended = fleek("submit", "a cat")

    assert ended.code == 2
    assert "  /parameters/width: at most 4096\n" in ended.err


def test_no_server_is_exit_6(service: Any, fleek: Any) -> None:
    """Nothing listens on port 1."""
    ended = fleek("list", "--url", "http://127.0.0.1:1")

    assert ended.code == 6
    assert "cannot be reached" in ended.err
    assert "fleek serve" in ended.err
    assert service.requests == []


def test_something_else_at_the_address_is_exit_6(service: Any, fleek: Any) -> None:
    """A web server at a wrong port answers everything with HTML."""
    service.answers("GET /api/v1/jobs", b"<h1>hi</h1>", kind="text/html")

    ended = fleek("list")

    assert ended.code == 6
    assert "text/html" in ended.err


@pytest.mark.parametrize(
    "option", [("--url", "localhost:8000"), ("--api-key", "a b")], ids=["url", "key"]
)
def test_a_wrong_setting_is_exit_2(fleek: Any, option: tuple[str, str]) -> None:
    """One line, which names it."""
    ended = fleek("list", *option)

    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "FLEEK_" in ended.err


def test_the_key_is_sent(service: Any, fleek: Any, a_job: Maker) -> None:
    """From the option, or from FLEEK_API_KEY."""
    service.answers(STATUS, a_job())

    fleek("status", JOB, "--api-key", "secret")

    assert service.requests[0].headers["authorization"] == "Bearer secret"


def test_status_shows_a_job(service: Any, fleek: Any, a_job: Maker, an_output: Maker) -> None:
    """Everything that a person wants to know, a line each."""
    job = a_job(
        "completed",
        parameters={"width": 64},
        retry_count=1,
        progress=1.0,
        outputs=[an_output(0, SHA256) | {"duration_seconds": 2.0}],
    )
    service.answers(STATUS, job)

    ended = fleek("status", JOB)

    assert ended.code == 0
    assert ended.out.splitlines() == [
        f"id          {JOB}",
        "status      completed",
        "prompt      a cat",
        "model       fleek/art (placeholder)",
        'parameters  {"width": 64}',
        "progress    100%",
        "created     2026-01-02 03:04:05 UTC",
        "took        2.5 s",
        "retries     1 of 3",
        "file        http://x/media/1.png (image/png, 2.0 s, 64x32, 4 bytes)",
    ]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"queue_position": 3}, "status      pending, 3 before it"),
        ({"retry_count": 1}, "status      pending, attempt 2 of 4"),
        ({}, "runs at     2026-01-02 03:04:05 UTC"),
    ],
)
def test_status_says_why_a_job_waits(
    service: Any, fleek: Any, a_job: Maker, changes: dict[str, Any], shown: str
) -> None:
    """Pending has several reasons."""
    service.answers(STATUS, a_job(**changes))

    ended = fleek("status", JOB)

    assert shown in ended.out.splitlines()


def test_a_terminal_obeys_nothing_that_a_server_says(
    service: Any, fleek: Any, a_job: Maker
) -> None:
    """Escape sequences can rewrite what stands on the screen, or type for the user."""
    evil = "a\x1b]0;owned\x07\x9b31m\u202ecat\nstatus      completed"
    service.answers(STATUS, a_job("failed", prompt=evil, error_code=evil, error_message=evil))

    plain, as_json = fleek("status", JOB), fleek("status", JOB, "--json")
    watched = fleek("watch", JOB)

    for text in (plain.out, as_json.out, watched.out, watched.err):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert plain.out.splitlines()[1] == "status      failed"
    assert json.loads(as_json.out)["prompt"] == evil


def test_list_writes_fields_to_a_pipe(service: Any, fleek: Any, a_job: Maker) -> None:
    """One line for each job, fields between tabs, nothing else."""
    service.answers("GET /api/v1/jobs", [a_job(), a_job("failed", prompt="a\tdog")])

    ended = fleek("list", "--status", "failed", "--limit", "2")

    assert ended.code == 0
    assert ended.out.splitlines() == [
        f"{JOB}\tpending\t2026-01-02T03:04:05+00:00\tfleek/art\ta cat",
        f"{JOB}\tfailed\t2026-01-02T03:04:05+00:00\tfleek/art\ta dog",
    ]
    assert service.requests[0].query == "limit=2&status_filter=failed"


def test_a_list_can_be_narrowed(fleek: Any, service: Any) -> None:
    """By whatever the service filters by."""
    service.answers("GET /api/v1/jobs", [])

    fleek("list", "--model", "a/b", "--tag", "sea", "--words", "red cat", "--oldest")

    assert service.requests[0].query == "limit=20&model=a%2Fb&tag=sea&q=red+cat&order=oldest"


def test_list_of_nothing_says_so_aside(service: Any, fleek: Any) -> None:
    """No data is no line on stdout."""
    service.answers("GET /api/v1/jobs", [])

    ended = fleek("list")

    assert ended.out == ""
    assert ended.err == "No jobs match.\n"


def test_list_writes_json(service: Any, fleek: Any, a_job: Maker) -> None:
    """One array."""
    service.answers("GET /api/v1/jobs", [a_job()])

    ended = fleek("list", "--json")

    assert [job["id"] for job in json.loads(ended.out)] == [JOB]


def test_watch_tells_the_end_of_each(service: Any, fleek: Any, a_job: Maker) -> None:
    """Id, status and address; twice the same id is one job."""
    service.answers(STATUS, a_job("completed", result_url="http://x/1.png"))

    ended = fleek("watch", JOB, JOB)

    assert ended.code == 0
    assert ended.out == f"{JOB}\tcompleted\thttp://x/1.png\n"


def test_watch_of_an_unknown_job_is_exit_4(service: Any, fleek: Any) -> None:
    """It does not go on, so nothing is said about that."""
    ended = fleek("watch", JOB)

    assert ended.code == 4
    assert "fleek watch" not in ended.err
    assert len(service.requests) == 1


def test_watch_bears_a_server_that_is_busy(service: Any, fleek: Any, a_job: Maker) -> None:
    """It says so once, and goes on."""
    service.answers(STATUS, {"detail": "busy"}, status=503, kind=PROBLEM)
    busy = service._answers[STATUS] * 4
    service.answers(STATUS, a_job("completed"))
    service._answers[STATUS][:0] = busy

    ended = fleek("watch", JOB)

    assert ended.code == 0
    assert ended.err.count("busy; retrying") == 1


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["plain", "json"])
def test_cancel_and_retry_write_the_job(
    service: Any, fleek: Any, a_job: Maker, as_json: tuple[str, ...]
) -> None:
    """`cancel` tells the state, `retry` the new id."""
    answer = {"message": "cancelled", "job": a_job("cancelled")}
    service.answers(f"POST /api/v1/jobs/{JOB}/cancel", answer)
    service.answers(f"POST /api/v1/jobs/{JOB}/retry", a_job(id=OTHER), status=201)

    cancelled, retried = fleek("cancel", JOB, *as_json), fleek("retry", JOB, *as_json)

    assert (cancelled.code, retried.code) == (0, 0)
    assert JOB in cancelled.out
    assert "cancelled" in cancelled.out
    assert OTHER in retried.out


def test_collect_writes_how_each_job_stands(service: Any, fleek: Any, a_job: Maker) -> None:
    """And `status` says what a result waits for."""
    why = {"code": "storage_full", "reason": "no room", "next_at": "2026-01-02T03:04:05Z"}
    service.answers(f"POST /api/v1/jobs/{JOB}/collect", a_job("processing"))
    service.answers(STATUS, a_job("processing", retrying=why))

    collected, shown = fleek("collect", JOB), fleek("status", JOB)

    assert (collected.code, collected.out) == (0, f"{JOB}\tprocessing\n")
    lines = shown.out.splitlines()
    assert "status      processing, its result waits to be stored" in lines
    assert "waits for   no room (storage_full); next try 2026-01-02 03:04:05 UTC" in lines


def test_download_takes_all_outputs(
    service: Any, fleek: Any, a_job: Maker, an_output: Maker
) -> None:
    """Or the one that is asked for."""
    outputs = [an_output(0, SHA256), an_output(1, SHA256)]
    service.answers(STATUS, a_job("completed", outputs=outputs))
    service.answers(DOWNLOAD, BYTES)

    both, one = fleek("download", JOB), fleek("download", JOB, "--index", "1", "-o", "x.png")

    assert both.out == f"{JOB}.png\n{JOB}-1.png\n"
    assert one.out == "x.png\n"


def test_download_of_a_job_that_goes_on_is_exit_4(service: Any, fleek: Any, a_job: Maker) -> None:
    """There is no file yet."""
    service.answers(STATUS, a_job("processing"))

    ended = fleek("download", JOB)

    assert ended.code == 4
    assert "processing" in ended.err


MODEL = {
    "name": "fleek/art",
    "provider": "placeholder",
    "description": "art",
    "output": "image",
    "default": True,
    "parameters": {
        "properties": {
            "width": {"type": "integer", "minimum": 16, "maximum": 4096, "default": 1024},
            "format": {"enum": ["png", "webp"], "description": "the file's format"},
            "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "size": {"type": ["string", "integer"], "maxLength": 9},
            "odd": True,
        }
    },
}


def test_models_are_listed(service: Any, fleek: Any) -> None:
    """Which is the default, and what each makes."""
    service.answers("GET /api/v1/models", [MODEL])

    plain, as_json = fleek("models"), fleek("models", "--json")

    assert plain.out == "fleek/art\timage\tdefault\tplaceholder\tart\n"
    assert json.loads(as_json.out) == [MODEL]


def test_a_models_parameters_are_shown(service: Any, fleek: Any) -> None:
    """In words, without JSON schema."""
    service.answers("GET /api/v1/models/fleek/art", MODEL)

    plain, as_json = fleek("models", "fleek/art"), fleek("models", "fleek/art", "--json")

    assert plain.out.splitlines() == [
        "fleek/art (placeholder): art",
        "width\tinteger from 16 to 4096\t1024\t",
        "format\tpng | webp\t\tthe file's format",
        "seed\tinteger or null\t\t",
        "size\tstring or integer of at most 9 characters\t\t",
    ]
    assert json.loads(as_json.out) == MODEL


@pytest.mark.parametrize("parameters", [None, {}, {"properties": 7}])
def test_a_model_without_known_parameters(service: Any, fleek: Any, parameters: Any) -> None:
    """Some providers do not tell."""
    service.answers("GET /api/v1/models/fleek/art", MODEL | {"parameters": parameters})

    ended = fleek("models", "fleek/art")

    assert ended.code == 0
    assert ended.out == "fleek/art (placeholder): art\n"


def test_files_are_uploaded(service: Any, fleek: Any, an_upload: Any, tmp_path: Path) -> None:
    """What names each as a parameter is data."""
    (tmp_path / "cat.png").write_bytes(BYTES)
    service.answers("POST /api/v1/uploads", an_upload, status=201)

    plain = fleek("upload", "cat.png")
    as_json = fleek("upload", "cat.png", "--json")
    missing = fleek("upload", "dog.png")

    assert (plain.code, plain.out) == (0, f"upload:{OTHER}\n")
    assert json.loads(as_json.out) == an_upload
    assert service.requests[0].body == BYTES
    assert (missing.code, "dog.png" in missing.err) == (2, True)


@pytest.mark.parametrize("words", [["submit", "a cat"], ["generate", "a cat"]])
def test_an_input_is_uploaded_first(
    making: Any, fleek: Any, an_upload: Any, tmp_path: Path, words: list[str]
) -> None:
    """A file is named by its upload; a reference stands as it is."""
    (tmp_path / "cat.png").write_bytes(BYTES)
    making.answers("POST /api/v1/uploads", an_upload, status=201)

    ended = fleek(*words, "-i", "image=@cat.png", "-i", "mask=upload:1", "-p", "strength=0.5")

    assert ended.code == 0
    assert json.loads(making.requests[1].body)["parameters"] == {
        "strength": 0.5,
        "image": f"upload:{OTHER}",
        "mask": "upload:1",
    }


@pytest.mark.parametrize("given", ["image", "=@cat.png", "image=", "image=@", "image=@none.png"])
def test_an_input_that_is_none_is_refused(fleek: Any, given: str) -> None:
    """Before anything is submitted."""
    ended = fleek("submit", "a cat", "-i", given)

    assert ended.code == 2
    assert ended.err
