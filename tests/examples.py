"""Examples in Markdown, run in order in one shell and compared with the shown output."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service_process import Service

ROOT: Final = Path(__file__).parents[1]
FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAKE: Final = re.compile(r"make [a-z]+\n")
END: Final = "--- end of example ---"
PATIENCE: Final = 900.0  # seconds for one page


@dataclass(frozen=True, slots=True)
class Example:
    """A block of commands or of Python, and the shown output."""

    language: str  # "sh" or "python"
    text: str
    shown: str | None  # None: nothing is shown
    form: str  # "json" or "text"


def examples(page: Path) -> list[Example]:
    """Return a page's examples in their order.

    A block ``json`` or ``text`` is the output of the block before it. Blocks that only call
    make are skipped: make has started this test.
    """
    blocks = FENCE.findall(page.read_text())
    found = []
    for (language, text), (form, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language in {"sh", "python"} and MAKE.fullmatch(text) is None:
            output = shown if form in {"json", "text"} else None
            found.append(Example(language, text, output, form))
    return found


def run(found: Sequence[Example], service: Service) -> list[str]:
    """Run examples in one shell against a service; returns the output of each.

    Raises:
        AssertionError: An example has failed.
    """
    script = ["set -euo pipefail"]
    for example in found:
        text = re.sub(r"(localhost|127\.0\.0\.1):8000", f"127.0.0.1:{service.port}", example.text)
        script.append(text if example.language == "sh" else f"python - <<'END'\n{text}END")
        script.append(f"echo\necho '{END}'")
    done = subprocess.run(  # noqa: S603 - our own examples
        ["/usr/bin/env", "bash", "-c", "\n".join(script)],
        cwd=service.folder,
        env=_environment(service),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    outputs = done.stdout.split(f"\n{END}\n")[:-1]
    assert done.returncode == 0, f"{found[len(outputs)].text}\n{done.stderr}"
    return outputs


def _environment(service: Service) -> Mapping[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251 - a child's environment
    return {
        "PATH": path,
        "HOME": str(service.folder),
        "FLEEK_URL": f"http://127.0.0.1:{service.port}",
    }


def misses(example: Example, output: str) -> list[str]:
    """Return the differences between an output and the shown one; "…" stands for anything."""
    if example.shown is None:
        return []
    if example.form == "text":
        return _differs(example.shown.strip(), output.strip(), "output")
    return _differs(json.loads(example.shown), json.loads(output), "$")


def _differs(shown: Any, found: Any, where: str) -> list[str]:
    """Compare values; a shown object may omit keys."""
    if isinstance(shown, dict) and isinstance(found, dict):
        return [
            miss
            for key, value in shown.items()
            for miss in _differs(value, found.get(key, "nothing"), f"{where}.{key}")
        ]
    if isinstance(shown, list) and isinstance(found, list) and len(shown) == len(found):
        pairs = enumerate(zip(shown, found, strict=True))
        return [miss for n, (one, two) in pairs for miss in _differs(one, two, f"{where}[{n}]")]
    if isinstance(shown, str) and isinstance(found, str) and "…" in shown:
        pattern = ".*".join(map(re.escape, shown.split("…")))
        return [] if re.fullmatch(pattern, found, re.DOTALL) else [f"{where}: {found!r}"]
    return [] if shown == found else [f"{where}: {found!r} instead of {shown!r}"]
