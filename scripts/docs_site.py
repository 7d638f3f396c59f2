# ruff: noqa: INP001 - a program, not a package
"""Build the documentation as a site: ``python -m scripts.docs_site [FOLDER]``, by default ``site/``.

The Markdown is that of the repository: its pages are copied side by side, so that their links stay.
Files of the repository to which a page links are beside them: text becomes a page that shows it.
Zensical (a development dependency) makes pages of them, with a search and a dark scheme; nothing of
the result is loaded from elsewhere. Diagrams are inserted as ``scripts/draw_diagrams.py`` drew them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from scripts.draw_diagrams import DIAGRAM, drawing

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "GUARANTEES.md", "CHANGELOG.md"),
    *("SECURITY.md", "benchmarks/RESULTS.md"),
)
CONFIG: Final = """
[project]
site_name = "Fleek"
site_description = "The media-generation service that never loses a job and never pays twice"
docs_dir = "pages"
site_dir = "built"
use_directory_urls = false
extra_css = ["diagrams.css"]

[project.theme]
variant = "modern"
language = "en"
font = false
features = ["navigation.indexes", "navigation.top", "search.highlight", "content.code.copy", "toc.follow"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Use the dark scheme"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Use the light scheme"
"""


LINK: Final = re.compile(r"(\]\()(?!https?://|#)([^)\s#]+)")
LANGUAGES: Final = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".json": "json"}
SHEET: Final = """
.diagram { overflow-x: auto; margin: 1.5em 0; }
.diagram .statediagram { min-width: 54rem; }
.diagram svg { font: 16px var(--md-text-font-family, sans-serif); }
.diagram text { fill: var(--md-typeset-color); }
.diagram .edgeLabel text, .diagram .flowchart text { text-anchor: middle; }
.diagram .node rect, .diagram .node path, .diagram .node polygon {
  fill: var(--md-code-bg-color); stroke: var(--md-default-fg-color--light);
}
.diagram .node circle, .diagram .node .outer-path path { fill: var(--md-typeset-color); stroke: var(--md-typeset-color); }
.diagram .transition, .diagram .flowchart-link { fill: none; stroke: var(--md-default-fg-color--light); }
.diagram marker path { fill: var(--md-default-fg-color--light); stroke: none; }
.diagram .edgeLabel rect { fill: var(--md-default-bg-color); }
"""


def build(target: Path) -> None:
    """Write the site into a folder, which is replaced.

    Raises:
        CalledProcessError: The pages cannot be built, or a link leads nowhere.
        FileNotFoundError: A diagram is not drawn.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pages = work / "pages"
        (work / "zensical.toml").write_text(CONFIG)
        shutil.copytree(ROOT / "docs", pages / "docs")
        for page in PAGES:
            (pages / page).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / page, pages / page)
        (pages / "diagrams.css").write_text(SHEET)
        for copied in sorted(pages.rglob("*.md")):
            text = DIAGRAM.sub(_drawn, copied.read_text())
            copied.write_text(_with_files(text, copied, pages))
        program = Path(sys.executable).parent / "zensical"
        subprocess.run([program, "build", "--strict"], cwd=work, check=True)  # noqa: S603 - a development tool
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "built", target)


def _drawn(found: re.Match[str]) -> str:
    """Return a diagram as HTML, with the drawing inside, so that the style sheet applies to it."""
    svg = drawing(found[1]).read_text().strip()
    return f'<div class="diagram">{svg}</div>'


def _with_files(text: str, page: Path, pages: Path) -> str:
    """Return a page whose links to files of the repository lead to pages that show them."""

    def shown(found: re.Match[str]) -> str:
        target = ROOT / os.path.normpath(page.parent.relative_to(pages) / found[2])
        if target.suffix == ".md" or (ROOT / "docs") in target.parents or not target.exists():
            return found[0]
        beside = show(target, pages)
        return found[1] + os.path.relpath(beside, page.parent)

    return LINK.sub(shown, text)


def show(source: Path, pages: Path) -> Path:
    """Write the page that shows a file, or the files of a folder; returns its path."""
    path = source.relative_to(ROOT)
    page = pages / "files" / f"{path.as_posix().replace('/', '-').lstrip('.')}.md"
    page.parent.mkdir(exist_ok=True)
    files = (
        sorted(each for each in source.rglob("*") if each.is_file())
        if source.is_dir()
        else [source]
    )
    parts = [f"# {path}"]
    for file in files:
        if source.is_dir():
            parts.append(f"## {file.relative_to(source)}")
        parts.append(f"`````{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}`````")
    page.write_text("\n\n".join(parts) + "\n")
    return page


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
