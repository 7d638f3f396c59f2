"""Environments of official Python clients: each has its client alone, with what that needs, at locked versions."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

LOCKS: Final = Path(__file__).parent / "api" / "facades" / "py"
PROGRAM_SECONDS: Final = 1200.0
"""When a program with a client counts as hanging: on a machine with other work it takes minutes, not seconds."""

PASSED_ON: Final = ("PATH", "HOME", "SSL_CERT", "UV_", "XDG_")
"""How the names of variables begin that the package index may need."""


def environment_of(client: str, folder: Path, *, locks: Path = LOCKS) -> Path:
    """Return the Python of a client's environment in a folder that all processes of all runs may share.

    It is made once, and anew when its lock file has changed. `client`: as its lock file in `locks` is called,
    whose hashes are checked.
    """
    locked = locks / f"{client}.lock"
    digest = hashlib.sha256(locked.read_bytes()).hexdigest()
    made, python = folder / f"{client}.made", folder / client / "bin" / "python"
    with (folder / f"{client}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != digest:
            _run("venv", "-q", "--clear", "--python", sys.executable, str(folder / client))
            install = ("pip", "install", "-q", "--python", str(python), "--require-hashes")
            _run(*install, "-r", str(locked))
            made.write_text(digest)
    return python


def child_variables(**more: Any) -> dict[str, str]:
    """Return the variables of a program that has nothing of this process's but these and where commands are."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251 - a child's environment
    return inherited | {name: str(value) for name, value in more.items()}


def _run(*command: str) -> None:
    uv = Path(sys.executable).parent / "uv"
    given = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}  # noqa: TID251 - a child's environment
    ran = subprocess.run(  # noqa: S603 - the tool of the Makefile
        [uv, *command], env=given, capture_output=True, timeout=PROGRAM_SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
