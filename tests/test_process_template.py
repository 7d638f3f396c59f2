"""Processes that are forked from a template are as if each was started by itself."""

import json
import select
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

import process_template
from process_template import Forked, inherited

TELLING: Final = """
import atexit, json, os, signal, sys, threading
atexit.register(print, "at the end", file=sys.stderr)
print(json.dumps([os.getcwd(), dict(os.environ), sys.argv[1:], sys.path[0], __name__]))
print("an error", file=sys.stderr)
sys.stdout.flush()
if sys.argv[1] == "hang":
    signal.pause()
ending = threading.Event()
threading.Thread(target=lambda: (ending.wait(), print("a thread", file=sys.stderr))).start()
threading._register_atexit(ending.set)
sys.exit(3)
"""


def told(folder: Path, argument: str, **env: str) -> tuple[object, list[Any]]:
    """Run a program that tells what it has got; returns its process, and exit code and outputs."""
    (folder / "apart.py").write_text(TELLING)
    with (folder / "log").open("wb") as log:
        process = process_template.start(
            "apart", argument, folder=folder, env={**inherited(), **env}, log=log
        )
    if argument == "hang":
        assert process.stdout is not None
        select.select([process.stdout], [], [], 120)  # until it has told all
        process.kill()
    written, _ = process.communicate(timeout=120)
    assert process.returncode is not None
    return process, [process.returncode, json.loads(written), (folder / "log").read_text()]


@pytest.mark.usefixtures("_full_suite")
def test_a_forked_process_gets_what_a_fresh_one_gets(tmp_path: Path) -> None:
    """Its folder, environment, arguments and streams are its own, and so is its exit code.

    It waits for its threads, then calls what is registered for its end.
    """
    forked, of_forked = told(tmp_path, "a", SECRET="1")
    fresh, of_fresh = told(tmp_path, "a", SECRET="1", PYTHONHASHSEED="1")

    assert isinstance(forked, Forked)
    assert isinstance(fresh, subprocess.Popen)
    del of_fresh[1][1]["PYTHONHASHSEED"]
    environment = {**inherited(), "SECRET": "1"}
    expected = [str(tmp_path), environment, ["a"], str(tmp_path), "__main__"]
    assert of_forked == of_fresh == [3, expected, "an error\na thread\nat the end\n"]


@pytest.mark.usefixtures("_full_suite")
def test_a_forked_process_can_be_killed(tmp_path: Path) -> None:
    """It is a child of the test, which learns by which signal it has ended."""
    _, (code, _, _) = told(tmp_path, "hang")

    assert code == -signal.SIGKILL


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("env", [{}, {"PYTHONHASHSEED": "1"}], ids=["forked", "fresh"])
def test_a_program_is_run_to_its_end(tmp_path: Path, env: dict[str, str]) -> None:
    """It gets its input, and what it wrote is returned with its exit code."""
    (tmp_path / "apart.py").write_text("import sys; print(sys.stdin.read()); sys.exit('an error')")

    ended = process_template.run(
        "apart", folder=tmp_path, env={**inherited(), **env}, timeout=120, stdin="é"
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "é\n", "an error\n")
