"""`-o -`: the bytes of a file on stdout, and nothing else there."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleek.cli import run

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
BYTES = b"\x89PNG\r\n\x00\xff"
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def making(service: Any, a_job: Maker, an_output: Maker) -> Any:
    """Return a server that completes a job with two files."""
    done = a_job("completed", outputs=[an_output(0, SHA256), an_output(1, SHA256)])
    service.answers("POST /api/v1/generate", a_job(), status=201)
    service.answers(f"GET /api/v1/jobs/{JOB}", done)
    service.answers(f"GET /api/v1/download/{JOB}", BYTES, kind="image/png")
    return service


@pytest.mark.usefixtures("making")
@pytest.mark.parametrize("args", [("generate", "a cat"), ("download", JOB), ("again", JOB)])
def test_the_bytes_are_written_to_stdout(
    capsysbinary: Any, tmp_path: Path, args: tuple[str, ...]
) -> None:
    """Those of the first file; that there are more is said on stderr. No file is made."""
    code = run([*args, "-o", "-"])

    written = capsysbinary.readouterr()
    assert (code, written.out) == (0, BYTES)
    assert b"first of 2 files" in written.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [("one", "two"), ("one", "--json")])
def test_what_would_be_mixed_is_refused(making: Any, fleek: Any, args: tuple[str, ...]) -> None:
    """Before a job is paid for."""
    ended = fleek("generate", *args, "-o", "-")

    assert ended.code == 2
    assert "stdout" in ended.err
    assert making.requests == []


def test_a_terminal_is_spared(making: Any, fleek: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of a picture would confuse it."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    ended = fleek("generate", "a cat", "-o", "-")

    assert ended.code == 2
    assert "terminal" in ended.err
    assert making.requests == []


@pytest.mark.usefixtures("_full_suite")
def test_a_reader_that_ends_early_is_no_error(making: Any, tmp_path: Path) -> None:
    """As ``fleek generate … -o - | head -c 4``."""
    reading, writing = os.pipe()
    os.close(reading)

    child = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "fleek", "download", JOB, "-o", "-"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "FLEEK_URL": making.url},  # noqa: TID251 - a child's environment
        check=False,
    )
    os.close(writing)

    assert child.returncode == 0
    assert b"Broken" not in child.stderr
    assert b"Traceback" not in child.stderr
