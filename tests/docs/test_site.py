"""The documentation as a site: it is built, its links lead somewhere, and nothing is loaded from elsewhere."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest
from scripts import draw_diagrams
from scripts.docs_site import build

from examples import ROOT

LOADING: Final = frozenset(
    {"script", "img", "iframe", "source", "video", "audio", "embed", "object"}
)
LOADED_LINKS: Final = frozenset(
    {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
)


class Page(HTMLParser):
    """What a page loads, what it links to, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of an element."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        address = given.get("href", given.get("src", given.get("data", "")))
        rels = set(given.get("rel", "").split())
        if tag in LOADING or (tag == "link" and rels & LOADED_LINKS):
            self.loaded.append(address)
        elif tag == "a":
            self.links.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Build the site; returns its pages."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return {path: Page(path) for path in folder.rglob("*.html")}


def targets(path: Path, page: Page) -> Iterator[tuple[str, Path, str]]:
    """Yield the links of a page within the site: as written, the file, and the place in it."""
    for link in page.links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            yield link, file / "index.html" if file.is_dir() else file, unquote(parts.fragment)


@pytest.mark.usefixtures("_full_suite")
def test_the_site_is_whole(site: dict[Path, Page], subtests: pytest.Subtests) -> None:
    """One build, as it takes long."""
    with subtests.test("every page is there"):
        pages = {path.stem for path in site}
        sources = {path.stem for path in (ROOT / "docs").rglob("*.md")} - {"README"}
        assert sources <= pages

    with subtests.test("no link is broken, neither to a page nor to a file of the repository"):
        broken = [
            (path.name, link)
            for path, page in site.items()
            if path.name != "404.html"
            for link, file, place in targets(path, page)
            if not file.exists() or (place and file in site and place not in site[file].places)
        ]
        assert broken == []

    with subtests.test("nothing is loaded from elsewhere"):
        foreign = [
            (path.name, address)
            for path, page in site.items()
            for address in page.loaded
            if urlsplit(address).netloc
        ]
        assert foreign == []

    with subtests.test("diagrams are drawn without a script, which would come from elsewhere"):
        texts = {path: path.read_text() for path in site}
        assert [path.name for path, text in texts.items() if 'class="mermaid"' in text] == []
        drawn = sum(text.count('<div class="diagram"><svg ') for text in texts.values())
        assert drawn == len(list(draw_diagrams.sources()))

    with subtests.test("all pages can be searched"):
        (index,) = {
            path.parent / "search.json"
            for path in site
            if path.name == "index.html" and (path.parent / "search.json").exists()
        }
        assert len(json.loads(index.read_text())["items"]) > len(site)


def test_every_diagram_is_drawn() -> None:
    """Run ``python -m scripts.draw_diagrams mermaid.min.js`` after a change of a diagram."""
    drawings = {draw_diagrams.drawing(source) for source in draw_diagrams.sources()}

    assert drawings
    assert set(draw_diagrams.DRAWINGS.iterdir()) == drawings
