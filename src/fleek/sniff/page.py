"""Detection of error pages and messages that hosts send instead of a file, often with status 200.

The rules, in this order:

1. Where a media file is expected, by the ending of the address or by the announced type, readable
text is not a file.
2. HTML is a file only if the address ends in ``.html`` and its title does not name an error.
3. XML and JSON are files unless they contain only an error.
4. Text is a file unless it is short and begins like an error message.

A file that is refused wrongly is fetched again and then fails visibly; an error page is never stored.
"""

import json
import re
from io import BytesIO
from typing import Final

from fleek.sniff.kind import CONTROL, HTML, JSON, SVG, TEXT, UNKNOWN, XML, kind_of

MEDIA: Final = re.compile(
    r"3gp|aac|aif|aiff|apng|avi|avif|bmp|exr|flac|gif|glb|gz|heic|heif|ico|jpeg|jpg|"
    r"jxl|m4a|m4v|mid|mkv|mov|mp3|mp4|mpeg|mpg|npy|npz|oga|ogg|ogv|opus|pdf|png|psd|svg|"
    r"safetensors|tar|tgz|tif|tiff|usdz|wav|webm|webp|wma|zip"
)
WRITTEN: Final = re.compile(
    r"ass|csv|gltf|jsonl|json|lrc|md|obj|ply|srt|stl|tex|toml|tsv|txt|vtt|xml|yaml|"
    r"yml"
)
PAGES: Final = re.compile(r"x?html?")
SHORT: Final = 600  # characters; error messages are not longer

_WORDS: Final = frozenset({UNKNOWN, TEXT, JSON, HTML, XML, SVG})
_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_SKIPPED: Final = re.compile(r"\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*", re.DOTALL | re.IGNORECASE)
_SVG: Final = re.compile(r"(?:<!doctype svg[^>]*>\s*)?<(?:\w+:)?svg[\s/>]", re.IGNORECASE)
_DOCUMENT: Final = re.compile(
    r"<(?:!doctype\s+html|(?:html|head|body|title|meta)[\s/>]|\?php)", re.IGNORECASE
)
_ERROR_XML: Final = re.compile(
    r"<(?:[\w-]+:)?(?:Error|ErrorResponse|Errors|Fault|Exception|Envelope)[\s/>]", re.IGNORECASE
)
_FAILURE: Final = (
    r"(?:(?:http(?:/[\d.]+)?|error|status)?[\s:]*\b[45]\d\d\b"
    r"|(?:page |file |object |key |resource |bucket |blob )?(?:is |was )?not found|nosuchkey"
    r"|no such (?:key|file|bucket|object)|access ?denied|forbidden|unauthori[sz]ed"
    r"|internal (?:server )?error|bad (?:gateway|request)|service (?:is )?(?:temporarily )?"
    r"unavailable|temporarily unavailable|gateway time-?out|too many requests|rate limit"
    r"|request (?:has )?(?:expired|timed out|time-?out)|(?:url|link|token) (?:has |is )?expired"
    r"|signature ?does ?not ?match|invalid (?:signature|token|url)|expired ?token"
    r"|upstream |no healthy upstream|default backend|just a moment|attention required"
    r"|are you (?:a )?human|captcha|checking your browser|(?:web ?site|site) (?:is )?blocked"
    r"|log ?in|sign ?in|maintenance|an error|error(?: code)?(?=\s*(?:[:!.]|$))|oops|something went wrong)"
)
_BEGINS_BADLY: Final = re.compile(
    rf"\W*(?:sorry\W+)?(?:the (?:requested )?)?(?:{_FAILURE})", re.IGNORECASE
)
_TITLE: Final = re.compile(r"<(title|h1)[^>]*+>\s*+([^<]{1,200}+)<", re.IGNORECASE)
_TITLED_BADLY: Final = re.compile(_FAILURE, re.IGNORECASE)
_ERROR_KEYS: Final = re.compile(
    r"error|errors|error_code|error_description|errorcode|errormessage|error_message|"
    r"detail|details|message|messages|msg|code|status|statuscode|status_code|"
    r"statustext|title|type|instance|reason|fault|exception|success|ok|timestamp|path|"
    r"requestid|request_id|traceid|trace_id|hostid|resource|name|id|ray_id|retryable|"
    r"retry_after|documentation_url"
)
_TELLING: Final = re.compile(
    r"error|errors|error_code|error_description|errorcode|errormessage|error_message|"
    r"detail|fault|exception"
)
_STATED: Final = frozenset({"code", "status", "statuscode", "status_code", "success", "ok"})


def is_words_in_place(head: bytes, *, path: str, announced: str = "", complete: bool) -> bool:
    """Whether a response is an error page or message instead of the file.

    Args:
        head: The first few thousand bytes.
        path: Of the address; its ending determines the expected kind.
        announced: The type that the host announced.
        complete: Whether `head` is the whole body.
    """
    kind = kind_of(head, BytesIO())
    text = _readable(head) if kind in _WORDS else None
    bare = "" if text is None else _SKIPPED.sub("", text.lstrip("\ufeff"), count=1)
    if not bare or _SVG.match(bare):
        return False
    if expects_media(path, announced):
        return True
    ending = _ending(path)
    named = WRITTEN.fullmatch(ending) or PAGES.fullmatch(ending)
    if bare.startswith("<"):
        return _is_wrong_markup(bare, ending, html=kind == HTML)
    if not named and announced.lower().startswith("text/html"):
        return True
    written = bare.startswith(("{", "["))
    return complete and (_is_error_document(bare) if written else _is_error_message(bare))


def expects_media(path: str, announced: str) -> bool:
    """Whether an image, audio, video, 3D model or another binary file is expected."""
    ending = _ending(path)
    if WRITTEN.fullmatch(ending) or PAGES.fullmatch(ending):
        return False
    kind = announced.strip().lower()
    return bool(MEDIA.fullmatch(ending)) or kind.startswith(("image/", "audio/", "video/"))


def _ending(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def _is_error_message(text: str) -> bool:
    return len(text) <= SHORT and _BEGINS_BADLY.match(text) is not None


def _readable(head: bytes) -> str | None:
    """Return the bytes as text, decoded from a detected encoding; None if they are not text."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return head[len(mark) :].decode(encoding, "replace")
    pairs = len(head) // 2
    if pairs >= 4:
        for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros = head[first::2].count(0)
            if zeros >= 0.9 * pairs and head[1 - first :: 2].count(0) == 0:
                return head.decode(encoding, "replace")
    return None if CONTROL.search(head) else head.decode("utf-8", "replace")


def _is_wrong_markup(text: str, ending: str, *, html: bool) -> bool:
    if _ERROR_XML.match(text):
        return True
    document = _DOCUMENT.match(text) is not None
    if PAGES.fullmatch(ending):
        return any(_TITLED_BADLY.match(match[2]) for match in _TITLE.finditer(text))
    return document or (html and WRITTEN.fullmatch(ending) is None)


def _is_error_document(text: str) -> bool:
    """Whether JSON contains only an error."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]
    if not isinstance(parsed, dict) or not all(map(_ERROR_KEYS.fullmatch, map(str.lower, parsed))):
        return False
    keys = {key.lower() for key in parsed}
    stated = "message" in keys or "title" in keys or "msg" in keys
    failed = any(value for key, value in parsed.items() if _TELLING.fullmatch(key.lower()))
    worded = any(
        isinstance(value, str) and _BEGINS_BADLY.match(value[:SHORT]) for value in parsed.values()
    )
    return failed or (stated and (bool(keys & _STATED) or worded))
