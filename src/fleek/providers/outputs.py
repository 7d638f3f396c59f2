"""The conversion of a prediction's output, of any shape, to a list of files.

Nothing that the model returned is dropped. Files come first, in their order in the output; all
other values come last, as one JSON document in which the n-th file is written as
``{"output": n}``. A list of words, as language models return it, is one text.

An address that cannot be fetched (``gs://…``, ``file:…``, a path) counts as a file, so that
fetching it fails with a reason: a job never completes with an address as its text. Beside other
files, it is kept in the document.
"""

import base64
import json
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from fleek.domain.data_uri import is_cut_data_uri, is_data_uri, storable_uri
from fleek.domain.media import Output
from fleek.domain.text import BLANKS, UNSTORABLE, LongText, head_of, joined
from fleek.domain.values import dataclass
from fleek.outbound.addresses import UnsafeAddress, normalized

MAX_CHARS: Final = 65_536  # maximum length of an address
FILE_ENDINGS: Final = (
    "apng|avif|bmp|exr|gif|heic|heif|ico|jpe?g|jxl|png|psd|svg|tiff?|webp"
    "|avi|m4v|mkv|mov|mp4|mpe?g|ogv|webm"
    "|aac|aiff?|flac|m4a|midi?|mp3|oga|ogg|opus|wav|wma"
    "|fbx|glb|gltf|npy|npz|obj|pdf|ply|safetensors|splat|stl|usdz|zip|tar|t?gz"
)

_HTTP: Final = re.compile(r"https?:(?:[/\\]+[^\s/\\]|[^\s/\\]+\.)", re.IGNORECASE)
_STRANGE: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"|(?P<local>file|blob|filesystem|cid|content):\S"
    r"|(?P<relative>//[^\s/]+\.[^\s/]+/?)",
    re.IGNORECASE,
)
_PATH: Final = re.compile(
    r"(?:~|\.{1,2})?/[^\s/]*+/\S*|(?:~|\.{1,2})/\S+|[a-z]:\\\S+", re.IGNORECASE
)
_ENDING: Final = re.compile(rf"\.(?:{FILE_ENDINGS})(?:[?#]\S*)?", re.IGNORECASE)
_NAME: Final = re.compile(r"[\w./\\~%@+=-]+", re.ASCII)


def read_address(text: str) -> str | None:
    """Return an address that can be fetched in its normal form; None if the text is not one.

    That is an http or https address, or a ``data:`` URI. An address among other words does not
    count.
    """
    if is_data_uri(text):
        return storable_uri(text)
    bare = text.strip(BLANKS)
    if not _HTTP.match(bare) or not _is_one(bare):
        return None
    try:
        return normalized(bare)
    except UnsafeAddress:
        return None


def strange_address(text: str) -> str | None:
    """Describe an address that cannot be fetched; None if the text is not one."""
    bare = text.strip(BLANKS)
    if not _is_one(bare):
        return None
    if is_cut_data_uri(bare):
        return "a data: URI without data"
    if match := _STRANGE.match(bare):
        scheme = match["scheme"] or match["local"]
        if scheme is None:
            return "an address without a scheme"
        if scheme.lower() in {"http", "https"}:
            return "an address that cannot be read"
        return f"a {scheme.lower()[:20]}: address"
    return None


def is_path(text: str) -> bool:
    """Whether the whole text is a file's path: absolute, relative, or a name alone."""
    bare = text.strip(BLANKS)
    if len(bare) > MAX_CHARS:
        return False
    named = _NAME.fullmatch(bare) is not None and _ends_as_file(bare)
    return named or _PATH.fullmatch(bare) is not None


def _ends_as_file(text: str) -> bool:
    return any(match.end() == len(text) for match in _ENDING.finditer(text))


def _is_one(text: str) -> bool:
    """Whether a text can be one address, with blanks only in a file's name.

    A sentence that begins with an address has blanks, too. So an address with blanks counts only
    if its last part ends like a file's name, and no earlier part does.
    """
    if len(text) > MAX_CHARS:
        return False
    parts = text.split()
    if len(parts) < 2:
        return bool(parts)
    begun = "/" in re.sub(r"^[a-z][a-z0-9+.-]*:[/\\]*", "", parts[0], flags=re.IGNORECASE)
    return (
        begun
        and _ends_as_file(parts[-1])
        and not any("://" in part or _ends_as_file(part) for part in parts[1:-1])
        and "://" not in parts[-1]
        and not _ends_as_file(parts[0])
    )


MAX_FILES: Final = 256  # per prediction; further addresses stay in the document


class OutputUnreadable(ValueError):
    """The output is nested too deeply to be stored."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of an output that is neither a list nor an object."""

    value: Any
    listed: bool  # whether it is an item of a list, not a member of an object
    put: Callable[[Any], None]  # replaces it in its container

    @property
    def hollow(self) -> bool:
        """Whether it is empty, such as the one in ``{"file": None}``."""
        return self.value is None or self.value == ""


def read_outputs(output: Any) -> tuple[Output, ...]:
    """Return the files of an output in their order in the output.

    An output without any file is kept as JSON, unless it is empty. The time is proportional to the
    size.

    Raises:
        OutputUnreadable: It cannot be stored.
    """
    if isinstance(output, str | LongText):
        return (_one(output),) if output else ()
    if _is_text(output):
        whole = joined(output)
        return (_text(whole),) if whole else ()
    holder = [output]
    leaves = [leaf for leaf in _leaves(holder) if not leaf.hollow]
    places = _files(leaves)[:MAX_FILES]
    files = tuple(Output(uri=uri) for _, uri in places)
    if len(files) == len(leaves):
        return files
    try:
        return (*files, _text(_document(holder, leaves, [leaf for leaf, _ in places])))
    except RecursionError as error:
        if files:
            return files
        raise OutputUnreadable("the output is nested too deeply") from error


