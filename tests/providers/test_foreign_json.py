"""Large untrusted bodies are parsed in small steps, with the results of `json.loads`."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek.domain.data_uri import DataUriUnreadable, decode
from fleek.domain.media import Output
from fleek.domain.text import PIECE, LongText, pieces_of
from fleek.providers.foreign_json import NotJson, parse
from fleek.providers.outputs import read_outputs

SMALL = 16  # bytes per piece, so that short texts have many pieces


def plain(value: Any) -> Any:
    """Return a value with its long texts as plain strings."""
    if isinstance(value, LongText):
        assert len(str(value)) == len(value)
        return str(value)
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


CASES = {
    "escapes": rb'["%s"]' % (rb"a\"b\\\/\b\f\n\r\t" * 20),
    "backslashes": rb'["%s"]' % (rb"\\" * 99),
    "pairs": rb'["%s"]' % (rb"\ud83d\ude00" * 20),
    "pairs that borders part": rb'["abc%s"]' % (rb"\ud83d\ude00" * 20),
    "halves": rb'["%s"]' % (rb"\ud83d" * 20),
    "other halves": rb'["%s"]' % (rb"\ude00\ud83d" * 20),
    "no half": rb'["%s"]' % (rb"1234567\\ud83dx" * 20),
    "non-ASCII": '["{}"]'.format("xäß€😀" * 20).encode(),
    "raw halves": b'["' + b"\xed\xa0\xbd" * 20 + b'"]',
    "several": json.dumps({"a": "x" * 99, "b": ["y" * 99, {"c": "z" * 99}]}).encode(),
    "doubled keys": b'{"a": "%s", "a": "%s"}' % (b"x" * 50, b"y" * 50),
    "long keys": b'{"%s": 1}' % (b"k" * 99),
    "whitespace": b" \t\r\n" * 40 + b"[" + b" " * 40 + b"1 , 2" + b"\n" * 40 + b"]" + b" " * 40,
    "numbers": b"[-0, 1.5e3, 12345678901234567890, NaN, Infinity, -Infinity, true, false, null]",
    "a mark at the beginning": b"\xef\xbb\xbf" + b'{"a": "%s"}' % (b"x" * 99),
    "empty ones": b'[{}, [], "", {"": []}, [{}], [[]]]' + b" " * 20,
    "brackets in strings": b'["%s"]' % (b"[{,:}]" * 30),
}
BROKEN = [
    b'["%s' % (b"x" * 99),
    b'["%s\\' % (b"x" * 99),
    b'["%s\\"]' % (b"x" * 99),
    b'["%s\\u12"]' % (b"x" * 99),
    b'["%s\\x"]' % (b"x" * 99),
    b'["%s\n"]' % (b"x" * 99),
    b'["%s\xff"]' % (b"x" * 99),
    b'["%s\x80\x80\x80\x80\x80"]' % (b"x" * 13),
    b"[1, 2, 3, 4, 5, 6, 7,]",
    b'{"a": 1, "b": 2, "c": 3,}',
    b'{"a": 1, "b": 2, "c"}',
    b"{1: 1, 2: 2, 3: 3, 4: 4}",
    b"[1 2 3 4 5 6 7 8 9 10]",
    b"[01, 1., .1, +1, 1e, --1]",
    b"[nulls, True, Infinity2, nan]",
    b"[[[[[[[[[[[[[[[[[[[[]]]]",
    b"[] [] [] [] [] [] [] []",
    b" " * 99,
    b"[1]                   \x0c",
    "[]".encode("utf-16") * 20,
]


def test_a_value_parsed_in_pieces_is_the_same(subtests: pytest.Subtests) -> None:
    """Every position of the borders is tried."""
    for body in CASES.values():
        with subtests.test(body=str(body)[:40]):
            expected = repr(json.loads(body))
            assert {
                repr(plain(parse(body, piece=piece, whole=0))) for piece in range(SMALL, 40)
            } == {expected}


def test_invalid_json_is_refused(subtests: pytest.Subtests) -> None:
    """The parser in pieces is as strict as the library."""
    for body in BROKEN:
        with subtests.test(body=str(body)[:40]), pytest.raises(NotJson):
            parse(body, piece=SMALL, whole=0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=VALUES, ascii_only=st.booleans(), piece=st.integers(SMALL, 40))
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_any_json_is_parsed_as_by_the_library(value: Any, *, ascii_only: bool, piece: int) -> None:
    """No value is changed."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert repr(plain(parse(body, piece=piece, whole=0))) == repr(json.loads(body))


