"""The documents refer to existing things, and are complete."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import ROOT, examples
from fleek.domain.job import TRANSITIONS

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"(?<![\w/.-])(?:\w[\w-]*/)*\w[\w-]*\.py\b|(?<![\w/.-])(?:[\w-]+/)+(?![\w{.…])")
ARROW = re.compile(r"^ +([a-z]+) --> ([a-z]+)(?=:|$)", re.MULTILINE)
FUNCTION = re.compile(r"^[ │├└─]*((?:\w+/)+\w+\.py)\s+(\w+)\(\)", re.MULTILINE)
ELSEWHERE = ("https://", "http://")

UNWANTED = re.compile(
    r"/work/|/root/|/home/\w+|/tmp/|pypi|pythonhosted|npmjs|registry\.\w+\.\w+|"
    r"\bcanceled\b|\bcancelation\b",
    re.IGNORECASE,
)


def functions(path: Path) -> set[str]:
    """Return the names of all functions and methods in a module."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def section(text: str, title: str) -> str:
    """Return the text below a heading of the second level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def anchors(page: Path) -> set[str]:
    """Return the possible targets behind ``#`` of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}


def test_every_link_has_a_target(subtests: pytest.Subtests) -> None:
    """Broken links end a reader's search."""
    for page in PAGES:
        with subtests.test(page=str(page)[:40]):
            links = [
                link for link in LINK.findall(page.read_text()) if not link.startswith(ELSEWHERE)
            ]
            targets = [link.partition("#") for link in links]
            places = [
                ((page.parent / path if path else page).resolve(), name)
                for path, _, name in targets
            ]

            dead = [str(place) for place, name in places if not place.exists()]
            lost = [
                (str(place), name) for place, name in places if name and name not in anchors(place)
            ]

            assert (dead, lost) == ([], [])


def test_every_make_target_exists(subtests: pytest.Subtests) -> None:
    """Documented commands have to work."""
    for page in PAGES:
        with subtests.test(page=str(page)[:40]):
            targets = set(
                re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            )

            named = set(re.findall(r"(?:`|^|=\S+ )make ([a-z-]+)", page.read_text(), re.MULTILINE))

            assert named <= targets


def test_documents_contain_no_local_paths(subtests: pytest.Subtests) -> None:
    """Folders and hosts of an author's machine help no reader; some words have one spelling."""
    for page in PAGES:
        with subtests.test(page=str(page)[:40]):
            assert UNWANTED.findall(page.read_text()) == []


def test_every_page_is_linked() -> None:
    """Pages without a link are not read."""
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text())
        if not link.startswith((*ELSEWHERE, "#"))
    }

    assert set(PAGES) - linked == {ROOT / "README.md"}


def test_every_path_of_the_architecture_exists() -> None:
    """Newcomers can follow the way of a job if every reference is right."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(PATH.findall(text)) - {"dispatch/", "work/"} | {"dispatch/base.py"}

    missing = {
        path
        for path in named
        if not (ROOT / path).exists() and not (ROOT / "src/fleek" / path).exists()
    }

    assert len(named) > 40
    assert missing == set()


def test_every_function_of_the_architecture_exists() -> None:
    """The diagram is a table of contents."""
    found = FUNCTION.findall((ROOT / "ARCHITECTURE.md").read_text())

    lost = [
        (path, name) for path, name in found if name not in functions(ROOT / "src/fleek" / path)
    ]

    assert len(found) > 8
    assert lost == []


def test_the_diagram_of_states_is_the_table_of_transitions() -> None:
    """The diagram must show exactly the possible transitions."""
    drawn = set(ARROW.findall((ROOT / "ARCHITECTURE.md").read_text()))

    allowed = {(str(state), str(to)) for state, tos in TRANSITIONS.items() for to in tos}
    assert drawn == allowed


def test_every_package_is_in_the_architecture() -> None:
    """New packages need a place in the design."""
    rooms = {
        f"`{path.name}/`" if path.is_dir() else f"`{path.name}`"
        for path in (ROOT / "src/fleek").iterdir()
        if not path.name.startswith("_") and path.suffix in {"", ".py"}
    }

    text = section((ROOT / "ARCHITECTURE.md").read_text(), "Packages")

    assert {room for room in rooms if room not in text} == set()


def guarantees() -> Iterator[tuple[str, str]]:
    """Yield the file and the name of each test that proves a guarantee."""
    text = (ROOT / "GUARANTEES.md").read_text()
    yield from re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def test_every_guarantee_names_existing_tests() -> None:
    """A guarantee needs a proof."""
    found = list(guarantees())
    promises = section((ROOT / "GUARANTEES.md").read_text(), "Promised").split("\n### ")[1:]

    lost = [(path, name) for path, name in found if name not in functions(ROOT / path)]

    assert len(promises) > 7
    assert [promise for promise in promises if "`tests/" not in promise] == []
    assert lost == []


def test_decisions_are_numbered_listed_and_complete() -> None:
    """They are permanently found by their number."""
    pages = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    index = (ROOT / "docs/adr/README.md").read_text()

    for number, page in enumerate(pages, start=1):
        text = page.read_text()
        title = text.partition("\n")[0].removeprefix(f"# {number}. ")
        assert f"- {number:04} [{title}]({page.name})" in index
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ]


def test_every_route_and_field_is_in_the_reference() -> None:
    """The reference covers the whole OpenAPI description."""
    text = (ROOT / "docs/reference/api.md").read_text()
    document = json.loads((ROOT / "tests/docs/openapi.json").read_text())
    schemas = ("JobCreate", "JobRead", "OutputRead", "FlatJob", "ModelRead", "Problem")

    routes = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    fields = {
        field
        for name in schemas
        for field in document["components"]["schemas"][name]["properties"]
    }

    assert {route for route in routes if f"`{route}`" not in text} == set()
    assert {field for field in fields if f"`{field}`" not in text} == set()


def test_every_marker_of_tests_is_explained() -> None:
    """Tests that are left out by default are listed, with the command to run them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    markers = {marker.partition(":")[0] for marker in settings["markers"]}

    text = section((ROOT / "CONTRIBUTING.md").read_text(), "Tests that `make test` leaves out")

    assert markers
    assert {marker for marker in markers if f"| `{marker}` |" not in text} == set()


def test_the_readme_lists_existing_settings_only() -> None:
    """Its table is an extract of the whole table."""
    few = section((ROOT / "README.md").read_text(), "Settings")
    every = (ROOT / "docs/reference/settings.md").read_text()

    named = set(re.findall(r"`([A-Z][A-Z_]+)`", few))

    assert len(named) > 7
    assert {name for name in named if f"| `{name}`" not in every} == set()


def test_examples_are_found() -> None:
    """Pages with tested examples must contain some: a new syntax would hide them."""
    shown = [one for one in examples(ROOT / "README.md") if one.shown is not None]

    assert len(shown) > 12
    assert {one.language for one in shown} == {"sh", "python"}
