"""Commands whose input or output streams are closed, full or not UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleek.cli import run

COMMANDS = [
    ["--help"],
    ["--version"],
    ["config", "show"],
    ["config", "show", "--json"],
    ["list"],
    ["list", "--json"],
]


@pytest.mark.usefixtures("_full_suite")
def test_a_closed_pipe_is_not_an_error(tmp_path: Path, service: Any) -> None:
    """`fleek list | head -1` succeeds."""
    service.answers("GET /api/v1/jobs", [])
    env = {**os.environ, "FLEEK_URL": service.url}  # noqa: TID251 - a child's environment
    codes = {}
    for command in COMMANDS:
        reading, writing = os.pipe()
        os.close(reading)
        child = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "fleek", *command],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=env,
            check=False,
        )
        os.close(writing)
        codes[" ".join(command)] = child.returncode, b"Broken" in child.stderr

    assert codes == {" ".join(command): (0, False) for command in COMMANDS}


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize(
    ("where", "code", "said"), [("/dev/full", 2, b"No space left"), ("-", 0, b"")]
)
def test_a_full_or_closed_stdout_gives_no_traceback(
    tmp_path: Path, where: str, code: int, said: bytes
) -> None:
    """A full disk is a one-line error; a closed stream (`>&-`) is ignored."""
    to = "&-" if where == "-" else where

    child = subprocess.run(  # noqa: S603 - our own program
        ["/bin/sh", "-c", f'"$0" -m fleek config show >{to}', sys.executable],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        check=False,
    )

    assert child.returncode == code
    assert said in child.stderr
    assert b"Traceback" not in child.stderr
    assert child.stderr.count(b"\n") == bool(said)


@pytest.mark.parametrize("prompt", ["猫", "ü 猫 🐈"])
def test_an_ascii_locale_accepts_any_prompt(
    monkeypatch: pytest.MonkeyPatch, service: Any, prompt: str
) -> None:
    """The shell passes bytes; Python keeps undecodable ones as surrogates."""
    service.answers(
        "POST /api/v1/generate", {"title": "x", "detail": "x", "code": "x"}, status=422
    )
    hidden = prompt.encode().decode("ascii", errors="surrogateescape")
    monkeypatch.setenv("FLEEK_URL", service.url)

    run(["submit", hidden, "-p", f"text={hidden}"])

    sent = json.loads(service.requests[-1].body)
    assert (sent["prompt"], sent["parameters"]) == (prompt, {"text": prompt})
