"""Media inputs: values among a job's parameters that name a file instead of holding a value."""

import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from fleek.domain.values import dataclass

_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
UPLOAD: Final = re.compile(rf"upload:({_UUID})")
JOB: Final = re.compile(rf"job:({_UUID})(?:/([0-9]{{1,4}}))?")
MALFORMED: Final = re.compile(r"\s*(upload|job):", re.IGNORECASE)
HTTPS: Final = re.compile(r"\s*https://", re.IGNORECASE)
DATA: Final = re.compile(r"\s*data:", re.IGNORECASE)

MAX_INPUTS: Final = 32  # of one job
MAX_DATA_BYTES: Final = 256 * 1024  # of one in a ``data:`` URI; larger ones are uploaded

_WORDS: Final = frozenset({"image", "images", "mask", "video", "videos", "audio"})
_NOT_FILES: Final = frozenset({"size", "format", "num", "strength", "length", "quality"})


class InputKind(StrEnum):
    """How a media input is named."""

    UPLOAD = "upload"
    JOB = "job"
    HTTPS = "https"
    DATA = "data"
    MALFORMED = "malformed"  # meant to name an upload or a job; refused at submission


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInput:
    """One media input of a job."""

    pointer: str  # JSON pointer into the parameters: "/image", "/images/0"
    kind: InputKind
    id: str | None = None  # of the upload or job
    index: int = 0  # of the job's output


def media_inputs(
    parameters: Mapping[str, Any], schema: Mapping[str, Any] | None
) -> tuple[MediaInput, ...]:
    """Return the media inputs among a job's parameters.

    A reference to an upload or a job is one anywhere. An address and a ``data:`` URI is one in a
    parameter that the schema says is a file (``format: uri``), or that has the name of one.
    """
    found: list[MediaInput] = []
    known = (schema or {}).get("properties")
    properties = known if isinstance(known, Mapping) else {}
    for name, value in parameters.items():
        if value is None or isinstance(value, int | float):  # most are: no text, so no file
            continue
        takes_files = _is_file(properties.get(name)) or is_media_name(name)
        for pointer, text in _texts(value, _pointer("", name)):
            named = _named(pointer, text, takes_files=takes_files)
            if named is not None:
                found.append(named)
    return tuple(found)


def is_media_name(name: str) -> bool:
    """Whether a parameter of this name takes a file, as far as its name says."""
    words = set(name.lower().split("_"))
    return not words.isdisjoint(_WORDS) and words.isdisjoint(_NOT_FILES)


def _is_file(schema: Any) -> bool:
    ahead, looked_at = [schema], 0
    while ahead and looked_at < 100:
        current, looked_at = ahead.pop(), looked_at + 1
        if isinstance(current, Mapping):
            if current.get("format") == "uri":
                return True
            ahead += [current.get("items"), *_branches(current)]
    return False


def _branches(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("anyOf", "allOf", "oneOf"):
        options = schema.get(keyword)
        yield from options if isinstance(options, list) else ()


def _named(pointer: str, text: str, *, takes_files: bool) -> MediaInput | None:
    if (found := UPLOAD.fullmatch(text)) is not None:
        return MediaInput(pointer=pointer, kind=InputKind.UPLOAD, id=found[1])
    if (found := JOB.fullmatch(text)) is not None:
        index = int(found[2] or 0)
        return MediaInput(pointer=pointer, kind=InputKind.JOB, id=found[1], index=index)
    if takes_files and HTTPS.match(text):
        return MediaInput(pointer=pointer, kind=InputKind.HTTPS)
    if takes_files and DATA.match(text):
        return MediaInput(pointer=pointer, kind=InputKind.DATA)
    if takes_files and MALFORMED.match(text):
        return MediaInput(pointer=pointer, kind=InputKind.MALFORMED)
    return None


def _texts(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, _pointer(pointer, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _texts(item, _pointer(pointer, str(number)))


def _pointer(above: str, name: str) -> str:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return f"{above}/{escaped}"


def texts_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return every text among the parameters by its pointer."""
    return dict(_texts(parameters, ""))


def with_values(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with other values at some pointers; the rest is shared."""
    replaced: dict[str, Any] = _replaced(parameters, "", values, frozenset(values))
    return replaced


def _replaced(value: Any, pointer: str, values: Mapping[str, Any], wanted: Collection[str]) -> Any:
    if isinstance(value, str):
        return values[pointer] if pointer in wanted else value
    if isinstance(value, Mapping):
        return {
            key: _replaced(item, _pointer(pointer, key), values, wanted)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            _replaced(item, _pointer(pointer, str(number)), values, wanted)
            for number, item in enumerate(value)
        ]
    return value