@given(text=st.text('{}[]",:\\u0d83e \t1-.ntf', max_size=60))
def test_any_text_is_refused_as_by_the_library(text: str) -> None:
    """Both accept the same texts."""
    body = text.encode() + b" " * SMALL
    try:
        expected: Any = repr(json.loads(body))
    except ValueError:
        expected = NotJson
    try:
        found: Any = repr(plain(parse(body, piece=SMALL, whole=0)))
    except NotJson:
        found = NotJson
    assert found == expected


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize(
    "body",
    [b"[" * 101 + b"]" * 101, b"[%s0]" % (b"0," * 250_000)],
    ids=["too deep", "too many values"],
)
def test_limits_hold_for_large_bodies(body: bytes) -> None:
    """They are those of small ones."""
    with pytest.raises(NotJson):
        parse(body, piece=SMALL, whole=0)


def test_each_step_parses_at_most_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of the library stops every thread until it returns."""
    given: list[int] = []
    loads = json.loads

    def counting(text: str | bytes) -> Any:
        given.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counting)
    uri = "data:image/png;base64," + base64.b64encode(bytes(6 * PIECE)).decode()
    parsed = parse(json.dumps({"output": [uri, "w" * 3 * PIECE], "logs": "x"}).encode(), whole=0)
    first, words = read_outputs(parsed["output"])

    assert isinstance(first.uri, LongText)
    assert b"".join(decode(iter(first.uri))) == bytes(6 * PIECE)
    assert isinstance(words.text, LongText)
    assert loads(str(words.text)) == [{"output": 0}, "w" * 3 * PIECE]
    assert max(map(len, (*first.uri, *words.text))) <= PIECE
    assert max(given) <= PIECE + 2


def test_long_text_in_parts_is_one_text() -> None:
    """Several long parts are joined to one output."""
    long = "wörd " * PIECE
    parsed = parse(json.dumps([long, "and", long]).encode(), whole=0)
    (output,) = read_outputs(parsed)
    assert isinstance(output.text, LongText)
    assert str(output.text) == f"{long}and{long}"
    assert read_outputs(parse(json.dumps(long).encode(), whole=0))[0].uri is None


URIS = {
    "data:,a%20b%41%4": b"a bA%4",
    "data:;base64,AAEC\n AwQF": bytes(range(6)),
    "data:;base64,AAECAw": bytes(range(4)),
    "data:;base64,AAECAw==": bytes(range(4)),
    "data:;base64,%41AECAw%3D%3D#fragment": bytes(range(4)),
    "data:;base64,_-8=": b"\xff\xef",
    "data:,%E2%82%AC€#f": "€€".encode(),
    " data:;base64,": b"",
}


@pytest.mark.parametrize(("uri", "content"), URIS.items())
def test_a_data_uri_is_decoded_in_pieces(uri: str, content: bytes) -> None:
    """A border may split groups of base64, escapes and padding."""
    head = uri.index(",") + 1
    for size in range(1, 9):
        pieces = iter((uri[:head], *pieces_of(uri[head:], size)))
        if size < 8 and "#" in uri:
            continue  # a fragment must end within the last two pieces
        assert b"".join(decode(pieces)) == content


@pytest.mark.parametrize("body", ["AA==AAAA", "AAAAA", "AA=A", "AAA!"])
def test_invalid_base64_is_found_across_pieces(body: str) -> None:
    """Padding ends the data, also at the end of a piece."""
    for size in range(1, 9):
        with pytest.raises(DataUriUnreadable):
            b"".join(decode(iter(("data:;base64,", *pieces_of(body, size)))))


def test_a_long_text_is_not_an_address() -> None:
    """Only a `data:` URI may be that long."""
    words = LongText(lambda: iter(["http://host/a.png", " and more"]), 26)
    assert read_outputs(words) == (Output(text=words),)


def test_schemas_have_plain_strings() -> None:
    """They are compared, written and shown by code that expects strings."""
    parsed = parse(json.dumps({"description": "x" * 2 * PIECE}).encode())
    assert isinstance(parsed["description"], str)


def test_a_long_text_equals_the_same_string() -> None:
    """Lost predictions are found by their input, which may hold a long text."""
    text = LongText(lambda: iter(["ab", "", "cde"]), 5)
    assert {"input": text} == {"input": "abcde"}
    assert text not in ("abcdf", "abcd", 5)
