"""Discarded words stay out of names, log events and documents.

The list is the table in ``docs/reference/glossary.md``: one word for one thing.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from examples import ROOT

GLOSSARY: Final = ROOT / "docs/reference/glossary.md"
CODE: Final = ("src", "scripts", "benchmarks")
IN_TESTS: Final = (  # names of tests are sentences: only the worst words are rejected
    *("bought", "buy", "buying", "buys", "purchase", "purchases", "sell", "sells", "sold"),
    *("anybody", "everybody", "nobody", "somebody", "whoever"),
    *("heard", "hears", "told", "nudge", "nudges", "settled", "stranger", "strangers", "twins"),
)
TEST: Final = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
ROW: Final = re.compile(r"^\| ([a-z, ]+) \| (.+) \|$", re.MULTILINE)
WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
QUOTED: Final = re.compile(r"`[^`]*`|\]\([^)]*\)")  # code, and the targets of links


def discarded() -> dict[str, str]:
    """Return each discarded word or phrase with its replacement."""
    table = GLOSSARY.read_text().partition("## Words that we do not use\n")[2]
    return {
        word: replacement
        for words, replacement in ROW.findall(table)
        for word in words.split(", ")
        if replacement != "Instead"
    }


def words_of(name: str) -> str:
    """Return the words of an identifier: ``take_out`` and ``TakeOut`` are `take out`."""
    return " ".join(WORD.findall(name)).lower()


def names(path: Path) -> Iterator[str]:
    """Yield the module's name and every identifier in it, as words."""
    yield words_of(path.stem)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield words_of(token.string)


def log_events(path: Path) -> Iterator[str]:
    """Yield the event of every call of a logger, as words."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            logger = node.func.value
            if isinstance(logger, ast.Name) and logger.id == "log" and node.args:
                event = node.args[0]
                if isinstance(event, ast.Constant) and isinstance(event.value, str):
                    yield words_of(event.value)


def prose(path: Path) -> Iterator[str]:
    """Yield the lines of a document without its code."""
    text = FENCED.sub("", path.read_text())
    if path == GLOSSARY:
        text = text.partition("## Words that we do not use\n")[0]
    for line in text.splitlines():
        yield QUOTED.sub("", line).lower()


def uses(texts: Iterable[str], words: Iterable[str]) -> set[str]:
    """Return the discarded words that occur in texts."""
    seen = set(texts)
    pattern = re.compile(rf"\b({'|'.join(words)})\b")
    return {found for text in seen for found in pattern.findall(text)}


def names_of_tests(path: Path) -> Iterator[str]:
    """Yield the name of each test in a file, as words."""
    yield from map(words_of, TEST.findall(path.read_text()))


def python_files() -> list[Path]:
    """Return all Python files of the project except migrations, which never change."""
    return [
        path
        for folder in CODE
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "migrations" not in path.parts
    ]


def documents() -> list[Path]:
    """Return all pages except the changelog and the decisions, which record the past."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [page for page in pages if page.name != "CHANGELOG.md" and page.parent.name != "adr"]


def complaints(path: Path, found: Iterable[str]) -> list[str]:
    """Return one line for each discarded word in a file."""
    words = discarded()
    where = path.relative_to(ROOT)
    return [f"{where}: {word}: instead {words[word]}" for word in sorted(found)]


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_no_name_uses_a_discarded_word() -> None:
    """Names of modules and identifiers are checked."""
    words = discarded()

    found = [
        line for path in python_files() for line in complaints(path, uses(names(path), words))
    ]

    assert found == []


@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_no_log_event_uses_a_discarded_word() -> None:
    """Operators search for the words of the documents."""
    words = discarded()

    found = [
        line for path in python_files() for line in complaints(path, uses(log_events(path), words))
    ]

    assert found == []


def test_no_name_of_a_test_uses_an_idiom() -> None:
    """Names of tests describe behaviours with nouns and standard terms."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in names_of_tests(path)
        if uses([name], IN_TESTS)
    ]

    assert found == []


def test_no_document_uses_a_discarded_word() -> None:
    """Documents use one word for one thing."""
    words = discarded()

    found = [line for path in documents() for line in complaints(path, uses(prose(path), words))]

    assert found == []


@pytest.mark.parametrize("name", ["nudge_all", "NudgeAll", "NUDGE_ALL", "_nudge"])
def test_a_word_in_a_name_is_found(name: str) -> None:
    """It may be written in any case."""
    assert uses([words_of(name)], ["nudge"]) == {"nudge"}


def test_an_idiom_in_the_name_of_a_test_is_found(tmp_path: Path) -> None:
    """Names of methods and of coroutines are checked, too."""
    path = tmp_path / "test_idioms.py"
    path.write_text("    async def test_whoever_waits():\n        ...\n")

    assert uses(names_of_tests(path), IN_TESTS) == {"whoever"}


def test_the_list_is_read() -> None:
    """With an empty list every test here would pass."""
    assert len(discarded()) > 20
