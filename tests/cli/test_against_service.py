"""Users' commands as processes, against a real service in its own process."""

import json
import os
import pty
import signal
import subprocess
import sys
import zipfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import process_template
from backing_services import free_port
from fleek import Client
from process_template import inherited
from service_process import PATIENCE, until

PNG = b"\x89PNG\r\n\x1a\n"
UNKNOWN = "0198f000-0000-7000-8000-00000000ffff"
LATER = ("--run-at", (datetime.now(UTC) + timedelta(days=1)).isoformat())


@dataclass
class Shell:
    """Run commands in a folder against one server."""

    url: str
    folder: Path

    def command(self, *args: str) -> list[str]:
        """Return the arguments of a command."""
        return [sys.executable, "-m", "fleek", *args]

    @property
    def environment(self) -> dict[str, str]:
        """Return an environment with little more than the server's address."""
        return {**inherited(), "FLEEK_URL": self.url, "TERM": "xterm"}

    def run(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command until it exits."""
        return process_template.run(
            "fleek",
            *args,
            folder=self.folder,
            env=self.environment,
            timeout=PATIENCE,
            stdin=stdin,
        )


@pytest.fixture(scope="module")
def url(_full_suite: None, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Serve on a free port, from an empty folder, with fast predictions."""
    port = str(free_port())
    folder = tmp_path_factory.mktemp("service")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "fleek", "serve", "--port", port],
            cwd=folder,
            env={"REPLICATE_MOCK_DELAY_MIN": "0.01", "REPLICATE_MOCK_DELAY_MAX": "0.05"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as service,
    ):
        try:
            assert service.stdout is not None
            assert "is ready" in service.stdout.readline(), (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(timeout=PATIENCE)
    assert service.returncode == 0, (folder / "log").read_text()


@pytest.fixture
def shell(url: str, tmp_path: Path) -> Shell:
    """Return a shell in an empty folder."""
    return Shell(url, tmp_path)


def test_the_server_is_ready(url: str) -> None:
    """The client sees it as soon as the health checks have run."""
    with Client(url) as client:
        until(
            lambda: client.health()["checks"]["database"]["status"] == "healthy",
            why=lambda: str(client.health()),
        )


def test_generate_turns_a_prompt_into_a_picture(shell: Shell) -> None:
    """One command submits, waits and downloads."""
    ended = shell.run("generate", "A cat riding a bicycle", "-o", "cat.png", "-p", "width=64")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "cat.png\n"
    assert "completed after" in ended.stderr
    assert (shell.folder / "cat.png").read_bytes().startswith(PNG)


def test_generate_reads_prompts_from_a_pipe(shell: Shell) -> None:
    """One job and one file for each line."""
    ended = shell.run("generate", "-", "-o", "out", "-p", "width=64", stdin="one\ntwo\nthree\n")

    paths = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    assert len(set(paths)) == 3
    assert all((shell.folder / path).read_bytes().startswith(PNG) for path in paths)


def test_submit_then_watch_then_download(shell: Shell) -> None:
    """Scripts may use three commands."""
    submitted = shell.run("submit", "a cat", "-p", "num_outputs=2", "-p", "width=64")
    job_id = submitted.stdout.strip()

    watched = shell.run("watch", job_id)
    downloaded = shell.run("download", job_id)

    assert (submitted.returncode, watched.returncode, downloaded.returncode) == (0, 0, 0)
    assert watched.stdout.startswith(f"{job_id}\tcompleted\t{shell.url}/media/{job_id}.png")
    assert downloaded.stdout == f"{job_id}.png\n{job_id}-1.png\n"
    assert (shell.folder / f"{job_id}-1.png").read_bytes().startswith(PNG)


def test_status_and_list_agree(shell: Shell) -> None:
    """Both as JSON, for programs."""
    job_id = shell.run("submit", "a job for later", *LATER).stdout.strip()

    shown = json.loads(shell.run("status", job_id, "--json").stdout)
    listed = json.loads(shell.run("list", "--status", "pending", "--json").stdout)

    assert shown["status"] == "pending"
    assert shown["prompt"] == "a job for later"
    assert job_id in {job["id"] for job in listed}


def test_cancel_then_retry(shell: Shell) -> None:
    """A cancelled job has not completed, and may be retried."""
    job_id = shell.run("submit", "a cat", *LATER).stdout.strip()

    cancelled, again = shell.run("cancel", job_id), shell.run("cancel", job_id)
    watched = shell.run("watch", job_id)
    retried = shell.run("retry", job_id)

    assert cancelled.stdout == again.stdout == f"{job_id}\tcancelled\n"
    assert (cancelled.returncode, again.returncode) == (0, 0)
    assert watched.returncode == 1
    assert retried.returncode == 0
    assert retried.stdout.strip() != job_id


def test_an_unknown_job_is_exit_4(shell: Shell) -> None:
    """Nothing on stdout, and a readable line on stderr."""
    ended = shell.run("download", UNKNOWN)

    assert ended.returncode == 4
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


def test_a_refused_parameter_is_exit_2(shell: Shell) -> None:
    """No file is created, and the field is named."""
    ended = shell.run("generate", "a cat", "-p", "width=7")

    assert ended.returncode == 2
    assert "/parameters/width" in ended.stderr
    assert list(shell.folder.iterdir()) == []


def test_a_prompt_that_the_model_needs_is_exit_2(shell: Shell) -> None:
    """Without one, models such as those that enlarge a picture run; this one does not."""
    done = shell.run("generate", "")

    assert done.returncode == 2
    assert "the model needs a prompt" in done.stderr


def test_a_timeout_is_exit_5(shell: Shell) -> None:
    """The job continues."""
    ended = shell.run("generate", "a cat", "--timeout", "0.1", *LATER)

    assert ended.returncode == 5
    assert "fleek watch" in ended.stderr


def test_models_lists_models_and_parameters(shell: Shell) -> None:
    """Without a name it lists the models, with a name their parameters."""
    listed = shell.run("models")
    name = listed.stdout.split("\t")[0]

    shown = shell.run("models", name)

    assert listed.returncode == shown.returncode == 0
    assert "width\tinteger from 16 to 4096" in shown.stdout


def test_ctrl_c_does_not_cancel_the_job(shell: Shell) -> None:
    """The exit code is 130, and the message has the job's id."""
    log = shell.folder / "log"
    with log.open("wb") as file:
        generate = process_template.start(
            "fleek",
            *("generate", "a cat", *LATER),
            folder=shell.folder,
            env=shell.environment,
            log=file,
        )
    until(lambda: "\n" in log.read_text(), why=log.read_text)
    job_id = log.read_text().split()[0]

    generate.send_signal(signal.SIGINT)
    out, _ = generate.communicate(timeout=PATIENCE)

    assert generate.returncode == 130
    assert out == b""
    assert f"fleek watch {job_id}" in log.read_text()
    assert shell.run("status", job_id).stdout.splitlines()[1].endswith("pending")


def read_all(terminal: int) -> str:
    """Return what is written to a terminal until it is closed."""
    drawn = b""
    with os.fdopen(terminal, "rb", buffering=0) as ours:
        try:
            while chunk := ours.read(4096):
                drawn += chunk
        except OSError:  # Linux reports a closed terminal as an error
            pass
    return drawn.decode()


def test_progress_is_not_written_to_stdout(shell: Shell) -> None:
    """With progress on a terminal and data in a pipe, the pipe has all data and nothing else."""
    ours, theirs = pty.openpty()
    with (
        ThreadPoolExecutor() as reader,
        subprocess.Popen(  # noqa: S603 - ourselves
            shell.command("generate", "a cat", "-o", "cat.png", "-p", "width=64"),
            cwd=shell.folder,
            env=shell.environment,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        ) as generate,
    ):
        os.close(theirs)
        drawing = reader.submit(read_all, ours)
        out, _ = generate.communicate(timeout=PATIENCE)
        drawn = drawing.result()

    assert generate.returncode == 0
    assert out == "cat.png\n"
    assert "\x1b[?25l" in drawn
    assert "completed after" in drawn


def test_a_batch_is_created_followed_and_downloaded(shell: Shell) -> None:
    """From a file of prompts; with its key it is the same batch again."""
    (shell.folder / "cats.txt").write_text(
        'A cat\n\n{"prompt": "A dog", "parameters": {"width": 64, "height": 64}}\n'
    )

    made = [shell.run("batch", "create", "cats.txt", "--key", "cats-1") for _ in range(2)]
    batch_id = made[0].stdout.strip()
    waited = shell.run("batch", "wait", batch_id)
    saved = shell.run("batch", "download", batch_id, "-o", "cats.zip")
    status = json.loads(shell.run("batch", "status", batch_id, "--json").stdout)
    listed = shell.run("batch", "list").stdout

    assert {each.stdout.strip() for each in made} == {batch_id}
    assert (waited.returncode, "2 completed" in waited.stdout) == (0, True)
    assert saved.stdout.strip() == "cats.zip"
    assert zipfile.ZipFile(shell.folder / "cats.zip").namelist() == ["00000.png", "00001.png"]
    assert (status["total"], status["counts"]["completed"]) == (2, 2)
    assert batch_id in listed


def test_a_line_that_is_no_request_is_named(shell: Shell) -> None:
    """Before anything is sent."""
    (shell.folder / "cats.txt").write_text('A cat\n{"prompt": \n')

    refused = shell.run("batch", "create", "cats.txt")

    assert refused.returncode == 2
    assert "line 2" in refused.stderr
