"""Multipart forms, as uploads have them."""

import re
from typing import Final

BOUNDARY: Final = re.compile(r'boundary="?([^";]+)"?')
PARAMETER: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def multipart(content_type: str, body: bytes) -> dict[str, tuple[dict[str, str], bytes]]:
    """Parse a multipart form: field → (parameters of its headers, its bytes)."""
    boundary = BOUNDARY.search(content_type)
    if boundary is None:
        return {}
    parts = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:]:
        head, separator, content = piece.partition(b"\r\n\r\n")
        text = head.decode(errors="replace")
        attributes = dict(PARAMETER.findall(text))
        if separator and "name" in attributes:
            kind = re.search(r"(?im)^content-type:\s*(\S+)", text)
            attributes["content-type"] = kind[1] if kind else "application/octet-stream"
            parts[attributes["name"]] = (attributes, content)
    return parts
