# ruff: noqa: INP001 - a program, not a package
"""Find the Chromium of the system, and install it with apt where that is allowed: as root, on Debian.

``python -m scripts.chromium`` prints its path. `CHROMIUM` names another one. Its headless shell comes first: the same
engine without the browser around it, whose profiles, extensions and spare processes take a quarter of a run.
"""

import os
import shutil
import subprocess
import sys
from typing import Final

SHELL: Final = "chromium-headless-shell"
NAMES: Final = (
    *(SHELL, "chrome-headless-shell"),
    *("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"),
)
ADVICE: Final = (
    "Chromium is missing: install it (Debian: apt-get install chromium-headless-shell; Ubuntu: chromium), or name one with "
    "CHROMIUM=/path. The tests of the web page need it; they are never skipped."
)


def find() -> str | None:
    """Return the path of a browser; None: there is none."""
    named = os.environ.get("CHROMIUM")  # noqa: TID251 - a developer's own, not a setting of Fleek
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def install() -> None:
    """Install Debian's Chromium if this is root's machine: its headless shell, where that is a package.

    Raises:
        CalledProcessError: apt could not install either.
    """
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}  # noqa: TID251 - for apt
    update, get = [apt, "update", "-qq"], [apt, "install", "-qq", "-y", "--no-install-recommends"]
    subprocess.run(update, env=quiet, check=True, stdout=sys.stderr)  # noqa: S603 - ours
    shell = subprocess.run([*get, SHELL], env=quiet, check=False, stdout=sys.stderr)  # noqa: S603 - ours
    if shell.returncode:  # Ubuntu has no such package
        subprocess.run([*get, "chromium"], env=quiet, check=True, stdout=sys.stderr)  # noqa: S603 - ours


def main() -> int:
    """Print the path of a browser, installed if need be and possible."""
    if find() is None:
        install()
    found = find()
    print(found or ADVICE, file=sys.stdout if found else sys.stderr)
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
