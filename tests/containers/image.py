"""The result of `docker build` for this checkout, in a folder: no engine is needed.

The instructions and the environment are read from the files; only the paths differ.
"""

import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "Dockerfile"
DOCKERIGNORE: Final = ROOT / ".dockerignore"
BIN: Final = Path(sys.executable).parent


class Image:
    """The image's file system below `root`: the program, and a folder for its data."""

    def __init__(self, root: Path) -> None:
        self.program = root / "opt" / "fleek"
        self.data = root / "data"
        self.home = root / "home"  # the image has no home folder, and must not need one
        self.bin = self.program / "bin"

    def environment(self) -> dict[str, str]:
        """Return the image's environment, with the paths replaced."""
        places = {"/opt/fleek": self.program, "/data": self.data, "$PATH": "/usr/bin:/bin"}
        found = {"HOME": str(self.home)}
        for name, value in _settings():
            for place, here in places.items():
                value = value.replace(place, str(here))  # noqa: PLW2901 - step by step
            found[name] = value
        return found

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command until it exits, like ``docker run``."""
        return subprocess.run(  # noqa: S603 - what the files say
            [self.bin / command[0], *command[1:]],
            cwd=self.data,
            env={**self.environment(), **env},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def clear(self) -> None:
        """Remove all data."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()

    def files(self) -> Mapping[Path, int]:
        """Return every file of the program, with the time of its last change."""
        return {path: path.lstat().st_mtime_ns for path in self.program.rglob("*")}


def build(root: Path) -> Image:
    """Build the image in this folder; its libraries are those of the tests' environment."""
    image = Image(root)
    context = root / "build"
    copy_context(context)
    python = _environment(image)
    for project in (context / "packages/client", context):
        _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", root, cwd=project)
    wheels = root.glob("*.whl")
    options = ["--no-deps", "--no-index", "--offline", "--no-cache", "--compile-bytecode"]
    _run(BIN / "uv", "pip", "install", "-q", "--python", python, *options, *wheels, cwd=root)
    shutil.rmtree(context)
    image.clear()
    for path in (image.program, *image.program.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o555)
    return image


def copy_context(folder: Path) -> None:
    """Copy the sources of the COPY instructions, except for what ``.dockerignore`` excludes."""
    for source in sources():
        found = ROOT / source
        for path in found.rglob("*") if found.is_dir() else [found]:
            name = path.relative_to(ROOT)
            if path.is_file() and is_sent(str(name)):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / name)


def sources() -> list[str]:
    """Return the sources that the build copies from the checkout."""
    copies = [line.split()[1:-1] for line in instructions() if line.startswith("COPY ")]
    return [source for copy in copies if not copy[0].startswith("--from") for source in copy]


def is_sent(name: str) -> bool:
    """Return whether a file is part of the build context; the last matching pattern decides.

    Source: https://docs.docker.com/build/concepts/context/#dockerignore-files
    """
    sent = True
    for line in DOCKERIGNORE.read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#") and re.fullmatch(_expression(pattern), name):
            sent = line.startswith("!")
    return sent


def instructions() -> Iterator[str]:
    """Yield the Dockerfile's instructions, one line each."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    yield from "\n".join(lines).replace("\\\n", " ").splitlines()


def _settings() -> Iterator[tuple[str, str]]:
    """Yield the variables of the last stage's ENV."""
    stage: list[str] = []
    for line in instructions():
        stage = [] if line.startswith("FROM ") else [*stage, line]
    for line in stage:
        if line.startswith("ENV "):
            for setting in shlex.split(line)[1:]:
                name, _, value = setting.partition("=")
                yield name, value


def _expression(pattern: str) -> str:
    """Return a regular expression for the files that match a pattern, or are below a match."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(words.get(part, re.escape(part)) for part in parts) + "(?:/.*)?"


def _environment(image: Image) -> Path:
    """Create an environment with the tests' libraries, without the checkout; returns its Python."""
    venv.EnvBuilder(symlinks=True).create(image.program)
    paths = {"base": str(image.program), "platbase": str(image.program)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    libraries = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    (packages / "libraries.pth").write_text("\n".join(dict.fromkeys(libraries)))
    python = image.bin / "python"
    celery = (BIN / "celery").read_text().partition("\n")[2]
    (image.bin / "celery").write_text(f"#!{python}\n{celery}")
    (image.bin / "celery").chmod(0o755)
    return python


def _run(*command: object, cwd: Path) -> None:
    done = subprocess.run(  # noqa: S603 - programs of ours
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
