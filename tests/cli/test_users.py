"""Users' commands: requests, output and exit codes, against a fake server."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

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
    """Return a server that accepts a job and completes it with one picture."""
    done = a_job("completed", outputs=[an_output(0, SHA256)], result_url="http://x/media/1.png")
    service.answers(GENERATE, a_job(), status=201)
    service.answers(STATUS, a_job("processing"), done)
    service.answers(DOWNLOAD, BYTES, kind="image/png")
    return service


def test_generate_writes_a_file(making: Any, fleek: Any, tmp_path: Path) -> None:
    """The path goes to stdout, progress to stderr."""
    ended = fleek("generate", "a cat", "-o", "cat.png")

    assert ended.code == 0
    assert ended.out == "cat.png\n"
    assert ended.err == f"{JOB} processing\n{JOB} completed after 2.5 s\n"
    assert (tmp_path / "cat.png").read_bytes() == BYTES
    assert json.loads(making.requests[0].body) == {"prompt": "a cat"}


@pytest.mark.usefixtures("making")
def test_generate_names_the_file_by_the_job(fleek: Any, tmp_path: Path) -> None:
    """Without -o the file is in the current folder under a unique name."""
    ended = fleek("generate", "a cat")

    assert ended.out == f"{JOB}.png\n"
    assert (tmp_path / f"{JOB}.png").exists()


@pytest.mark.usefixtures("making")
def test_generate_creates_the_folder(fleek: Any, tmp_path: Path) -> None:
    """A path that ends in a slash is a folder."""
    ended = fleek("generate", "a cat", "-o", "new/deep/")

    assert ended.out == f"new/deep/{JOB}.png\n"
    assert (tmp_path / "new/deep" / f"{JOB}.png").exists()


def test_generate_numbers_several_outputs(
    making: Any, fleek: Any, a_job: Maker, an_output: Maker, tmp_path: Path
) -> None:
    """Each file needs its own name."""
    outputs = [an_output(0, SHA256), an_output(1, SHA256)]
    making.answers(STATUS, a_job("completed", outputs=outputs))

    ended = fleek("generate", "a cat", "-o", "cat.png")

    assert ended.out == "cat.png\ncat-1.png\n"
    assert (tmp_path / "cat-1.png").exists()


def test_generate_sends_all_options(making: Any, fleek: Any) -> None:
    """Values of -p are JSON if they can be, else text; -p overrides --parameters."""
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


def test_a_time_without_a_zone_is_local(making: Any, fleek: Any) -> None:
    """A user who types 18:00 means local time."""
    fleek("submit", "a cat", "--run-at", "2026-12-24T18:00")

    assert json.loads(making.requests[0].body)["run_at"].startswith("2026-12-24T18:00:00")


def test_a_time_may_be_relative(making: Any, fleek: Any) -> None:
    """Such as two hours from now."""
    before = datetime.now(UTC)
    fleek("submit", "a cat", "--run-at", "2h")

    run_at = datetime.fromisoformat(json.loads(making.requests[0].body)["run_at"])
    assert before <= run_at - timedelta(hours=2) <= datetime.now(UTC)


def test_prompts_are_read_from_stdin() -> None:
    """One for each line that is not empty, in the place of the dash."""
    assert texts(["-", "three"], ["one\n", "\n", "  two \n"]) == ["one", "two", "three"]


def test_an_empty_stdin_is_an_error() -> None:
    """An empty pipe is a mistake."""
    with pytest.raises(typer.BadParameter, match="no prompt"):
        texts(["-"], ["\n"])


def test_submit_writes_json(making: Any, fleek: Any) -> None:
    """One line for each job."""
    ended = fleek("submit", "a cat", "a dog", "--json", "--quiet")

    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == [JOB, JOB]
    assert len(making.requests) == 2


@pytest.mark.usefixtures("making")
def test_generate_writes_json(fleek: Any) -> None:
    """One line for each job, with its files."""
    ended = fleek("generate", "a cat", "--json", "--quiet")

    job = json.loads(ended.out)
    assert job["files"] == [f"{JOB}.png"]
    assert job["status"] == "completed"
    assert ended.err == ""


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("quiet", [(), ("--quiet",)], ids=["loud", "quiet"])
def test_an_unsuccessful_job_is_exit_1(
    making: Any, fleek: Any, a_job: Maker, status: str, quiet: tuple[str, ...]
) -> None:
    """The error is printed even with --quiet."""
    making.answers(STATUS, a_job(status, error_code="x", error_message="no paint"))

    ended = fleek("generate", "a cat", *quiet)

    assert ended.code == 1
    assert ended.out == ""
    assert f"{status} after 2.5 s: no paint" in ended.err


def test_one_failed_job_does_not_stop_the_others(
    making: Any, fleek: Any, a_job: Maker, an_output: Maker
) -> None:
    """The other files are downloaded; the exit code reports the failure."""
    done = a_job("completed", id=OTHER, outputs=[an_output(0, SHA256)])
    making.answers(GENERATE, a_job(), a_job(id=OTHER), status=201)
    making.answers(STATUS, a_job("failed", error_code="x", error_message="no"))
    making.answers(f"GET /api/v1/jobs/{OTHER}", done)
    making.answers(f"GET /api/v1/download/{OTHER}", BYTES)

    ended = fleek("generate", "one", "two", "-o", "out")

    assert ended.code == 1
    assert ended.out == f"out/{OTHER}.png\n"


def test_a_failed_download_is_reported(making: Any, fleek: Any) -> None:
    """The job is completed and paid for; the download can be repeated."""
    making.answers(DOWNLOAD, {"detail": "purged", "code": "gone"}, status=410, kind=PROBLEM)

    ended = fleek("generate", "a cat")

    assert ended.code == 4
    assert ended.out == ""
    assert "purged" in ended.err


def test_a_timeout_is_exit_5_and_the_job_continues(making: Any, fleek: Any, a_job: Maker) -> None:
    """The message names the commands to continue with."""
    making.answers(STATUS, a_job("processing"))

    ended = fleek("generate", "a cat", "--timeout", "0.01")

    assert ended.code == 5
    assert f"fleek watch {JOB}" in ended.err
    assert f"fleek cancel {JOB}" in ended.err


@pytest.mark.usefixtures("making")
def test_ctrl_c_is_exit_130_and_the_job_continues(
    fleek: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users may expect that the job ends, too."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "status", interrupted)

    ended = fleek("generate", "a cat")

    assert ended.code == 130
    assert ended.err.startswith("Interrupted.\nThis job continues:\n")
    assert f"fleek watch {JOB}" in ended.err


def test_a_refused_prompt_does_not_hide_an_accepted_job(
    making: Any, fleek: Any, a_job: Maker
) -> None:
    """The earlier job was accepted and continues."""
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
def test_an_invalid_option_is_exit_2_and_sends_nothing(
    making: Any, fleek: Any, tmp_path: Path, args: tuple[str, str], complaint: str
) -> None:
    """No job is created whose file could not be stored."""
    (tmp_path / "a-file").touch()

    ended = fleek("generate", "a cat", *args)

    assert ended.code == 2
    assert complaint in ended.err
    assert making.requests == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 3), (403, 3), (404, 4), (409, 1), (410, 4), (422, 2), (413, 2), (500, 6)],
)
def test_each_refusal_has_an_exit_code(service: Any, fleek: Any, status: int, code: int) -> None:
    """Scripts distinguish refusals by the code alone."""
    problem = {"title": "No", "detail": "no, thanks", "code": "why"}
    service.answers(f"POST /api/v1/jobs/{JOB}/retry", problem, status=status, kind=PROBLEM)

    ended = fleek("retry", JOB)

    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("fleek: no, thanks")


def test_the_invalid_field_is_named(service: Any, fleek: Any) -> None:
    """Users can act on it."""
    fault = {"pointer": "/parameters/width", "code": "maximum", "detail": "at most 4096"}
    problem = {"detail": "The request is not valid.", "code": "x", "errors": [fault]}
    service.answers(GENERATE, problem, status=422, kind=PROBLEM)

    ended = fleek("submit", "a cat")

    assert ended.code == 2
    assert "  /parameters/width: at most 4096\n" in ended.err


def test_an_unreachable_server_is_exit_6(service: Any, fleek: Any) -> None:
    """Nothing listens on port 1."""
    ended = fleek("list", "--url", "http://127.0.0.1:1")

    assert ended.code == 6
    assert "cannot be reached" in ended.err
    assert "fleek serve" in ended.err
    assert service.requests == []


def test_another_server_is_exit_6(service: Any, fleek: Any) -> None:
    """A web server at a wrong port answers with HTML."""
    service.answers("GET /api/v1/jobs", b"<h1>hi</h1>", kind="text/html")

    ended = fleek("list")

    assert ended.code == 6
    assert "text/html" in ended.err


@pytest.mark.parametrize(
    "option", [("--url", "localhost:8000"), ("--api-key", "a b")], ids=["url", "key"]
)
def test_an_invalid_client_setting_is_exit_2(fleek: Any, option: tuple[str, str]) -> None:
    """One line, which names the setting."""
    ended = fleek("list", *option)

    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "FLEEK_" in ended.err


def test_the_api_key_is_sent(service: Any, fleek: Any, a_job: Maker) -> None:
    """From the option, or from FLEEK_API_KEY."""
    service.answers(STATUS, a_job())

    fleek("status", JOB, "--api-key", "secret")

    assert service.requests[0].headers["authorization"] == "Bearer secret"


def test_status_shows_a_job(service: Any, fleek: Any, a_job: Maker, an_output: Maker) -> None:
    """One line for each field."""
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
def test_status_names_the_reason_for_waiting(
    service: Any, fleek: Any, a_job: Maker, changes: dict[str, Any], shown: str
) -> None:
    """A pending job may be queued, delayed or between attempts."""
    service.answers(STATUS, a_job(**changes))

    ended = fleek("status", JOB)

    assert shown in ended.out.splitlines()


def test_terminal_escapes_of_a_server_are_removed(service: Any, fleek: Any, a_job: Maker) -> None:
    """Escape sequences can overwrite the screen, or type for the user."""
    evil = "a\x1b]0;owned\x07\x9b31m\u202ecat\nstatus      completed"
    service.answers(STATUS, a_job("failed", prompt=evil, error_code=evil, error_message=evil))

    plain, as_json = fleek("status", JOB), fleek("status", JOB, "--json")
    watched = fleek("watch", JOB)

    for text in (plain.out, as_json.out, watched.out, watched.err):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert plain.out.splitlines()[1] == "status      failed"
    assert json.loads(as_json.out)["prompt"] == evil


def test_list_writes_tab_separated_fields_to_a_pipe(
    service: Any, fleek: Any, a_job: Maker
) -> None:
    """One line for each job, and nothing else."""
    service.answers("GET /api/v1/jobs", [a_job(), a_job("failed", prompt="a\tdog")])

    ended = fleek("list", "--status", "failed", "--limit", "2")

    assert ended.code == 0
    assert ended.out.splitlines() == [
        f"{JOB}\tpending\t2026-01-02T03:04:05+00:00\tfleek/art\ta cat",
        f"{JOB}\tfailed\t2026-01-02T03:04:05+00:00\tfleek/art\ta dog",
    ]
    assert service.requests[0].query == "limit=2&status_filter=failed"


def test_list_sends_all_filters(fleek: Any, service: Any) -> None:
    """The API supports them."""
    service.answers("GET /api/v1/jobs", [])

    fleek(
        *("list", "--model", "a/b", "--tag", "sea", "--words", "red cat", "--oldest"),
        *("-s", "failed", "-s", "cancelled", "--favourites", "--batch", JOB),
        *("--since", "2026-01-02T03:04:05Z", "--until", "2026-01-03T03:04:05Z"),
    )

    assert parse_qs(service.requests[0].query) == {
        "limit": ["20"],
        "model": ["a/b"],
        "tag": ["sea"],
        "q": ["red cat"],
        "order": ["oldest"],
        "status_filter": ["failed", "cancelled"],
        "favourite": ["true"],
        "batch": [JOB],
        "created_after": ["2026-01-02T03:04:05+00:00"],
        "created_before": ["2026-01-03T03:04:05+00:00"],
    }


def test_a_list_since_some_time_ago(fleek: Any, service: Any) -> None:
    """As ``2h``, which is in the past here."""
    service.answers("GET /api/v1/jobs", [])
    before = datetime.now(UTC)

    fleek("list", "--since", "2h")

    (since,) = parse_qs(service.requests[0].query)["created_after"]
    assert before <= datetime.fromisoformat(since) + timedelta(hours=2) <= datetime.now(UTC)


def test_a_list_has_the_chosen_format(fleek: Any, service: Any, a_job: Maker) -> None:
    """Fields of the job, also inner ones, with a width; control characters are removed."""
    service.answers("GET /api/v1/jobs", [a_job(prompt="a\x1b cat", parameters={"width": 64})])

    ended = fleek("list", "--format", r"{status:<10}|{parameters.width}|{seed}|{prompt}")

    assert ended.out == "pending   |64||a\N{REPLACEMENT CHARACTER} cat\n"


@pytest.mark.parametrize("form", ["{", "{}", "{nothing}", "{id.hex}", "{id:x}", "{id!r:>999b}"])
def test_an_invalid_format_is_refused(fleek: Any, service: Any, a_job: Maker, form: str) -> None:
    """It reads fields, and nothing else of Python."""
    service.answers("GET /api/v1/jobs", [a_job()])

    ended = fleek("list", "--format", form)

    assert ended.code == 2
    assert "--format" in ended.err


def test_an_empty_list_is_reported_on_stderr(service: Any, fleek: Any) -> None:
    """Nothing is written to stdout."""
    service.answers("GET /api/v1/jobs", [])

    ended = fleek("list")

    assert ended.out == ""
    assert ended.err == "No jobs match.\n"


def test_list_writes_json(service: Any, fleek: Any, a_job: Maker) -> None:
    """One array."""
    service.answers("GET /api/v1/jobs", [a_job()])

    ended = fleek("list", "--json")

    assert [job["id"] for job in json.loads(ended.out)] == [JOB]


def test_watch_writes_the_result_of_each_job(service: Any, fleek: Any, a_job: Maker) -> None:
    """Id, status and address; a repeated id is one job."""
    service.answers(STATUS, a_job("completed", result_url="http://x/1.png"))

    ended = fleek("watch", JOB, JOB)

    assert ended.code == 0
    assert ended.out == f"{JOB}\tcompleted\thttp://x/1.png\n"


def test_watching_an_unknown_job_is_exit_4(service: Any, fleek: Any) -> None:
    """The message does not suggest to watch it again."""
    ended = fleek("watch", JOB)

    assert ended.code == 4
    assert "fleek watch" not in ended.err
    assert len(service.requests) == 1


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_watch_retries_while_the_server_is_busy(service: Any, fleek: Any, a_job: Maker) -> None:
    """It reports that once."""
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
    """`cancel` writes the status, `retry` the new id."""
    answer = {"message": "cancelled", "job": a_job("cancelled")}
    service.answers(f"POST /api/v1/jobs/{JOB}/cancel", answer)
    service.answers(f"POST /api/v1/jobs/{JOB}/retry", a_job(id=OTHER), status=201)

    cancelled, retried = fleek("cancel", JOB, *as_json), fleek("retry", JOB, *as_json)

    assert (cancelled.code, retried.code) == (0, 0)
    assert JOB in cancelled.out
    assert "cancelled" in cancelled.out
    assert OTHER in retried.out


def test_collect_writes_the_status_of_each_job(service: Any, fleek: Any, a_job: Maker) -> None:
    """`status` names the reason for the delay."""
    why = {"code": "storage_full", "reason": "no room", "next_at": "2026-01-02T03:04:05Z"}
    service.answers(f"POST /api/v1/jobs/{JOB}/collect", a_job("processing"))
    service.answers(STATUS, a_job("processing", retrying=why))

    collected, shown = fleek("collect", JOB), fleek("status", JOB)

    assert (collected.code, collected.out) == (0, f"{JOB}\tprocessing\n")
    lines = shown.out.splitlines()
    assert "status      processing, its result waits to be stored" in lines
    assert "waits for   no room (storage_full); next try 2026-01-02 03:04:05 UTC" in lines


def test_download_writes_all_outputs(
    service: Any, fleek: Any, a_job: Maker, an_output: Maker
) -> None:
    """Or only the one with the given index."""
    outputs = [an_output(0, SHA256), an_output(1, SHA256)]
    service.answers(STATUS, a_job("completed", outputs=outputs))
    service.answers(DOWNLOAD, BYTES)

    both, one = fleek("download", JOB), fleek("download", JOB, "--index", "1", "-o", "x.png")

    assert both.out == f"{JOB}.png\n{JOB}-1.png\n"
    assert one.out == "x.png\n"


def test_downloading_a_running_job_is_exit_4(service: Any, fleek: Any, a_job: Maker) -> None:
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
    "kind": "image",
    "default": True,
    "available": True,
    "aliases": ["art"],
    "price": {"output": "0.003"},
    "routes": [],
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


def test_several_models_are_names_to_go_on_with(making: Any, fleek: Any) -> None:
    """In their order; one is a model, as before."""
    fleek("submit", "a cat", "-m", "a/b", "-m", "openai:c", "--route", "cheapest")
    fleek("submit", "a cat", "-m", "a/b")

    several, single = (json.loads(request.body) for request in making.requests)
    assert (several["models"], several["route"]) == (["a/b", "openai:c"], "cheapest")
    assert single == {"prompt": "a cat", "model_name": "a/b"}


def test_models_are_listed(service: Any, fleek: Any) -> None:
    """With the default and the kind of output; those that can be used, unless all are asked for."""
    service.answers("GET /api/v1/models", [MODEL])

    plain, as_json = fleek("models"), fleek("models", "--json")

    assert plain.out == "fleek/art\timage\tdefault\tplaceholder\tart\n"
    assert json.loads(as_json.out) == [MODEL]
    assert service.requests[0].query == "available=true"


def test_all_models_are_searched(service: Any, fleek: Any) -> None:
    """The conditions are those of the API."""
    service.answers("GET /api/v1/models", [MODEL])

    fleek("models", "--all", "-s", "fast art", "--kind", "image", "--provider", "fal")

    assert service.requests[0].query == "q=fast+art&kind=image&provider=fal"


def test_the_routes_of_a_model_are_shown(service: Any, fleek: Any) -> None:
    """With what is to be known before one relies on them."""
    route = {"provider": "fal", "model": "fal-ai/art", "parameters": ["seed"], "price": None}
    routes = [
        route | {"configured": True, "unverified": False},
        route | {"provider": "odd", "configured": False, "unverified": True},
    ]
    service.answers("GET /api/v1/models/art", MODEL | {"routes": routes, "parameters": None})

    ended = fleek("models", "art")

    assert ended.out.splitlines()[1:] == [
        "runs at\tfal\tfal-ai/art\t",
        "runs at\todd\tfal-ai/art\tnot configured here, unverified",
    ]


def test_the_parameters_of_a_model_are_shown(service: Any, fleek: Any) -> None:
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
def test_a_model_may_have_no_known_parameters(service: Any, fleek: Any, parameters: Any) -> None:
    """Some providers do not publish them."""
    service.answers("GET /api/v1/models/fleek/art", MODEL | {"parameters": parameters})

    ended = fleek("models", "fleek/art")

    assert ended.code == 0
    assert ended.out == "fleek/art (placeholder): art\n"


def test_files_are_uploaded(service: Any, fleek: Any, an_upload: Any, tmp_path: Path) -> None:
    """The reference of each goes to stdout."""
    (tmp_path / "cat.png").write_bytes(BYTES)
    service.answers("POST /api/v1/uploads", an_upload, status=201)

    plain = fleek("upload", "cat.png")
    as_json = fleek("upload", "cat.png", "--json")
    missing = fleek("upload", "dog.png")

    assert (plain.code, plain.out) == (0, f"upload:{OTHER}\n")
    assert json.loads(as_json.out) == an_upload
    assert service.requests[0].body == BYTES
    assert (missing.code, "dog.png" in missing.err) == (2, True)


@pytest.mark.parametrize(
    ("given", "value"), [("cat.png", f"upload:{OTHER}"), ("job:ID", "job:ID")]
)
def test_an_image_is_short_for_an_input(
    making: Any, fleek: Any, an_upload: Any, tmp_path: Path, *, given: str, value: str
) -> None:
    """A file, or what a server understands by itself."""
    (tmp_path / "cat.png").write_bytes(BYTES)
    making.answers("POST /api/v1/uploads", an_upload, status=201)

    fleek("submit", "a cat", "--image", given, "--tag", "sea")

    sent = json.loads(making.requests[-1].body)
    assert (sent["parameters"], sent["tags"]) == ({"image": value}, ["sea"])


@pytest.mark.parametrize("words", [["submit", "a cat"], ["generate", "a cat"]])
def test_an_input_is_uploaded_first(
    making: Any, fleek: Any, an_upload: Any, tmp_path: Path, words: list[str]
) -> None:
    """The parameter becomes the upload's reference; a given reference is kept."""
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
def test_an_invalid_input_is_refused(fleek: Any, given: str) -> None:
    """Nothing is submitted."""
    ended = fleek("submit", "a cat", "-i", given)

    assert ended.code == 2
    assert ended.err


