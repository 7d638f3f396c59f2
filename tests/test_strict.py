"""JSON is parsed strictly, written compactly, and both fast."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleek import strict
from fleek.domain.errors import Unreadable

CANARY = "canary"

REFUSED = {
    "empty": b"",
    "white space only": b" \n\t",
    "two values": b'{"a": 1} {"b": 2}',
    "one brace too many": b'{"a": 1}}',
    "cut off": b'{"a": ',
    "single quotes": b"{'a': 1}",
    "comment": b'{"a": 1} // canary',
    "trailing comma": b'{"a": 1,}',
    "no-break space around": b"\xc2\xa0{}",
    "full-width digits": b'{"a": \xef\xbc\x91}',
    "leading zero": b"01",
    "plus sign": b"+1",
    "hexadecimal": b"0x10",
    "raw new line in a string": b'"a\nb"',
    "escape that does not exist": b'"\\q"',
    "escape that is too short": b'"\\u12"',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16 with its mark": '{"a": 1}'.encode("utf-16"),
    "UTF-16, low byte first": '{"a": 1}'.encode("utf-16-le"),
    "UTF-16, high byte first": '{"a": 1}'.encode("utf-16-be"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "Latin-1": '"é"'.encode("latin-1"),
    "bytes that are never UTF-8": b"\xff\xfe",
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "overlong slash": b'"\xc0\xaf"',
    "doubled key": b'{"a": 1, "a": 2}',
    "doubled key, once escaped": b'{"a": 1, "\\u0061": 2}',
    "doubled key deep inside": b'[{"b": {"a": 1, "a": 1}}]',
    "NaN": b'{"a": NaN}',
    "Infinity": b"[Infinity]",
    "minus Infinity": b"-Infinity",
    "float that overflows": b"1e999",
    "negative float that overflows": b"-1e400",
    "2 to the 63rd": b"9223372036854775808",
    "below minus 2 to the 63rd": b"-9223372036854775809",
    "4301 digits": b"1" * 4301,
    "a million digits": b"1" * 1_000_000,
    "high surrogate": b'"\\ud800"',
    "low surrogate in a key": b'{"\\udfff": 1}',
    "surrogates the wrong way round": b'["\\ude00\\ud83d"]',
    "NUL, escaped": b'{"a": ["b\\u0000"]}',
    "NUL, raw": b'"\x00"',
    "NUL in a key": b'{"\\u0000": 1}',
    "33 levels": b"[" * 33 + b"]" * 33,
    "33 levels of objects": b'{"a":' * 33 + b"1" + b"}" * 33,
    "100,000 levels": b"[" * 100_000,
    "an end before the beginnings": b"]" + b"[" * 40,
    "100,000 ends": b"[" * 40 + b"]" * 100_000,
    "5001 values": b"[" + b"1," * 4999 + b"1]",
    "5001 values in objects": b"[" + b'{"a":1},' * 2499 + b'{"a":1,"b":1}]',
}


def test_ambiguous_json_is_refused(subtests: pytest.Subtests) -> None:
    """Parsers that read one body differently are a vulnerability."""
    for data in REFUSED.values():
        with subtests.test(data=str(data)[:40]), pytest.raises(Unreadable):
            strict.loads(data)


def test_an_error_does_not_repeat_its_input(subtests: pytest.Subtests) -> None:
    """The input could get into logs and pages."""
    for data in REFUSED.values():
        with subtests.test(data=str(data)[:40]):
            with pytest.raises(Unreadable) as refusal:
                strict.loads(data)

            assert CANARY not in str(refusal.value)
            assert len(str(refusal.value)) < 100


READ = {
    "nothing": b"null",
    "largest whole number": b"9223372036854775807",
    "smallest whole number": b"-9223372036854775808",
    "float too small to tell from 0": b"1e-999",
    "float with a thousand digits": b"0." + b"1" * 1000,
    "surrogate pair": b'"\\ud83d\\ude00"',
    "escaped backslash before u0000": b'"\\\\u0000"',
    "32 levels": b"[" * 32 + b"]" * 32,
    "5000 values": b"[" + b"1," * 4998 + b"1]",
    "brackets and commas inside a string": json.dumps('[{,\\"' * 20_000).encode(),
    "white space around": b" \r\n\t{ } ",
    "keys that differ in case only": b'{"a": 1, "A": 2}',
}


@pytest.mark.parametrize("data", READ.values(), ids=READ.keys())
def test_valid_json_has_the_usual_values(data: bytes) -> None:
    """They are those of any other parser."""
    assert strict.loads(data) == json.loads(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")), inner, max_size=5
        )
    ),
    max_leaves=20,
)


@given(JSON)
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_written_values_are_read_back(value: object) -> None:
    """`dumps` and `loads` are used for the same columns."""
    assert strict.loads(strict.dumps(value)) == value


@given(JSON)
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_escaped_text_is_read_back(value: object) -> None:
    """Many clients escape everything that is not ASCII."""
    assert strict.loads(json.dumps(value).encode()) == value


@given(st.binary() | st.text(st.sampled_from('[]{}",:\\u0d8 1e9-.ntf')).map(str.encode))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    """No other error is possible."""
    try:
        value = strict.loads(data)
    except Unreadable:
        return

    assert strict.loads(strict.dumps(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {"\udfff": 1}], ids=repr)
def test_unreadable_values_are_not_written(value: object) -> None:
    """Other programs read the output."""
    with pytest.raises(ValueError, match=r"compliant|surrogates"):
        strict.dumps(value)


def test_output_is_compact_and_in_order() -> None:
    """Limits in bytes count what is stored."""
    assert strict.dumps({"b": [1, "é"], "a": None}) == '{"b":[1,"é"],"a":null}'.encode()


TEXTS = ('"', "\\", '\\"', "\\\\", '","', "[", "{", "]", "a", "\n", "é")


@given(st.recursive(st.lists(st.sampled_from(TEXTS)).map("".join), st.lists, max_leaves=20))
@pytest.mark.usefixtures("_full_suite")  # takes a second
def test_the_contents_of_strings_are_not_counted(value: object) -> None:
    """Quotes, brackets and commas in them, escaped or not, are neither values nor levels."""
    written = json.dumps([value, *["x"] * 50, [","] * 10]).encode()

    assert strict.loads(written) == json.loads(written)


@pytest.mark.parametrize("member", ['"\\\\\\""', '"[,{"', "1"])
def test_the_maximum_of_values_is_exact(member: str) -> None:
    """One more is refused, whatever they are."""
    most = strict.MAX_NODES - 1

    assert len(strict.loads(f"[{','.join([member] * most)}]".encode())) == most
    with pytest.raises(Unreadable, match="values"):
        strict.loads(f"[{','.join([member] * (most + 1))}]".encode())


def test_the_maximum_of_members_is_exact() -> None:
    """Names do not count as values, however many quotes they have."""
    most = strict.MAX_NODES - 1
    members = ",".join(f'"k{number}":"\\"v\\\\"' for number in range(most))

    assert len(strict.loads(f"{{{members}}}".encode())) == most
    with pytest.raises(Unreadable, match="values"):
        strict.loads(f'{{{members},"one":"more"}}'.encode())
