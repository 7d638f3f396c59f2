"""What a text names: a file that can be fetched, an address of another kind, or nothing.

Addresses are read as browsers read them, by the URL standard (https://url.spec.whatwg.org), and
written anew: whatever is vetted and fetched later is the one text that comes out of here.
"""

import re
from typing import Final

from fleek.outbound.addresses import BLANKS, UnsafeAddress, normalized
from fleek.providers.data_uri import is_cut_data_uri, is_data_uri, storable_uri

MAX_CHARS: Final = 65_536  # what is longer is no address
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
    """Return the one spelling of an address that can be fetched; None if the text is none.

    It is an http or https address, or a ``data:`` URI. Words that hold an address beside other
    words are none.
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
    """Return what kind of address a text is that cannot be fetched; None if it is none."""
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
    """Whether a text is a file's path, and nothing else: absolute, relative, or a bare name."""
    bare = text.strip(BLANKS)
    if len(bare) > MAX_CHARS:
        return False
    named = _NAME.fullmatch(bare) is not None and _ends_as_file(bare)
    return named or _PATH.fullmatch(bare) is not None


def _ends_as_file(text: str) -> bool:
    return any(match.end() == len(text) for match in _ENDING.finditer(text))


def _is_one(text: str) -> bool:
    """Whether this can be one address: blanks in it are those of a file's name.

    Words that begin with an address have blanks too, so an address with blanks counts only if
    it ends like a file, and nothing before its last part does.
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