@pytest.mark.parametrize("words", [("estimate",), ("generate", "--estimate")])
def test_estimates_make_nothing(service: Any, fleek: Any, words: tuple[str, ...]) -> None:
    """The cost goes to stdout; a file is not uploaded for it."""
    route = {"provider": "replicate", "model_name": "acme/fast"}
    found = {"cost": "0.003", "route": route, "queue_position": 0, "problems": []}
    service.answers("POST /api/v1/estimate", found)

    ended = fleek(*words, "a cat", "-i", "image=@none.png", "-m", "acme/fast")

    assert (ended.code, ended.out) == (0, "0.003\treplicate\tacme/fast\n")
    assert json.loads(service.requests[0].body) == {
        "prompt": "a cat",
        "model_name": "acme/fast",
        "parameters": {"image": "https://example.com/file"},
    }
    assert len(service.requests) == 1


def test_an_estimate_of_a_refused_request_says_why(service: Any, fleek: Any) -> None:
    """As an error of usage."""
    problem = {"location": "body", "pointer": "/provider", "code": "x", "detail": "is not there"}
    found = {"cost": None, "route": None, "queue_position": None, "problems": [problem]}
    service.answers("POST /api/v1/estimate", found)

    ended = fleek("estimate", "a cat")

    assert (ended.code, ended.err) == (2, "fleek: provider: is not there\n")
    assert ended.out.startswith("unknown")
