# ruff: noqa: INP001 - a program, not a package
"""Build the documentation as a site: ``python -m scripts.docs_site [FOLDER]``, by default ``site/``.

The Markdown is that of the repository: its pages are copied side by side, so that their links stay.
Zensical (a development dependency) makes pages of them, with a search and a dark scheme; nothing of
the result is loaded from elsewhere.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "GUARANTEES.md", "CHANGELOG.md"),
    *("SECURITY.md", "LICENSE"),
)
CONFIG: Final = """
[project]
site_name = "Fleek"
site_description = "The media-generation service that never loses a job and never pays twice"
docs_dir = "pages"
site_dir = "built"
use_directory_urls = false

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


def build(target: Path) -> None:
    """Write the site into a folder, which is replaced.

    Raises:
        CalledProcessError: The pages cannot be built, or a link leads nowhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "zensical.toml").write_text(CONFIG)
        shutil.copytree(ROOT / "docs", work / "pages/docs")
        for page in PAGES:
            shutil.copy(ROOT / page, work / "pages" / page)
        for copied in (work / "pages").rglob("*.md"):
            # a diagram would be drawn by a script from elsewhere; it can be read as it is written
            copied.write_text(copied.read_text().replace("```mermaid", "```text"))
        program = Path(sys.executable).parent / "zensical"
        subprocess.run([program, "build", "--strict"], cwd=work, check=True)  # noqa: S603 - a development tool
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "built", target)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