def _document(holder: list[Any], leaves: list[Leaf], files: list[Leaf]) -> str | LongText:
    """Return the output as JSON, with numbers in place of files."""
    long = {secrets.token_hex(16): leaf for leaf in leaves if isinstance(leaf.value, LongText)}
    for name, leaf in long.items():
        leaf.put(name)
    for number, leaf in enumerate(files):
        leaf.put({"output": number})
    try:
        parts = tuple(json.JSONEncoder(ensure_ascii=False).iterencode(holder[0]))
        return joined(_with_long(parts, {name: leaf.value for name, leaf in long.items()}))
    finally:
        for leaf in (*long.values(), *files):
            leaf.put(leaf.value)


def _with_long(parts: Iterable[str], long: Mapping[str, LongText]) -> Iterator[str | LongText]:
    """Replace the placeholder of each long text by the text."""
    for part in parts:
        text = long.get(part[-33:-1])  # a part ends with its value
        if text is None:
            yield part
        else:
            yield part[:-33]
            escaped = partial(_escaped, text)
            yield LongText(escaped, sum(map(len, escaped())))
            yield '"'


def _escaped(text: LongText) -> Iterator[str]:
    return (json.dumps(piece, ensure_ascii=False)[1:-1] for piece in text)


def makes_words(document: Any) -> bool:
    """Whether a model's OpenAPI document describes its output as text, not as files.

    A text is a string without a format, or a list of strings that are to be concatenated.
    """
    schemas: Any = document
    for name in ("components", "schemas"):
        schemas = schemas.get(name) if isinstance(schemas, dict) else None
    output = schemas.get("Output") if isinstance(schemas, dict) else None
    if isinstance(output, dict) and output.get("x-cog-array-display") == "concatenate":
        output = output.get("items")
    if not isinstance(output, dict):
        return False
    return output.get("type") == "string" and "format" not in output


def _files(leaves: list[Leaf]) -> list[tuple[Leaf, str | LongText]]:
    """Return the files among the leaves, with their addresses.

    If no address can be fetched, the ones that cannot, or paths, count as files.
    """
    readable = [(leaf, _address(leaf.value, listed=leaf.listed)) for leaf in leaves]
    files = [(leaf, uri) for leaf, uri in readable if uri is not None]
    if not files:
        others = [leaf for leaf in leaves if _is_strange(leaf.value)]
        paths = leaves if all(_is_path(leaf.value) for leaf in leaves) else []
        files = [(leaf, leaf.value) for leaf in others or paths]
    return files


def _address(value: Any, *, listed: bool) -> str | LongText | None:
    if isinstance(value, LongText):
        return value if is_data_uri(value.head) else None
    if not isinstance(value, str):
        return None
    address = read_address(value)
    return value if address is None and listed and _is_strange(value) else address


def _is_strange(value: Any) -> bool:
    return isinstance(value, str) and not UNSTORABLE.search(value) and bool(strange_address(value))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and is_path(value)


def _one(text: str | LongText) -> Output:
    """Return an output that is a single string, as a file or a text."""
    if isinstance(text, LongText):
        return Output(uri=text) if is_data_uri(text.head) else Output(text=text)
    address = read_address(text)
    if address is None and (_is_strange(text) or _is_path(text)):
        address = text
    return _text(text) if address is None else Output(uri=address)


def _is_text(output: Any) -> bool:
    """Whether an output is a text in parts: no part is a file, or a part starts or ends with blanks."""
    if not isinstance(output, list) or not all(
        isinstance(part, str | LongText) for part in output
    ):
        return False
    if not any(map(_names_file, output)):
        return not all(map(_is_path, output))
    words = [part for part in output if not _names_file(part)]
    return any(_has_blank_end(part) for part in words)


def _has_blank_end(part: str | LongText) -> bool:
    first, last = head_of(part), part if isinstance(part, str) else deque(part, maxlen=1)[0]
    return first[:1].isspace() or last[-1:].isspace()


def _names_file(part: str | LongText) -> bool:
    if isinstance(part, LongText):
        return is_data_uri(part.head)
    return read_address(part) is not None or _is_strange(part)


def _leaves(holder: list[Any]) -> Iterator[Leaf]:
    """Walk through an output without recursion, as it may be nested deeply."""
    ahead = [Leaf(holder[0], listed=False, put=_putter(holder, 0))]
    while ahead:
        leaf = ahead.pop()
        inner = leaf.value
        if isinstance(inner, dict):
            ahead.extend(
                Leaf(value, listed=False, put=_putter(inner, name))
                for name, value in reversed(inner.items())
            )
        elif isinstance(inner, list):
            ahead.extend(
                Leaf(inner[at], listed=True, put=_putter(inner, at))
                for at in reversed(range(len(inner)))
            )
        else:
            yield leaf


def _putter(container: Any, place: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        container[place] = value

    return put


def _text(text: str | LongText) -> Output:
    if isinstance(text, LongText) or not UNSTORABLE.search(text):
        return Output(text=text)
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return Output(uri=f"data:text/plain;base64,{encoded}")
