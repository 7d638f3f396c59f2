"""Detection of the type from the first bytes. The leading magic has precedence."""

import json
import re
import struct
from codecs import BOM_UTF8, getincrementaldecoder
from typing import BinaryIO, Final

HEAD_BYTES: Final = 64 * 1024
MAX_JSON_BYTES: Final = 4 * 1024 * 1024  # longer JSON counts as text

Kind = tuple[str, str]  # content type, extension

UNKNOWN: Final = ("application/octet-stream", "bin")
TEXT: Final = ("text/plain", "txt")
JSON: Final = ("application/json", "json")
HTML: Final = ("text/html", "html")
XML: Final = ("application/xml", "xml")
SVG: Final = ("image/svg+xml", "svg")
MP4: Final = ("video/mp4", "mp4")
MOV: Final = ("video/quicktime", "mov")

# The third byte of an MPEG frame with a valid bit rate and sampling rate.
RATES: Final = b"".join(rb"\x%x0-\x%xb" % (high, high) for high in range(1, 15))

MAGIC: Final[tuple[tuple[bytes, Kind], ...]] = (
    (rb"\x89PNG\r\n\x1a\n", ("image/png", "png")),
    (rb"\xff\xd8\xff", ("image/jpeg", "jpg")),
    (rb"RIFF....WEBP", ("image/webp", "webp")),
    (rb"GIF8[79]a", ("image/gif", "gif")),
    (rb"(RIFF|RF64)....WAVE", ("audio/wav", "wav")),
    (rb"ID3[\x02-\x04]", ("audio/mpeg", "mp3")),
    (rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][" + RATES + rb"]", ("audio/mpeg", "mp3")),
    (rb"\xff[\xf1\xf9]", ("audio/aac", "aac")),
    (rb"fLaC", ("audio/flac", "flac")),
    (rb"OggS.{24,40}\x80theora", ("video/ogg", "ogv")),
    (rb"OggS", ("audio/ogg", "ogg")),
    (rb"\x1aE\xdf\xa3.{0,48}webm", ("video/webm", "webm")),
    (rb"\x1aE\xdf\xa3", ("video/x-matroska", "mkv")),
    (rb"%PDF-", ("application/pdf", "pdf")),
    (rb"PK(\x03\x04|\x05\x06)", ("application/zip", "zip")),
    (rb"\x1f\x8b\x08", ("application/gzip", "gz")),
    (rb"glTF[\x01\x02]\x00\x00\x00", ("model/gltf-binary", "glb")),
    (rb"ply\r?\n(format|comment|obj_info) ", ("model/ply", "ply")),
    (rb"(\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n)", ("image/jxl", "jxl")),
    (rb".{257}ustar[\x00 ]", ("application/x-tar", "tar")),
    (rb"RIFF....AVI ", ("video/x-msvideo", "avi")),
    (rb"FORM....AIF[FC]", ("audio/aiff", "aiff")),
    (rb"MThd\x00\x00\x00\x06", ("audio/midi", "mid")),
    (rb"v/1\x01", ("image/x-exr", "exr")),
    (rb"8BPS\x00[\x01\x02]", ("image/vnd.adobe.photoshop", "psd")),
    (rb"\x93NUMPY", ("application/x-npy", "npy")),
    (rb"7z\xbc\xaf\x27\x1c", ("application/x-7z-compressed", "7z")),
    (rb"(II\*\x00|MM\x00\*)", ("image/tiff", "tif")),
    (rb"BM.{4}\x00{4}.{4}[\x0c-\x7c]\x00{3}", ("image/bmp", "bmp")),
)
PATTERNS: Final = tuple((re.compile(magic, re.DOTALL), kind) for magic, kind in MAGIC)

BRANDS: Final[dict[bytes, Kind]] = {  # in a file's first box, named "ftyp"
    b"avif": ("image/avif", "avif"),
    b"avis": ("image/avif", "avif"),
    b"heic": ("image/heic", "heic"),
    b"heix": ("image/heic", "heic"),
    b"M4A ": ("audio/mp4", "m4a"),
    b"M4B ": ("audio/mp4", "m4a"),
    b"qt  ": MOV,
}
PICTURES: Final = frozenset(
    {b"avif", b"avis", b"heic", b"heix"}
)  # at any position in the list of brands

TAGS: Final = re.compile(
    rb"(!doctype|/?(html|head|body|script|iframe|h1|div|font|table|a|style|title|b|br|p|img|link"
    rb"|meta|object|embed|form|input|base|frameset|video|audio|math)(?=[\s/>]|$))",
    re.IGNORECASE,
)
CONTROL: Final = re.compile(
    rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]"
)  # ESC is allowed: it colours some logs


def kind_of(head: bytes, file: BinaryIO) -> Kind:
    """Return the type of a file; `head` is its beginning, `file` is positioned after it."""
    for pattern, kind in PATTERNS:
        if pattern.match(head):
            return kind
    return _boxed(head) or _written(head, file)


def _boxed(head: bytes) -> Kind | None:
    """Return the type of a file made of ISO boxes."""
    if len(head) < 12 or head[0]:
        return None
    if head[4:8] == b"ftyp":
        size = min(struct.unpack(">I", head[:4])[0], 128)
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
        major = BRANDS.get(brands[0])
        return major or next((BRANDS[brand] for brand in brands if brand in PICTURES), MP4)
    return MOV if head[4:8] in {b"moov", b"wide", b"mdat"} else None


def _written(head: bytes, file: BinaryIO) -> Kind:
    """Return the type of a file that may be text."""
    rest = file.read(1)
    if not head or CONTROL.search(head):
        return UNKNOWN
    try:
        getincrementaldecoder("utf-8")().decode(head, final=not rest)
    except UnicodeDecodeError:
        return UNKNOWN
    text = head.removeprefix(BOM_UTF8).lstrip()
    if text.startswith(b"<"):
        return _marked_up(text) or TEXT
    if text.startswith((b"{", b"[")):
        return _json(head + rest + file.read(MAX_JSON_BYTES - len(head))) or TEXT
    return TEXT


def _marked_up(text: bytes) -> Kind | None:
    """Return the type that a browser might assume for text that begins with "<"; None if none."""
    declared: Kind | None = None
    for _ in range(16):  # comments and declarations; an image has no more of them
        if not text.startswith((b"<!", b"<?")):
            break
        if TAGS.match(text, 1) and not text[9:].lstrip().lower().startswith(b"svg"):
            return HTML
        declared = declared or (XML if text.startswith(b"<?xml") else HTML)
        end = b"-->" if text.startswith(b"<!--") else b">"
        text = text.partition(end)[2].lstrip()
    if re.match(rb"<([a-z]+:)?svg(?=[\s/>]|$)", text, re.IGNORECASE):
        return SVG
    return HTML if TAGS.match(text, 1) else declared


def _json(content: bytes) -> Kind | None:
    if len(content) > MAX_JSON_BYTES:
        return None
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return None
    return JSON
