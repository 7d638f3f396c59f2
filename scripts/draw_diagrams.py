# ruff: noqa: INP001 - a program, not a package
"""Draw the Mermaid diagrams of the documentation: ``python -m scripts.draw_diagrams mermaid.min.js``.

The script is the file of this name in Mermaid's npm package. The drawings are kept in the repository
by the hash of their source, so that building the site needs neither the script nor a browser. They have
no colours of their own: the site's style sheet gives them those of its scheme.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright
from scripts.chromium import find

ROOT: Final = Path(__file__).parents[1]
DRAWINGS: Final = ROOT / "docs/images/diagrams"
DIAGRAM: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
UNUSED: Final = re.compile(
    r"<style>.*?</style>|<defs><filter.*?</filter></defs>| data-[a-z-]+=\"[^\"]*\"", re.DOTALL
)
OPTIONS: Final = {
    "startOnLoad": False,
    "htmlLabels": False,
    "fontFamily": "sans-serif",
    "state": {"htmlLabels": False},
    "flowchart": {"htmlLabels": False},
}
DRAW: Final = """async ([options, name, source]) => {
    mermaid.initialize(options);
    return (await mermaid.render(name, source)).svg;
}"""


def drawing(source: str) -> Path:
    """Return the path of the drawing of a diagram's source."""
    return DRAWINGS / f"{hashlib.sha256(source.encode()).hexdigest()[:12]}.svg"


def sources() -> Iterator[str]:
    """Yield the source of every diagram."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        yield from DIAGRAM.findall(page.read_text())


def draw(script: Path) -> None:
    """Draw all diagrams anew."""
    DRAWINGS.mkdir(exist_ok=True)
    for old in DRAWINGS.glob("*.svg"):
        old.unlink()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=script)
        for source in sources():
            target = drawing(source)
            svg = page.evaluate(DRAW, [OPTIONS, f"diagram-{target.stem}", source])
            target.write_text(UNUSED.sub("", svg) + "\n")
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
